"""The monitor of the latent dimensions measures what NumPy does, and leaves files that last."""

from __future__ import annotations

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.evaluation.latent_statistics import LatentReader

LATENT = 2


def _rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.full
def test_a_linear_model_has_the_moments_of_its_weights(fit):
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    likelihood = kv.likelihoods.Normal((3,), scale=1.0)
    model = kv.VAE(
        encoder=keras.layers.Identity(),
        decoder=keras.layers.Dense(3),
        posterior=kv.posteriors.DiagonalNormal(LATENT),
        likelihood=likelihood,
    )
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    x = np.random.default_rng(0).normal(1.0, 2.0, (50, 3))
    # The second dimension has nothing of x, and the scale neither.
    kernel = np.array([[0.5, 0.0], [-1.0, 0.0], [0.25, 0.0]])
    model.posterior_head.loc.kernel.assign(kernel)
    model.posterior_head.raw_scale.kernel.assign(np.zeros([3, LATENT]))
    model.posterior_head.raw_scale.bias.assign([-1.0, 0.25])
    scale = model.encode(x[:1]).stddev().numpy()[0]
    monitor = kv.callbacks.LatentMonitor(x, num_examples=None, batch_size=16)
    history = fit(model, [monitor], data=x[:28])

    means = x @ kernel
    kl = 0.5 * (means**2 + scale**2 - 1.0) - np.log(scale)
    found = monitor.history[0]
    np.testing.assert_allclose(found.kl, kl.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.mean, means.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.variance, scale**2 + means.var(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.active_units.variances, means.var(axis=0), rtol=1e-6)
    assert history["active_units"] == [1]
    assert history["latent_kl"] == pytest.approx([kl.mean(axis=0).sum()], rel=1e-6)
    assert history["latent_kl_max"] == pytest.approx([kl.mean(axis=0).max()], rel=1e-6)


def test_active_units_are_those_of_the_evaluation(make_vae, fit, x):
    model = make_vae()
    monitor = kv.callbacks.LatentMonitor(x, threshold=1e-3, batch_size=8)
    fit(model, [monitor], epochs=2)
    expected = kv.evaluation.active_units(model, x, threshold=1e-3)
    assert monitor.history[1].active_units.count == expected.count
    np.testing.assert_allclose(
        monitor.history[1].active_units.variances, expected.variances, rtol=1e-4
    )


def test_a_posterior_that_does_not_factorize_has_one_kl(make_vae, fit, x, tmp_path):
    model = make_vae(posterior=kv.posteriors.FullCovarianceNormal(LATENT))
    path = tmp_path / "latent.csv"
    monitor = kv.callbacks.LatentMonitor(x, csv=path)
    history = fit(model, [monitor])
    kl = model.encode(x).kl_divergence(model.prior()).numpy().mean()
    np.testing.assert_allclose(monitor.history[0].kl, [kl], rtol=1e-5)
    assert history["latent_kl"] == history["latent_kl_max"] == [monitor.history[0].kl[0]]
    assert [row["kl"] for row in _rows(path)] == ["", ""]
    assert {float(row["kl_total"]) for row in _rows(path)} == {history["latent_kl"][0]}


@pytest.mark.full
def test_a_kl_without_closed_form_is_estimated_with_the_same_noise(make_vae, fit, x):
    model = make_vae(prior=kv.priors.MixtureOfNormals(LATENT, 3))
    model.optimizer.learning_rate = 0.0
    monitor = kv.callbacks.LatentMonitor(x)
    fit(model, [monitor], epochs=2)
    assert monitor.history[0].kl == monitor.history[1].kl
    q, samples = model.encode(x), 4000
    z = q.sample(samples, seed=[0, 1])
    log_ratios = (q.log_prob(z) - model.prior().log_prob(z)).numpy()  # [S, B]
    # 28 x 8 draws against 28 x 4000: beyond 4 standard errors with a probability of 6e-5.
    error = np.sqrt(log_ratios.var(axis=0).mean() / (len(x) * 8))
    assert abs(monitor.history[0].kl[0] - log_ratios.mean()) < 4.0 * error


def test_categorical_units_have_a_row_for_each_class(make_vae, fit, x, tmp_path):
    model = make_vae(
        posterior=kv.posteriors.Categorical(LATENT, 3, temperature=0.5),
        prior=kv.priors.Categorical(LATENT, 3),
    )
    monitor = kv.callbacks.LatentMonitor(x, csv=tmp_path / "latent.csv")
    fit(model, [monitor])
    found, probabilities = monitor.history[0], model.encode(x).mean().numpy()  # [B, D, K]
    np.testing.assert_allclose(found.mean, probabilities.mean(axis=0), rtol=1e-5)
    # A one-hot variable has the variance p (1 - p), whatever it depends on.
    aggregate = probabilities.mean(axis=0)
    np.testing.assert_allclose(found.variance, aggregate * (1.0 - aggregate), rtol=1e-4)
    assert found.kl.shape == (LATENT,)
    rows = _rows(tmp_path / "latent.csv")
    places = [(row["dimension"], row["class"]) for row in rows]
    assert places == [(str(d), str(k)) for d in range(LATENT) for k in range(3)]
    assert float(rows[4]["mean"]) == found.mean[1, 1]


@pytest.mark.full
def test_a_conditional_model_is_measured_with_its_labels(make_vae, fit, x):
    y = np.arange(len(x)) % 3
    model = make_vae(kv.ConditionalVAE, condition=3, prior=kv.priors.ConditionalNormal(LATENT))
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    pair, dataset = kv.callbacks.LatentMonitor((x, y)), kv.callbacks.LatentMonitor(data)
    fit(model, [pair, dataset], y=y)
    kl = kv.bounds.closed_form_kl(model.encode(x, y), model.prior(y)).numpy()
    for monitor in (pair, dataset):
        np.testing.assert_allclose(monitor.history[0].kl, kl.mean(axis=0), rtol=1e-4)


def test_callbacks_after_it_read_its_numbers(make_vae, fit, x, tmp_path):
    logger = keras.callbacks.CSVLogger(str(tmp_path / "logs.csv"))
    best = tmp_path / "best.weights.h5"
    checkpoint = keras.callbacks.ModelCheckpoint(
        str(best), monitor="active_units", mode="max", save_best_only=True, save_weights_only=True
    )
    monitor = kv.callbacks.LatentMonitor(x, every=2)
    history = fit(make_vae(), [monitor, logger, checkpoint], epochs=5)
    # The first, every second, the last; between them the last value.
    assert list(monitor.history) == [0, 1, 3, 4]
    total = [float(np.sum(monitor.history[epoch].kl)) for epoch in (0, 1, 1, 3, 4)]
    assert history["latent_kl"] == total
    assert [float(row["latent_kl"]) for row in _rows(tmp_path / "logs.csv")] == total
    assert best.is_file()


@pytest.mark.full
def test_the_last_epoch_is_measured_whoever_ends_the_training(make_vae, fit, x):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    for order in (slice(None), slice(None, None, -1)):
        monitor = kv.callbacks.LatentMonitor(x, every=100)
        fit(make_vae(), [monitor, Stop()][order], epochs=9)
        assert list(monitor.history) == [0, 1]


@pytest.mark.full
def test_the_table_has_what_was_measured_and_goes_on_after_a_resume(make_vae, fit, x, tmp_path):
    path = tmp_path / "new" / "latent.csv"
    model = make_vae()
    fit(model, [kv.callbacks.LatentMonitor(x, csv=path)], epochs=3)
    first = path.read_text().splitlines()
    # As if it had been killed in the third epoch, in the middle of a row.
    path.write_text("\n".join([*first[:6], first[6][:9]]))
    monitor = kv.callbacks.LatentMonitor(x, csv=path)
    # The second epoch is trained again, and takes the place of what it left before.
    fit(model, [monitor], epochs=4, initial_epoch=1)
    rows = _rows(path)
    assert [int(row["epoch"]) for row in rows] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert path.read_text().splitlines()[:3] == first[:3]
    found = monitor.history[3]
    for dimension, row in enumerate(rows[-2:]):
        assert int(row["dimension"]) == dimension
        assert float(row["kl"]) == found.kl[dimension]
        assert float(row["kl_total"]) == found.kl.sum()
        assert float(row["mean"]) == found.mean[dimension]
        assert float(row["variance"]) == found.variance[dimension]
        assert float(row["variance_of_means"]) == found.active_units.variances[dimension]
        assert bool(int(row["active"])) == (found.active_units.variances[dimension] > 0.01)


def test_a_table_whose_header_was_cut_is_begun_anew(make_vae, fit, x, tmp_path):
    path = tmp_path / "latent.csv"
    path.write_text("epoch,dimension,act")
    fit(make_vae(), [kv.callbacks.LatentMonitor(x, csv=path)])
    assert [row["epoch"] for row in _rows(path)] == ["0", "0"]


@pytest.mark.full
def test_a_second_training_begins_a_new_table_and_history(make_vae, fit, x, tmp_path):
    path = tmp_path / "latent.csv"
    model, monitor = make_vae(), kv.callbacks.LatentMonitor(x, csv=path)
    fit(model, [monitor], epochs=2)
    fit(model, [monitor], epochs=1)
    assert [row["epoch"] for row in _rows(path)] == ["0", "0"]
    assert list(monitor.history) == [0]


def test_a_table_of_somebody_else_is_left_as_it_is(make_vae, fit, x, tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("epoch,loss\n0,1.0\n")
    with pytest.raises(ValueError, match="`csv` must be a new file, or one with the columns"):
        fit(make_vae(), [kv.callbacks.LatentMonitor(x, csv=path)])
    assert path.read_text() == "epoch,loss\n0,1.0\n"


@pytest.mark.full
def test_one_trace_reads_the_data_once(make_vae, fit, x, monkeypatch):
    traces, reads = [], []
    moments = LatentReader._moments
    monkeypatch.setattr(LatentReader, "_moments", lambda *args: traces.append(1) or moments(*args))

    def read():
        reads.append(1)
        yield from (x[:8], x[8:16], x[16:19])

    spec = tf.TensorSpec([None, *x.shape[1:]])
    data = tf.data.Dataset.from_generator(read, output_signature=spec)
    model = make_vae()
    monitor = kv.callbacks.LatentMonitor(data)
    fit(model, [monitor], epochs=2)
    assert (len(traces), len(reads)) == (1, 2)
    fit(model, [monitor])
    assert (len(traces), len(reads)) == (1, 3)


def test_the_first_examples_count_alone(make_vae, fit, x):
    model = make_vae()
    endless = tf.data.Dataset.from_tensor_slices(x).batch(8).repeat()
    monitor = kv.callbacks.LatentMonitor(endless, num_examples=19)
    fit(model, [monitor])
    means = model.encode(x[:19]).mean().numpy()
    np.testing.assert_allclose(monitor.history[0].mean, means.mean(axis=0), rtol=1e-4)
    with pytest.raises(ValueError, match="`num_examples` must be given, as the data never end"):
        kv.callbacks.LatentMonitor(endless, num_examples=None)


@pytest.mark.full
def test_tensorboard_has_numbers_and_histograms(make_vae, fit, x, tmp_path, events):
    monitor = kv.callbacks.LatentMonitor(x, log_dir=tmp_path)
    # Its own record of every second step must not keep the monitor's from being written.
    board = keras.callbacks.TensorBoard(str(tmp_path / "keras"), update_freq=3)
    fit(make_vae(), [monitor, board], epochs=2)
    found = events(tmp_path)
    for epoch in (0, 1):
        units = monitor.history[epoch].active_units
        assert found["latent/active_units"][epoch] == units.count
        buckets = found["latent/variance_of_means"][epoch]  # [K, 3]: left, right, count
        assert buckets[:, 2].sum() == LATENT
        assert buckets[0, 0] == pytest.approx(units.variances.min())
        assert buckets[-1, 1] == pytest.approx(units.variances.max())
    histograms = {"latent/kl", "latent/mean", "latent/variance", "latent/variance_of_means"}
    numbers = {"latent/active_units", "latent/latent_kl", "latent/latent_kl_max"}
    assert found.keys() == histograms | numbers


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": -0.1}, "`threshold` must be a finite number >= 0"),
        ({"num_examples": 0}, "`num_examples` must be an integer >= 1"),
        ({"csv": 3}, "`csv` must be a path, or None"),
    ],
)
def test_bad_arguments_are_refused(x, change, message):
    with pytest.raises(ValueError, match=message):
        kv.callbacks.LatentMonitor(x, **change)


@pytest.mark.full
def test_groups_of_latent_variables_have_a_kl_each(make_vae, fit, x, tmp_path):
    dims = {"latent_dims": (3, 2), "hidden": (4,)}
    posterior, prior = kv.posteriors.Chain(**dims), kv.priors.Chain(**dims)
    model = make_vae(posterior=posterior, prior=prior)
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    path = tmp_path / "latents.csv"
    monitor = kv.callbacks.LatentMonitor(x, num_examples=None, csv=path)
    history = fit(model, [monitor])
    found = monitor.history[0]
    assert [(group.name, group.dimensions) for group in found.groups] == [("z1", 3), ("z2", 2)]
    active = found.active_units.variances > 0.01
    for group, mine, kl in zip(found.groups, (active[:3], active[3:]), found.kl, strict=True):
        assert group.active_units == mine.sum() == history[f"active_units_{group.name}"][0]
        assert group.kl == kl == history[f"latent_kl_{group.name}"][0]
    np.testing.assert_allclose(history["latent_kl"], [found.kl.sum()])
    # The mean over x of the KL of each group, from many draws.
    z = model.encode(x).sample(2000, seed=[0, 7])
    log_ratios = model.encode(x).log_prob_by_group(z) - model.prior().log_prob_by_group(z)
    error = np.std(np.mean(log_ratios, axis=1), axis=0) / np.sqrt(8)  # of the monitor's 8 draws
    assert np.all(np.abs(found.kl - np.mean(log_ratios, axis=(0, 1))) < 4.5 * error)
    rows = _rows(path)
    assert [row["group"] for row in rows] == ["z1"] * 3 + ["z2"] * 2
    assert {float(row["group_kl"]) for row in rows[:3]} == {found.groups[0].kl}
    assert {row["kl"] for row in rows} == {""}
