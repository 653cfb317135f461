"""Two replicas train as one device does at the same global batch, with noise of their own."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability.python.internal import samplers

import keras_vae as kv
from tests import registry
from tests.small_models import (
    SHAPE,
    binary_images,
    make_mean_vae,
    make_vae,
    trainable_weights_of,
)

RATE = {"learning_rate": 0.05}


def train(model, x, optimizer=None, batch_size=8, run_eagerly=False, **kwargs):
    with model.distribute_strategy.scope():
        model.compile(
            keras.optimizers.get(optimizer or {"class_name": "SGD", "config": RATE}),
            run_eagerly=run_eagerly,
        )
    return model.fit(x, batch_size=batch_size, shuffle=False, verbose=0, **kwargs).history


def regularized_encoder():
    keras.utils.set_random_seed(1)
    dense = keras.layers.Dense(8, "tanh", kernel_regularizer=keras.regularizers.L2(0.1))
    return keras.Sequential([keras.layers.Flatten(), dense])


def test_two_replicas_equal_one_device(trainable, replicas, x):
    # A floor for means of the global batch, a penalty that counts once, and a last batch of 1, at
    # which one replica has no data.
    def make():
        objective = kv.objectives.ELBO(beta=0.5, free_bits=0.2)
        return make_mean_vae(objective=objective, encoder=regularized_encoder())

    x, one = x[:17], make()
    expected = train(one, x, epochs=2, run_eagerly=True)
    with replicas.scope():
        two = make()
    start = trainable(two)
    found = train(two, x, epochs=2)
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(start, trainable(two), strict=True))
    for a, b in zip(trainable(one), trainable(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, err_msg=name)


@pytest.fixture
def without_noise(monkeypatch):
    """Let all normal draws be zero, so that replicas and one device have the same."""

    def zeros(shape, seed, mean=0.0, stddev=1.0, dtype=tf.float32, alg="auto_select"):
        return mean + stddev * tf.zeros(shape, dtype)

    for random in (tf.random, samplers.tf.random):
        monkeypatch.setattr(random, "stateless_normal", zeros)


def of_images():
    keras.utils.set_random_seed(0)
    encoder, decoder = kv.networks.ConvEncoder((4,)), kv.networks.ConvDecoder(SHAPE, (4,))
    return make_vae(encoder=encoder, decoder=decoder)


def of_maps():
    keras.utils.set_random_seed(0)
    bottom_up = kv.networks.BottomUp({4: 4, 1: 8}, blocks=1)
    top_down = kv.networks.TopDown({1: (1, 2), 4: (1, 2)}, blocks=1)
    return kv.HierarchicalVAE(bottom_up, top_down, kv.likelihoods.Bernoulli(SHAPE))


@pytest.mark.full
@pytest.mark.parametrize("make", [of_images, of_maps])
def test_convolutions_on_a_replica_without_data(trainable, replicas, without_noise, x, make):
    # On a CPU, oneDNN gives a convolution of no images the shape of its inputs.
    x, one = x[:9], make()  # The last batch is of one image.
    expected = train(one, x, run_eagerly=True)
    with replicas.scope():
        two = make()
    found = train(two, x)
    for a, b in zip(trainable(one), trainable(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found["elbo"], expected["elbo"], rtol=1e-5)


MODELS = [name for name in registry.saved_classes() if name.startswith("models.")]


def step_of(name, strategy):
    """Return logs of a step at a batch of 7, the weights before it, and by how much they moved."""
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = registry.example(name)
        model.compile(keras.optimizers.SGD(0.05), run_eagerly=True)
    if isinstance(model, kv.PriorModel):
        rng = np.random.default_rng(0)
        x = rng.integers(0, 2, (7, model.prior_head.groups.size))
        y = rng.integers(0, registry.CLASSES, 7)
    else:
        x, y = registry.batch(model, 7)
    model.build((None, *x.shape[1:]))
    before = trainable_weights_of(model)
    logs = model.fit(x, y, batch_size=7, verbose=0).history
    return logs, [b - a for a, b in zip(before, trainable_weights_of(model), strict=True)]


@pytest.mark.full
@pytest.mark.parametrize("name", MODELS)
def test_a_step_of_every_class_of_model(replicas, without_noise, name):
    expected, steps = step_of(name, tf.distribute.get_strategy())
    found, others = step_of(name, replicas)
    assert max(np.abs(step).max() for step in steps) > 1e-3
    for step, other in zip(steps, others, strict=True):
        np.testing.assert_allclose(other, step, rtol=1e-4, atol=2e-6)
    for measure in expected:
        np.testing.assert_allclose(
            found[measure], expected[measure], rtol=1e-4, atol=1e-5, err_msg=measure
        )


class Noise(kv.objectives.ELBO):
    """Keeps log q of the draws of each replica; equal examples differ by their noise alone."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.log_q = self.add_weight(
            shape=(2,), initializer="zeros", trainable=False, aggregation="sum", name="log_q"
        )

    def loss(self, terms):
        here = tf.distribute.get_replica_context().replica_id_in_sync_group
        self.log_q.assign(tf.one_hot(here, 2) * tf.stop_gradient(terms.log_q[0, 0]))
        return super().loss(terms)


@pytest.mark.full
def test_replicas_draw_different_noise(make_vae, replicas, x):
    with replicas.scope():
        model = make_vae(objective=Noise())
    train(model, np.repeat(x[:1], 8, axis=0), run_eagerly=True)
    one, two = model.objective.log_q.numpy()
    assert one != 0 and two != 0 and one != two


OPTIONS = {
    "XLA, several steps": {"jit_compile": True, "steps_per_execution": 3},
    "several steps": {"steps_per_execution": 5},
    "several steps, eagerly": {"steps_per_execution": 2, "run_eagerly": True},
}
OBJECTIVES = {
    "ELBO": lambda: kv.objectives.ELBO(beta=0.5),
    "GECO": lambda: kv.objectives.GECO(kv.objectives.SquaredError(3.0)),
}
CASES = [
    ("XLA, several steps", "ELBO"),
    ("several steps", "GECO"),
    ("several steps, eagerly", "ELBO"),
]


def run(objective, options):
    """Train on batches of 8, 8 and 3: replicas hold 4 and 4, 4 and 4, 2 and 1 of them."""
    model = make_mean_vae(objective=OBJECTIVES[objective]())
    model.compile(keras.optimizers.AdamW(0.01, global_clipnorm=0.5), **options)
    calls = []
    counter = keras.callbacks.LambdaCallback(on_train_batch_end=lambda b, logs: calls.append(b))
    weights = np.linspace(0.0, 2.0, 19).astype("float32")
    given = {"sample_weight": weights, "batch_size": 8, "shuffle": False, "epochs": 2}
    steering = [kv.callbacks.GECO(0.1, every=2)] if objective == "GECO" else []
    callbacks = [counter, *steering]
    history = model.fit(binary_images(19), verbose=0, callbacks=callbacks, **given).history
    return trainable_weights_of(model), history, len(calls)


@functools.cache
def reference(objective):
    return run(objective, {"run_eagerly": True})


@pytest.mark.full
@pytest.mark.parametrize(("options", "objective"), CASES)
def test_options_on_replicas_change_nothing(replicas, options, objective):
    expected_weights, expected, _ = reference(objective)
    with replicas.scope():
        weights, found, calls = run(objective, OPTIONS[options])
    steps = OPTIONS[options]["steps_per_execution"]
    assert calls == 2 * -(-3 // steps)  # Versions of Keras number them differently.
    for a, b in zip(expected_weights, weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, err_msg=name)


@pytest.mark.full
def test_nothing_is_counted_past_the_end_of_the_data(make_vae, replicas, x):
    # Three batches of a known size; ten steps are tried.
    data = tf.data.Dataset.from_tensor_slices(x[:24]).batch(8, drop_remainder=True)
    with replicas.scope():
        model = make_vae()
        model.compile("sgd", steps_per_execution=10)
    history = model.fit(data, validation_data=data, verbose=0).history
    assert history["elbo"][0] == pytest.approx(-history["loss"][0], rel=1e-6)
    assert history["val_elbo"][0] == pytest.approx(-history["val_loss"][0], rel=1e-6)
    assert int(tf.convert_to_tensor(model.optimizer.iterations)) == 3


@pytest.mark.full
def test_single_batches_on_replicas(trainable, replicas, x):
    one = make_mean_vae()
    with replicas.scope():
        two = make_mean_vae()
    for model in (one, two):
        with model.distribute_strategy.scope():
            model.compile(keras.optimizers.SGD(0.05), run_eagerly=True)
        model.train_on_batch(x[:8])
        model.train_on_batch(x[8:16])
    for a, b in zip(trainable(one), trainable(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_xla_on_replicas_is_refused_where_an_objective_exchanges(make_vae, trainable, replicas, x):
    with replicas.scope():
        model = make_vae(objective=kv.objectives.ELBO(free_bits=0.2))
        model.compile("sgd", jit_compile=True)
    before = trainable(model)
    with pytest.raises(ValueError, match=r"`jit_compile` must be False or \"auto\" on several"):
        model.fit(x, verbose=0)
    for a, b in zip(before, trainable(model), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.full
def test_training_goes_on_after_bad_data_was_refused(make_vae, trainable, replicas, dataset, x):
    # As in a notebook, where the data are mended and the cell is run again.
    with replicas.scope():
        model = make_vae()
        model.compile("sgd")
    before, rest = trainable(model), (np.zeros(len(x)), np.ones(len(x), "float32"))
    with pytest.raises(ValueError, match=r"`x` must be in \[0, 1\]"):
        model.fit(dataset(255.0 * x, *rest), verbose=0)
    for a, b in zip(before, trainable(model), strict=True):
        np.testing.assert_array_equal(a, b)
    data = dataset(x, *rest)
    history = model.fit(data, validation_data=data, verbose=0).history
    assert np.isfinite(history["loss"]).all() and np.isfinite(history["val_loss"]).all()
