"""Long evaluations of a single batch show how far they are."""

import numpy as np
import pytest

import keras_vae as kv

IMAGE = (4, 4, 1)


@pytest.fixture
def model():
    return kv.VAE(
        encoder=kv.networks.MLPEncoder((4,)),
        decoder=kv.networks.MLPDecoder(IMAGE),
        posterior=kv.posteriors.DiagonalNormal(2),
        likelihood=kv.likelihoods.Bernoulli(IMAGE),
    )


@pytest.fixture
def x():
    return np.random.default_rng(0).integers(0, 2, (3, *IMAGE)).astype("float32")


EVALUATIONS = {
    # Chains move 5 times between 6 distributions, after as many moves that adapt their steps.
    "annealed_importance_sampling": (lambda e, m, x, **k: e(m, x, 6, 2, **k), "10/10"),
    # And back.
    "bidirectional_check": (lambda e, m, x, **k: e(m, 3, 6, 2, **k), "15/15"),
    # Four steps of `fit_posterior`, and two ELBOs by 256 samples, 8 at once.
    "inference_gap": (lambda e, m, x, **k: e(m, x, steps=4, num_samples=4, **k), "68/68"),
}


@pytest.mark.first_is_quick
@pytest.mark.parametrize("name", EVALUATIONS)
def test_a_single_batch_shows_progress(model, x, monkeypatch, capsys, name):
    evaluate, counted = EVALUATIONS[name]
    function = getattr(kv.evaluation, name)
    monkeypatch.setattr(kv.core.progress, "_PATIENCE", 0.0)
    shown = evaluate(function, model, x)
    assert counted in capsys.readouterr().out
    silent = evaluate(function, model, x, verbose=False)
    assert capsys.readouterr().out == ""
    assert str(shown) == str(silent)
