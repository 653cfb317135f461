"""The norms of gradients in the logs are those of a tape, in every way of training."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv

SIZE, SHAPE, BATCH = 24, (4, 3), 8


@pytest.fixture
def x():
    # Keras feeds arrays as float32: these lose nothing by it.
    return np.random.default_rng(0).normal(size=(SIZE, *SHAPE)).astype("f4").astype("f8")


class Exact(kv.VAE):
    """A VAE without noise: one z, the mean of q(z|x)."""

    def compute_terms(self, x, num_samples=1, training=False, seed=0, y=None):
        terms = super().compute_terms(x, num_samples, training, seed, y)
        z = terms.draws.q.mean()[None]
        return terms._replace(log_p_x=self._likelihood(z, None, training).log_prob(x))


def make(x=None, dtype="float64", **changes):
    keras.utils.set_random_seed(0)
    kwargs = {"dtype": dtype} if dtype == "float64" else {}
    parts = {
        "encoder": kv.networks.MLPEncoder((6,), **kwargs),
        "decoder": kv.networks.MLPDecoder(SHAPE, (6,), **kwargs),
        "posterior": kv.posteriors.DiagonalNormal(2, **kwargs),
        "likelihood": kv.likelihoods.Normal(SHAPE, **kwargs),
    }
    return Exact(**{**parts, **changes})


def fit(model, x, optimizer, monitor=True, epochs=2, **options):
    with model.distribute_strategy.scope():
        model.compile(optimizer, **(options or {"run_eagerly": True}))
    callbacks = [kv.callbacks.GradientMonitor()] if monitor else []
    return model.fit(
        x, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks
    ).history


def gradients(model, batch):
    """Return the gradient of the mean loss, as a tape gives it."""
    with tf.GradientTape() as tape:
        terms = model.compute_terms(tf.constant(batch), 1, True)
        loss = tf.reduce_mean(model.objective.loss(terms))
    taped = tape.gradient(loss, model.trainable_variables)
    return [tf.convert_to_tensor(g).numpy() for g in taped]


def norm(arrays):
    return np.sqrt(sum(np.sum(np.square(array)) for array in arrays))


def by_hand(model, x, rate=0.0625, epochs=2):
    """Return what the logs must hold for plain gradient descent."""
    logs = []
    for _ in range(epochs):
        steps = []
        for start in range(0, SIZE, BATCH):
            found = gradients(model, x[start : start + BATCH])
            own = {id(v): g for v, g in zip(model.trainable_variables, found, strict=True)}
            parts = [[own[id(v)] for v in vs] for vs in model.trainable_parts.values() if vs]
            steps.append([norm(found), *map(norm, parts)])
            for variable, gradient in zip(model.trainable_variables, found, strict=True):
                variable.assign(variable - rate * gradient)
        steps = np.array(steps)
        logs.append([steps[:, 0].mean(), steps[:, 0].max(), *steps[:, 1:].mean(axis=0)])
    return np.array(logs).T


NAMES = ["norm", "norm_max", "norm_encoder", "norm_decoder"]


def test_norms_are_those_of_a_tape(x):
    expected = by_hand(make(), x)
    history = fit(make(), x, keras.optimizers.SGD(0.0625))
    found = np.array([history[f"gradient_{name}"] for name in NAMES])
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert "gradient_clipped" not in history and "gradient_norm_prior" not in history


@pytest.mark.full
def test_so_they_are_in_xla_where_the_training_is_the_same_to_the_bit(x):
    expected, weights, histories = by_hand(make(), x), [], []
    for monitor in (False, True):
        model = make()
        # Whose norm is computed twice, and which clips nothing.
        optimizer = keras.optimizers.SGD(0.0625, global_clipnorm=1e3)
        options = {"jit_compile": True, "steps_per_execution": 2}
        histories.append(fit(model, x, optimizer, monitor, **options))
        weights.append(model.get_weights())
    found = np.array([histories[1][f"gradient_{name}"] for name in NAMES])
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    for one, two in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, two)
    assert histories[0]["loss"] == histories[1]["loss"]


@pytest.mark.full
def test_the_factor_of_loss_scaling_is_divided_out(x):
    expected = by_hand(make(), x, epochs=1)[0]
    history = fit(make(), x, keras.optimizers.SGD(0.0625, loss_scale_factor=128.0), epochs=1)
    np.testing.assert_allclose(history["gradient_norm"], expected, rtol=1e-9)


@pytest.mark.full
def test_steps_that_overflow_under_loss_scaling_do_not_count(x):
    # In float32: 2^127 times these gradients overflows, and each overflow halves the factor.
    inner = keras.optimizers.SGD(0.0)
    scaled = keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0**127)
    model, x = make(dtype="float32"), 8.0 * x.astype("f4")
    expected = [norm(gradients(model, x[i : i + BATCH])) for i in range(0, SIZE, BATCH)]
    history = fit(model, x, scaled, epochs=6)
    assert 0 < int(inner.iterations.numpy()) < 6 * 3, "none overflowed, or all did"
    assert np.isnan(history["gradient_norm"][0]), "an epoch without a step has no norm"
    np.testing.assert_allclose(history["gradient_norm"][-1], np.mean(expected), rtol=1e-4)


@pytest.mark.full
def test_accumulated_gradients_are_measured_when_they_are_applied(x):
    # Three batches to a step, at a standstill: the mean gradient is that of all the data.
    whole = norm(gradients(make(), x))
    each = np.mean([norm(gradients(make(), x[i : i + BATCH])) for i in range(0, SIZE, BATCH)])
    optimizer = keras.optimizers.SGD(0.0, gradient_accumulation_steps=3, global_clipnorm=whole + 1)
    assert abs(whole - each) > 1e-3
    history = fit(make(), x, optimizer, epochs=1)
    np.testing.assert_allclose(history["gradient_norm"], [whole], rtol=1e-9)
    assert history["gradient_clipped"] == [0.0]


@pytest.mark.first_is_quick
@pytest.mark.parametrize("kind", ["global_clipnorm", "clipnorm", "clipvalue"])
def test_the_clipped_fraction_is_that_of_the_optimizers_setting(x, kind):
    model = make()
    found = [gradients(model, x[i : i + BATCH]) for i in range(0, SIZE, BATCH)]
    units = {
        "global_clipnorm": [[norm(step)] for step in found],
        "clipnorm": [[norm([gradient]) for gradient in step] for step in found],
        "clipvalue": [np.concatenate([np.abs(g).ravel() for g in step]) for step in found],
    }[kind]
    limit = float(np.median(np.concatenate(units))) * (1.0 + 1e-6)
    expected = np.mean([np.mean(np.asarray(step) > limit) for step in units])
    assert 0.0 < expected < 1.0
    history = fit(model, x, keras.optimizers.SGD(0.0, **{kind: limit}), epochs=1)
    np.testing.assert_allclose(history["gradient_clipped"], [expected], rtol=1e-6)


@pytest.mark.full
def test_two_replicas_equal_one_device(x, replicas):
    expected = by_hand(make(), x)
    with replicas.scope():
        model = make()
    history = fit(model, x, keras.optimizers.SGD(0.0625), jit_compile=False)
    found = np.array([history[f"gradient_{name}"] for name in NAMES])
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.full
def test_rows_of_an_embedding_that_occur_twice_add_up():
    # Its gradient comes in slices, one for each use.
    x = np.random.default_rng(1).integers(0, 3, (SIZE, 5)).astype("float64")
    encoder = keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Embedding(3, 4, dtype="float64"),
            keras.layers.Flatten(dtype="float64"),
        ]
    )
    decoder = kv.networks.MLPDecoder((5,), (6,), dtype="float64")
    likelihood = kv.likelihoods.Normal((5,), dtype="float64")
    model = make(encoder=encoder, decoder=decoder, likelihood=likelihood)
    expected = np.mean([norm(gradients(model, x[i : i + BATCH])) for i in range(0, SIZE, BATCH)])
    history = fit(model, x, keras.optimizers.SGD(0.0), epochs=1)
    np.testing.assert_allclose(history["gradient_norm"], [expected], rtol=1e-9)


def test_a_frozen_part_has_no_norm(x):
    model = make()
    model.decoder.trainable = False
    history = fit(model, x, keras.optimizers.SGD(0.0625), epochs=1)
    assert not [name for name in history if "decoder" in name]
    assert history["gradient_norm"][0] > 0.0


@pytest.mark.full
def test_a_second_fit_begins_anew_and_traces_nothing(x):
    model, monitor = make(), kv.callbacks.GradientMonitor()
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    x, options = x[:BATCH], {"batch_size": BATCH, "verbose": 0, "callbacks": [monitor]}
    first = model.fit(x, **options).history["gradient_norm"]
    function = model.train_function
    assert model.fit(x, **options).history["gradient_norm"] == first
    assert model.train_function is function
    assert model.hooks == {}


@pytest.mark.full
def test_callbacks_after_it_and_tensorboard_have_the_numbers(tmp_path, x):
    model = make()
    model.compile(keras.optimizers.SGD(0.0625, global_clipnorm=1.0), run_eagerly=True)
    table = tmp_path / "table.csv"
    callbacks = [
        kv.callbacks.GradientMonitor(log_dir=tmp_path / "logs"),
        keras.callbacks.CSVLogger(table),
    ]
    model.fit(x[:BATCH], batch_size=BATCH, verbose=0, callbacks=callbacks)
    header = table.read_text().partition("\n")[0]
    assert {"gradient_norm", "gradient_clipped"} <= set(header.split(","))
    (events,) = (tmp_path / "logs").iterdir()
    tags = {
        value.tag
        for event in tf.compat.v1.train.summary_iterator(str(events))
        for value in event.summary.value
    }
    assert {"gradient/norm", "gradient/norm_max", "gradient/clipped"} <= tags


@pytest.mark.full
def test_a_model_that_is_all_frozen_has_no_gradient(x):
    model = make()
    model.build(x.shape)
    model.trainable = False
    assert fit(model, x[:BATCH], keras.optimizers.SGD(), epochs=1)["gradient_norm"] == [0.0]


def test_another_kind_of_model_is_refused():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    monitor = kv.callbacks.GradientMonitor()
    with pytest.raises(ValueError, match="`model` must be a LatentVariableModel"):
        model.fit(np.zeros([4, 2]), np.zeros([4, 2]), verbose=0, callbacks=[monitor])
