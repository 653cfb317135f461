"""How the steps are run: what `compile` chooses, and that it changes no numbers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.training import execution

SHAPE = (8, 8, 1)


def make(encoder=None, decoder=None, **changes):
    keras.utils.set_random_seed(0)
    return kv.VAE(
        encoder=encoder or kv.networks.MLPEncoder((8,)),
        decoder=decoder or kv.networks.MLPDecoder(SHAPE, (8,)),
        posterior=kv.posteriors.DiagonalNormal(2),
        likelihood=kv.likelihoods.Bernoulli(SHAPE),
        **changes,
    )


@pytest.fixture
def x():
    return np.random.default_rng(0).integers(0, 2, (20, *SHAPE)).astype("float32")


@pytest.mark.default_execution
def test_xla_is_the_default_but_for_convolutions():
    dense = make()
    convolutional = make(kv.networks.ConvEncoder((4,)), kv.networks.ConvDecoder(SHAPE, (4,)))
    for model in (dense, convolutional):
        model.compile("sgd")
    on_a_cpu = not tf.config.list_physical_devices("GPU")
    assert dense.jit_compile
    assert convolutional.jit_compile != on_a_cpu
    dense.compile("sgd", run_eagerly=True)
    assert not dense.jit_compile


def trained(model, x, **options):
    model.compile(keras.optimizers.SGD(0.01), **options)
    history = model.fit(x, batch_size=8, shuffle=False, verbose=0).history
    return history, [w.numpy() for w in model.trainable_variables]


class InPython(keras.layers.Layer):
    """Multiplies by two in a way that XLA does not know."""

    def call(self, x):
        y = tf.numpy_function(lambda x: 2.0 * x, [tf.stop_gradient(x)], x.dtype)
        return x + tf.ensure_shape(y - x, x.shape)


@pytest.mark.full
@pytest.mark.default_execution
def test_what_xla_cannot_compile_is_trained_as_a_graph(x):
    def run(**options):
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Flatten(), InPython(), keras.layers.Dense(8, "tanh")]
        return trained(make(keras.Sequential(layers)), x, **options)

    found, weights = run()  # Asks for XLA where it can.
    expected, expected_weights = run(run_eagerly=True)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6)
    for a, b in zip(weights, expected_weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match="EagerPyFunc|PyFunc"):
        run(jit_compile=True)


@pytest.mark.default_execution
def test_what_xla_cannot_compile_has_its_momentum_driven(x):
    def weights(**options):
        layers = [keras.layers.Flatten(), InPython(), keras.layers.Dense(8, "tanh")]
        model = make(keras.Sequential(layers))
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), **options)
        cycle = kv.callbacks.OneCycleLearningRate(0.01, 12, momentum=(0.1, 0.9))
        model.fit(x, batch_size=8, epochs=4, shuffle=False, verbose=0, callbacks=[cycle])
        return [weight.numpy() for weight in model.trainable_variables]

    keras.utils.set_random_seed(0)
    expected = weights(run_eagerly=True)
    keras.utils.set_random_seed(0)
    for one, other in zip(weights(), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


@pytest.mark.default_execution
def test_what_xla_cannot_compile_predicts(x):
    layers = [keras.layers.Flatten(), InPython(), keras.layers.Dense(8, "tanh")]
    model = make(keras.Sequential(layers))
    model.compile("sgd")
    np.testing.assert_allclose(model.predict(x, verbose=0), model.reconstruct(x), rtol=1e-5)


@pytest.mark.default_execution
def test_what_was_asked_for_is_saved_not_what_was_chosen(tmp_path, x):
    model = make()
    model.compile("sgd")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    config = again.get_compile_config()
    assert (config["jit_compile"], config["steps_per_execution"]) == ("auto", "auto")
    model.compile("sgd", jit_compile=False, steps_per_execution=3)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert not again.jit_compile and again.steps_per_execution == 3


@pytest.mark.full
def test_steps_per_call_change_no_number(x):
    # Batches of 8, 8 and 4.
    (one, weights), (two, others) = (
        trained(make(), x, jit_compile=True, steps_per_execution=steps) for steps in (1, 2)
    )
    assert one == two
    for a, b in zip(weights, others, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps_per_execution": 0}, "`steps_per_execution` must be an integer >= 1"),
        ({"steps_per_execution": "all"}, "`steps_per_execution` must be"),
        ({"jit_compile": "always"}, "`jit_compile` must be .*auto"),
    ],
)
def test_unknown_options(options, message):
    model = make()
    with pytest.raises(ValueError, match=message):
        model.compile("sgd", **options)
    assert not model.compiled


class EveryBatch(keras.callbacks.Callback):
    """Wants to see every batch."""

    def on_train_batch_end(self, batch, logs=None):
        """Sees it."""


@pytest.mark.parametrize(
    ("callbacks", "totals", "expected"),
    [
        ([], (), 10),
        ([], (None, None), 10),
        ([], (25,), 5),
        ([], (30, 4), 2),
        ([], (7,), 7),
        ([], (11,), 1),
        ([EveryBatch()], (), 1),
        ([keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)], (), 1),
        ([keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None)], (), 10),
        ([keras.callbacks.ModelCheckpoint("x.keras")], (), 10),
        ([keras.callbacks.ModelCheckpoint("x.keras", save_freq=5)], (), 1),
        ([keras.callbacks.EarlyStopping()], (), 10),
    ],
)
def test_how_many_steps_are_made_at_a_time(callbacks, totals, expected):
    assert execution.steps_per_call(callbacks, *totals) == expected


def test_no_step_is_made_in_excess_where_the_data_repeat(x):
    model = make()
    model.compile("sgd")
    data = tf.data.Dataset.from_tensor_slices(x).batch(4).repeat()
    validation = data.map(lambda x: (x, x))
    given = {"validation_data": validation, "validation_steps": 3, "verbose": 0}
    model.fit(data, steps_per_epoch=7, epochs=2, **given)
    assert int(model.optimizer.iterations) == 14
    model.evaluate(data, steps=3, verbose=0)
    loss, *_ = model.metrics
    assert loss.count == 12.0
