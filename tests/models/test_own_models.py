"""What a subclass of the base gets for free."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import keras_vae as kv

tfd = tfp.distributions


@keras.saving.register_keras_serializable("tests")
class TwoLevels(kv.LatentVariableModel):
    """x <- z1 <- z2, with layers that no one builds before the first data."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.up, self.top = keras.layers.Dense(6, "tanh"), keras.layers.Dense(4)
        self.down, self.out = keras.layers.Dense(3), keras.layers.Dense(5)
        self.q1 = kv.posteriors.DiagonalNormal(3)

    def standardize(self, x, y=None):
        return tf.cast(tf.convert_to_tensor(x), tf.float32), None

    def check_support(self, x, y=None):
        return x, y

    def compute_terms(self, x, num_samples=1, training=False, seed=0, y=None):
        features = self.up(x)
        q1, raw = self.q1(features), self.top(features)
        q2 = tfd.MultivariateNormalDiag(raw[:, :2], tf.nn.softplus(raw[:, 2:]))
        seeds = tf.random.experimental.stateless_split(tf.convert_to_tensor(_seed(seed)), 2)
        z1, z2 = q1.sample(num_samples, seed=seeds[0]), q2.sample(num_samples, seed=seeds[1])
        p2, p1 = tfd.MultivariateNormalDiag(tf.zeros(2), tf.ones(2)), self._p1(z2)
        log_p_x = tfd.MultivariateNormalDiag(self.out(z1), tf.ones(5)).log_prob(x)
        log_p_z, log_q = p1.log_prob(z1) + p2.log_prob(z2), q1.log_prob(z1) + q2.log_prob(z2)
        kl1 = tf.reduce_mean(q1.log_prob(z1) - p1.log_prob(z1), axis=0)
        return kv.Terms(log_p_x, log_p_z, log_q, tf.stack([kl1, q2.kl_divergence(p2)], axis=-1))

    def _p1(self, z2):
        return tfd.MultivariateNormalDiag(self.down(z2), tf.ones(3))

    def call(self, x, y=None, training=False):
        return self.out(self.q1(self.up(x)).mean())


def _seed(seed):
    return [seed, 0] if isinstance(seed, int) else seed


@pytest.fixture
def x():
    rng = np.random.default_rng(0)
    return (rng.normal(size=[200, 2]) @ rng.normal(size=[2, 5])).astype("float32")


@pytest.mark.full
def test_a_hierarchical_model_trains_saves_and_is_evaluated(tmp_path, x):
    model = TwoLevels(objective=kv.objectives.ELBO(free_bits=0.1, num_samples=3), seed=4)
    model.compile(keras.optimizers.Adam(0.01), jit_compile=False)
    # Batches of one size: a smaller last one would be traced, and compiled, on its own.
    history = model.fit(x, batch_size=40, epochs=20, verbose=0).history
    assert history["elbo"][-1] > history["elbo"][0] + 1.0
    assert len(model.trainable_variables) == 12
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert (loaded.seed, loaded.objective.num_samples) == (4, 3)
    np.testing.assert_array_equal(loaded.log_weights(x, 7), model.log_weights(x, 7))
    for each in (model, loaded):
        each.compile("sgd", run_eagerly=True)
    quiet = {"batch_size": 100, "verbose": 0}
    assert loaded.evaluate(x, **quiet) == model.evaluate(x, **quiet)
    # 100 samples bound log p(x) more tightly than the ELBO; their slack is 4 standard errors.
    estimate = kv.evaluation.log_likelihood(loaded, x, num_samples=100)
    elbo = loaded.evaluate(x, return_dict=True, **quiet)["elbo"]
    assert estimate.mean > elbo - 4.0 * estimate.standard_error


def _vae(kind=kv.VAE, **kwargs):
    return kind(
        encoder=kv.networks.MLPEncoder((4,)),
        decoder=kv.networks.MLPDecoder((5,), (4,)),
        posterior=kv.posteriors.DiagonalNormal(2),
        likelihood=kv.likelihoods.Normal((5,)),
        **kwargs,
    )


class Recording(kv.VAE):
    """Notes the seed of every training step."""

    seeds: list = []

    def compute_terms(self, x, num_samples=1, training=False, seed=0, y=None):
        if training:
            self.seeds.append(tuple(seed.numpy()))
        return super().compute_terms(x, num_samples, training, seed, y)


def test_every_batch_has_noise_of_its_own(x):
    model = _vae(Recording)
    Recording.seeds = []
    for _ in range(2):  # Another optimizer does not bring back the noise of the first.
        # The steps of the optimizer are fewer than the batches.
        optimizer = keras.optimizers.SGD(0.01, gradient_accumulation_steps=2)
        model.compile(optimizer, run_eagerly=True)
        model.fit(x, batch_size=50, epochs=1, verbose=0)
    assert len(Recording.seeds) == len(set(Recording.seeds)) == 8


@pytest.mark.full
def test_weights_count_without_labels(x):
    model = _vae()
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    before = [weight.numpy() for weight in model.trainable_variables]
    model.fit(x, sample_weight=np.zeros(200), batch_size=100, verbose=0)
    for weight, start in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), start)
    # Only the examples with weight are in the means.
    weights = np.repeat([1.0, 0.0], 100)
    weighted = model.evaluate(x, sample_weight=weights, verbose=0, return_dict=True, batch_size=200)
    half = model.evaluate(x[:100], verbose=0, return_dict=True, batch_size=100)
    # The closed-form KL has no noise, so it must be equal; the loss is a mean over all examples.
    np.testing.assert_allclose(weighted["kl"], half["kl"], rtol=1e-5)
    np.testing.assert_allclose(weighted["loss"], -weighted["elbo"] / 2.0, rtol=1e-5)
    nothing = (x, None, np.zeros(200))
    history = model.fit(x, validation_data=nothing, batch_size=200, verbose=0).history
    assert history["val_loss"] == [0.0]


@pytest.mark.parametrize(
    "weights", [np.ones(199), np.ones([200, 5]), np.full(200, np.nan), np.full(200, -1.0)]
)
def test_what_are_no_weights_is_refused(x, weights):
    model = _vae()
    model.compile("sgd")
    before = model.get_weights()
    with pytest.raises(ValueError, match="`sample_weight` must"):
        model.fit(x, sample_weight=weights, verbose=0)
    for weight, start in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, start)


def test_a_second_fit_with_the_same_schedule_does_not_trace_again(x):
    model = _vae()
    model.compile("sgd", run_eagerly=True)
    annealing = kv.callbacks.KLAnnealing(kv.schedules.Linear(0.0, 1.0, 10))
    functions = []
    for _ in range(2):
        model.fit(x, batch_size=100, callbacks=[annealing], epochs=1, verbose=0)
        functions.append(model.train_function)
    assert functions[0] is functions[1]
    model.fit(x, batch_size=100, epochs=1, verbose=0)
    assert model.train_function is not functions[0]


@pytest.mark.full
def test_empty_training_data_are_noticed_although_there_are_validation_data(x):
    model = _vae()
    model.compile("sgd", run_eagerly=True)
    data = tf.data.Dataset.from_tensor_slices(x).batch(50)
    with pytest.raises(ValueError, match="`x` must hold at least one batch"):
        model.fit(data.filter(lambda _: False), validation_data=data, verbose=0)


@pytest.mark.full
def test_custom_loops_may_call_the_steps(x):
    model = _vae()
    model.compile(keras.optimizers.SGD(0.03))
    losses = [float(model.train_step(tf.constant(x))["loss"]) for _ in range(3)]
    assert losses[-1] < losses[0]
    assert "elbo" in model.test_step(tf.constant(x))


@pytest.mark.full
def test_keras_exports_the_model_too(tmp_path, x):
    model = _vae()
    expected = model(x)
    model.export(tmp_path / "exported", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "exported"))
    np.testing.assert_allclose(served.serve(tf.constant(x)), expected, rtol=1e-5, atol=1e-6)


def test_the_condition_network_is_trained_as_such(x):
    condition = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization()])
    model = kv.ConditionalVAE(
        condition=condition,
        encoder=kv.networks.MLPEncoder((4,)),
        decoder=kv.networks.MLPDecoder((5,), (4,)),
        posterior=kv.posteriors.DiagonalNormal(2),
        likelihood=kv.likelihoods.Normal((5,)),
    )
    model.compile("sgd", run_eagerly=True)
    y = np.full([200, 3], 7.0, np.float32)
    model.fit(x, y, batch_size=50, epochs=1, verbose=0)
    # Keras: mean <- 0.99 mean + 0.01 batch mean, once for each of the 4 batches.
    moving_mean = condition.layers[-1].moving_mean
    np.testing.assert_allclose(moving_mean, np.full(3, 7.0 * (1.0 - 0.99**4)), rtol=1e-5)
