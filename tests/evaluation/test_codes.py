"""What is evaluated of codes, what is watched of them in a training, and what is refused."""

import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from tests.models.test_vqvae import SHAPE, X, fit, make
from tests.small_models import make_vae

E = kv.evaluation


@pytest.fixture(scope="module")
def model():
    return make("hierarchy")


def test_usage_counts_codes(model):
    usage = E.code_usage(model, X, batch_size=5, verbose=False)
    for name, codes in model.split(model.codes(X)).items():
        size = len(usage.counts[name])
        counts = np.bincount(np.ravel(codes), minlength=size)
        np.testing.assert_array_equal(usage.counts[name], counts)
        p = counts[counts > 0] / counts.sum()
        assert usage.perplexity[name] == pytest.approx(np.exp(-np.sum(p * np.log(p))))
        assert usage.share_in_use[name] == np.mean(counts > 0)
        assert set(usage.dead[name]) == set(range(size)) - set(np.ravel(codes))


@pytest.mark.full
def test_one_draw_is_a_bound_whatever_the_number(model):
    tf.config.run_functions_eagerly(True)
    found = E.log_likelihood(model, X, num_samples=500, verbose=False)
    np.testing.assert_allclose(found.per_example, model.log_weights(X)[0], rtol=1e-5)
    assert found.is_bound and found.effective_sample_size == 1.0


@pytest.mark.parametrize(
    "evaluate",
    [
        lambda model: E.active_units(model, X),
        lambda model: E.marginal_kl(model, X),
        lambda model: E.mutual_information(model, X),
        lambda model: E.inference_gap(model, X, 4),
        lambda model: fit(model, callbacks=[kv.callbacks.LatentMonitor(X)]),
    ],
)
def test_what_has_no_meaning_for_codes_is_refused(model, evaluate):
    with pytest.raises(ValueError, match="`model` must have a posterior with noise: "):
        evaluate(model)


def test_usage_needs_codes():
    with pytest.raises(ValueError, match="`model` must be a VQVAE"):
        E.code_usage(make_vae(), X)


@pytest.mark.full
def test_the_report_says_what_there_is(model):
    found = E.report(model, X, num_samples=10, only=["ELBO", "log p(x)", "active units"])
    assert found.omitted["active units"] == "q(z|x) is a point mass"
    assert "a bound: q(z|x) is a point mass" in str(found)


def test_traversals_go_through_codes(model):
    figure = kv.plotting.latent_traversal(model, X[:1], dimensions=[0, 4], steps=3)
    assert (
        figure.get_axes()[0].get_title() == "one latent variable a row, one of its values a column"
    )


@pytest.mark.full
def test_the_served_model_knows_codes(model, tmp_path):
    path = kv.export_saved_model(model, tmp_path / "1")
    served = tf.saved_model.load(path).signatures
    codes = served["encode"](x=tf.constant(X))["codes"]
    np.testing.assert_array_equal(codes, model.codes(X))
    images = served["decode"](z=codes)["mean"]
    np.testing.assert_allclose(images, model.decode_codes(codes), rtol=1e-5)
    assert served["sample"](count=tf.constant(3), seed=tf.constant(1))["mean"].shape == (3, *SHAPE)


# In a training.


@pytest.mark.full
def test_the_monitor_counts_and_draws(tmp_path):
    model = make("hierarchy")
    table = tmp_path / "codes.csv"
    monitor = kv.callbacks.CodebookMonitor(X, csv=table, directory=tmp_path, num_examples=10)
    logs = fit(model, callbacks=[monitor])
    usage = E.code_usage(model, X[:10], verbose=False)
    for name, counts in usage.counts.items():
        np.testing.assert_array_equal(monitor.history[1].counts[name], counts)
        assert logs[f"code_perplexity_{name}"][-1] == usage.perplexity[name]
    assert logs["codes_in_use"][-1] == np.mean(list(usage.share_in_use.values()))
    rows = table.read_text().splitlines()
    assert rows[0] == "epoch,group,code,count" and len(rows) == 1 + 2 * (4 + 6)
    for name in ("codes", "histograms"):
        assert (tmp_path / name / "epoch_0002.png").is_file()


def test_the_monitor_needs_codes():
    with pytest.raises(ValueError, match="`model` must be a VQVAE"):
        fit(make_vae(), callbacks=[kv.callbacks.CodebookMonitor(X)], run_eagerly=True)


@pytest.mark.full
def test_a_collapse_is_found():
    head = kv.posteriors.VectorQuantizer((2, 2), 64, 3, restart_below=0.0)
    model = make(head)
    far = head.codebook.embeddings.numpy() + 50.0
    far[0] = 0.0
    head.codebook.set_vectors(far)
    check = kv.callbacks.HealthCheck(X, grace=0)
    with pytest.warns(kv.callbacks.HealthWarning, match=r"codebook collapse .* \(1 of 64 of z\)"):
        fit(model, callbacks=[check])
    assert "codebook collapse" in [finding.symptom for finding in check.findings]


@pytest.mark.full
def test_used_codes_are_no_collapse():
    model = make("ema")
    model.initialize_codebook(X)
    check = kv.callbacks.HealthCheck(X, grace=0)
    fit(model, callbacks=[check])
    assert "codebook collapse" not in [finding.symptom for finding in check.findings]
