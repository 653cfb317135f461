"""The gaps between log p(x) and the ELBO, against the exact ones of a linear-Gaussian VAE."""

import sys

import numpy as np
import pytest

import keras_vae as kv

# Far from the start, 20 to 40 nats below the optimum.
THOROUGH = {"steps": 300, "learning_rate": 0.2, "num_samples": 1000}


def wrong_case(cases, head=kv.posteriors.DiagonalNormal, count=8):
    """Return a case with the true decoder, and an encoder that knows nothing of it."""
    truth = cases.truth()
    return cases.with_decoder(truth, truth.sample(count), head(2))


@pytest.mark.full
def test_both_gaps_of_a_diagonal_posterior_are_exact(cases):
    case = wrong_case(cases)
    result = kv.evaluation.inference_gap(case.model, case.x, **THOROUGH)
    evidence = case.truth.log_evidence(case.x)
    # The steps' own noise costs 0.01 nats. Weights have long tails, as q* is narrower than p(z|x):
    # of single examples with other noise, errors of 0.13 were seen.
    np.testing.assert_allclose(result.log_likelihood.per_example, evidence, atol=0.3)
    np.testing.assert_allclose(result.log_likelihood.mean, evidence.mean(), atol=0.05)
    np.testing.assert_allclose(result.approximation.mean, case.truth.mean_field_gap(), atol=0.05)
    before = case.truth.elbo(case.x, case.q())
    inference = evidence - before
    # The ELBO of the wrong q has noise of its own.
    np.testing.assert_allclose(result.inference.per_example, inference, rtol=0.2)
    np.testing.assert_allclose(result.inference.mean, inference.mean(), rtol=0.05)
    amortization = inference - case.truth.mean_field_gap()
    np.testing.assert_allclose(result.amortization.mean, amortization.mean(), rtol=0.05)


def test_the_exact_posterior_has_no_gap(cases):
    truth = cases.truth()
    case = cases.exact(truth, truth.sample(5), kv.posteriors.FullCovarianceNormal(2))
    result = kv.evaluation.inference_gap(case.model, case.x, steps=1, num_samples=10)
    for gap in (result.amortization, result.approximation, result.inference):
        np.testing.assert_allclose(gap.per_example, 0.0, atol=1e-9)
    np.testing.assert_allclose(
        result.log_likelihood.per_example, truth.log_evidence(case.x), rtol=1e-6
    )
    np.testing.assert_allclose(result.effective_sample_size, 10.0, rtol=1e-6)


@pytest.mark.full
def test_chunks_have_noise_of_their_own_and_the_parts_add_up(cases, monkeypatch):
    case = wrong_case(cases, count=3)
    found = []

    def recorded(*args, **options):
        found.append(log_weights(*args, **options))
        return found[-1]

    module = sys.modules["keras_vae.evaluation.inference_gap"]
    log_weights = module._log_weights
    monkeypatch.setattr(module, "_log_weights", recorded)
    monkeypatch.setattr(module, "chunk_of", lambda *_: 3)
    result, other = (
        kv.evaluation.inference_gap(case.model, case.x, steps=2, num_samples=8, seed=seed)
        for seed in (1, 2)
    )
    assert found[0].shape == (8, 3) and len(np.unique(found[0])) == 24
    added = result.amortization.per_example + result.approximation.per_example
    np.testing.assert_allclose(result.inference.per_example, added, rtol=1e-12)
    assert np.all(result.approximation.per_example >= 0.0)
    assert 1.0 <= result.effective_sample_size <= 8.0
    assert result.inference.per_example.dtype == np.float64
    # The seed decides all of them.
    assert not np.any(result.amortization.per_example == other.amortization.per_example)
    assert not np.any(result.approximation.per_example == other.approximation.per_example)
