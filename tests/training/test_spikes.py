"""Steps with too large a gradient: found by the running median, and skipped without a trace."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.training.spikes import LEAST, WINDOW, SkipSpikes
from tests.small_models import MeanVAE, binary_images, make_vae

BATCH, QUIET = 4, LEAST + 2
ONE, YES = tf.constant(1.0), tf.constant(True)


def admitted(guard, norms):
    """Return which steps with gradients of these norms are made."""
    admit = tf.function(lambda g: guard.admit([g, None], YES, ONE, YES), autograph=False)
    return [bool(admit(tf.constant([0.6 * n, 0.8 * n], tf.float32))) for n in norms]


def by_hand(norms, factor):
    """Return the same by NumPy: the lower median of the last norms, skipped ones included."""
    made = []
    for number, norm in enumerate(norms):
        last = np.sort(norms[max(number - WINDOW, 0) : number])
        made.append(number < LEAST or norm <= factor * last[(len(last) - 1) // 2])
    return made


def test_a_step_is_held_against_the_median_of_those_before():
    rng = np.random.default_rng(0)
    norms = np.exp(rng.normal(0.0, 0.5, 3 * WINDOW)).astype("float32")
    norms[[3, 40, 41, 200]] *= 50.0
    norms[250:] *= 40.0  # for good
    guard = SkipSpikes(5.0)
    made = admitted(guard, norms)
    assert made == by_hand(norms, 5.0)
    assert made[3] and not any(made[n] for n in (40, 41, 200))
    assert int(guard.skipped) == made.count(False)
    # The median follows: nothing is skipped any more once half of the window is of the new kind.
    assert not any(made[255:300]) and all(made[250 + WINDOW // 2 + 20 :])


def test_a_median_of_zero_says_nothing():
    guard = SkipSpikes(5.0)
    assert all(admitted(guard, [*[0.0] * (LEAST + 4), *[1.0] * 8]))


def test_overflows_under_loss_scaling_are_no_spikes():
    guard, scale = SkipSpikes(5.0), tf.constant(2.0**15)
    for _ in range(LEAST + 1):
        assert guard.admit([scale * 1.0], YES, scale, YES)
    infinite = [tf.constant(float("inf"))]
    assert guard.admit(infinite, tf.constant(False), scale, YES)
    assert guard.admit([scale * 4.0], YES, scale, YES)
    assert not guard.admit([scale * 6.0], YES, scale, YES)
    assert not guard.admit([tf.constant(1e25)], tf.constant(False), ONE, YES)
    # What is left out for another reason is no spike, and not remembered.
    assert not guard.admit([tf.constant(float("nan"))], tf.constant(False), ONE, tf.constant(False))
    assert int(guard.skipped) == 2 and np.isfinite(guard.median)


@keras.saving.register_keras_serializable("tests")
class Counting(keras.layers.Layer):
    """Holds a state that every forward pass in training changes."""

    def build(self, input_shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")

    def call(self, x, training=False):
        if training:
            self.count.assign_add(1.0)
        return x


def make(**changes):
    keras.utils.set_random_seed(0)
    encoder = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), Counting(), keras.layers.Dense(6, "tanh")]
    )
    return make_vae(MeanVAE, encoder=encoder, units=6, **changes)


def data(weights):
    """Return batches of the same images, each with its weight or weights."""
    x = binary_images(BATCH)
    sets = [
        (x, np.zeros(BATCH), np.broadcast_to(np.float32(weight), [BATCH])) for weight in weights
    ]
    stacked = tuple(np.concatenate(parts) for parts in zip(*sets, strict=True))
    return tf.data.Dataset.from_tensor_slices(stacked).batch(BATCH)


def fit(model, weights, *callbacks, **options):
    return model.fit(data(weights), callbacks=list(callbacks), verbose=0, **options).history


class Guard(keras.callbacks.Callback):
    """Sets the policy for a training, as `HealthCheck` does."""

    def set_model(self, model):
        super().set_model(model)
        with model.distribute_strategy.scope():
            model.spikes = SkipSpikes(10.0)


def state(model):
    return [v.numpy() for v in [*model.weights, *model.optimizer.variables]]


@pytest.mark.full
def test_a_spike_leaves_no_trace():
    model, options = make(), {"jit_compile": True}
    model.compile(keras.optimizers.Adam(1e-3), steps_per_execution=5, **options)
    history = fit(model, [1.0] * QUIET + [1000.0, 1.0], Guard())
    assert history["skipped_spikes"] == [1]
    other = make()
    other.compile(keras.optimizers.Adam(1e-3), steps_per_execution=1, **options)
    expected = fit(other, [1.0] * (QUIET + 1))
    other.trained_batches.assign_add(1)
    for found, value in zip(state(model), state(other), strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)
    assert model.spikes is None


@pytest.mark.full
def test_replicas_skip_what_one_device_does(replicas):
    # By its own gradient, the first replica would skip the step of two weights.
    weights = [1.0] * QUIET + [[12.0, 12.0, 1.0, 1.0], 1000.0, 1.0]
    one = make()
    with replicas.scope():
        two = make()
    for model in (one, two):
        with model.distribute_strategy.scope():
            model.compile(keras.optimizers.SGD(1e-3), jit_compile=False)
        assert fit(model, weights, Guard())["skipped_spikes"] == [1]
    for a, b in zip(one.trainable_variables, two.trainable_variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=0, atol=2e-6)


@pytest.mark.full
def test_a_resumed_training_knows_the_norms_of_before(tmp_path):
    loud_first = [1000.0] + [1.0] * (QUIET - 1)

    def train(weights, folder, **options):
        model, resume = make(), kv.callbacks.Resume(tmp_path / folder)
        health = kv.callbacks.HealthCheck(spike_factor=10.0, grace=10**6, data_range=None)
        model.compile(keras.optimizers.SGD(1e-3), run_eagerly=True)
        return fit(model, weights, health, resume, initial_epoch=resume.epoch, **options)

    train([1.0] * QUIET, "with")
    # Of which an epoch of its own would know too few.
    assert train(loud_first, "with", epochs=2)["skipped_spikes"] == [0, 1]


def test_files_without_the_norms_are_read(tmp_path):
    plain, path = make(), tmp_path / "plain.weights.h5"
    plain.save_weights(path)
    model = make()
    model.spikes = SkipSpikes(10.0)
    model.load_weights(path)
    assert all(model.spikes.admit([tf.ones([])], YES, ONE, YES) for _ in range(LEAST))
    model.save_weights(path)
    plain.load_weights(path)
    other = make()
    other.spikes = SkipSpikes(10.0)
    other.load_weights(path)
    assert float(other.spikes.median) == 1.0


@pytest.mark.full
def test_a_training_that_skips_without_end_is_ended():
    model = make()
    health = kv.callbacks.HealthCheck(spike_factor=10.0, grace=10**6, data_range=None)
    model.compile(keras.optimizers.SGD(1e-4), run_eagerly=True)
    fit(model, [1.0] * QUIET, health)
    growing = [1000.0 * 3.0**n for n in range(4)]
    found = "gradient spikes without end .*: 4 of the last 4 .*; the training stops"
    with pytest.warns(kv.callbacks.HealthWarning, match=found):
        history = fit(model, growing, health, epochs=5)
    assert history["skipped_spikes"] == [4]  # a single epoch
    assert [finding.symptom for finding in health.findings] == ["gradient spikes without end"]


@pytest.mark.parametrize(("spikes", "found"), [(1, 0), (4, 1)])
def test_epochs_of_a_single_step_are_judged_by_several(spikes, found):
    """One spike is no end, whatever the length of an epoch; several are a finding."""
    model = make()
    health = kv.callbacks.HealthCheck(spike_factor=10.0, grace=10**6, data_range=None)
    model.compile(keras.optimizers.SGD(1e-4), run_eagerly=True)
    weights = [1.0] * QUIET + [1000.0 * 3.0**n for n in range(spikes)]

    class OneStepEpochs(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            loudness.assign(weights[epoch])

    loudness = tf.Variable(1.0)
    x = binary_images(BATCH)
    batch = tf.data.Dataset.from_tensors((x, np.zeros(BATCH, "float32")))
    one = batch.map(lambda x, y: (x, y, loudness * tf.ones([BATCH])))
    options = {"epochs": len(weights), "verbose": 0, "callbacks": [OneStepEpochs(), health]}
    history = model.fit(one, **options).history
    assert len(history["loss"]) == len(weights)
    assert sum(np.diff([0, *history["skipped_spikes"]]) > 0) == spikes
    assert len(health.findings) == found


@pytest.mark.parametrize("factor", [1.0, -3.0, float("nan"), "10"])
def test_the_factor_is_checked(factor):
    with pytest.raises(ValueError, match="`spike_factor` must be a finite number > 1"):
        kv.callbacks.HealthCheck(spike_factor=factor)
