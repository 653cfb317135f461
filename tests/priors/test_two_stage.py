"""The second-stage VAE as a prior, against the normal that it is when f is linear."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import keras_vae as kv
from keras_vae.core.numerics import inverse_scale
from keras_vae.models.importance import chunk_of

D = 3
GAMMA = 0.6


@pytest.fixture
def linear():
    """Return a prior with f(u) = A u + b, and the mean and covariance of its p(z)."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(D, D)), rng.normal(size=D)
    prior = make(a, b)
    return prior, a, b, a @ a.T + GAMMA**2 * np.eye(D)


def make(a, b, **kwargs):
    prior = kv.priors.TwoStage(D, hidden_units=(4,), dtype="float64", **kwargs)
    prior.build()
    prior.raw_gamma.assign(inverse_scale(GAMMA))
    set_affine(prior.decoder, a.T, b)
    return prior


def set_affine(network, slope, shift):
    """Let a network be affine: its last layer sees the hidden units and, last, the input."""
    hidden = network.out.kernel.shape[0] - D
    network.out.set_weights([np.concatenate([np.zeros((hidden, slope.shape[1])), slope]), shift])


def set_posterior(prior, slope, shift, scale):
    """Let q(u|z) be N(slope z + shift, diag(scale)^2)."""
    raw = np.array([inverse_scale(s) - inverse_scale(1.0) for s in scale])
    both = np.concatenate([slope.T, np.zeros((D, D))], axis=1)
    set_affine(prior.encoder, both, np.concatenate([shift, raw]))


def draws(count, seed=1):
    return tf.constant(np.random.default_rng(seed).normal(size=(count, D)))


def test_density_of_a_linear_map_with_the_exact_posterior():
    # Orthogonal columns, so that p(u|z) has independent dimensions, as q(u|z).
    rng = np.random.default_rng(0)
    a = np.linalg.qr(rng.normal(size=(D, D)))[0] * [2.0, 1.0, 0.5]
    b = rng.normal(size=D)
    prior = make(a, b, num_samples=3)
    precision = np.diag(np.eye(D) + a.T @ a / GAMMA**2)
    slope = a.T / GAMMA**2 / precision[:, None]
    set_posterior(prior, slope, -slope @ b, precision**-0.5)
    z = draws(5)
    expected = stats.multivariate_normal(b, a @ a.T + GAMMA**2 * np.eye(D)).logpdf(z)
    # Every weight is p(z): no noise is left, whatever the number of samples.
    np.testing.assert_allclose(prior().log_prob(z), expected, rtol=1e-6)


def test_density_with_a_wrong_posterior_is_unbiased_and_its_log_below(linear):
    prior, a, b, covariance = linear
    precision = np.eye(D) + a.T @ a / GAMMA**2
    slope = np.linalg.solve(precision, a.T / GAMMA**2)
    # Mean and scale are off; wider than p(u|z), so that the weights have a variance.
    scale = 1.5 * np.sqrt(np.diag(np.linalg.inv(precision)))
    set_posterior(prior, slope, 0.3 - slope @ b, scale)
    z = draws(1)
    exact = stats.multivariate_normal(b, covariance).logpdf(z)
    many = tf.repeat(z, 20_000, axis=0)
    log_p = prior.estimate(many, 4, tf.constant([3, 1])).numpy()
    ratio = np.exp(log_p - exact)
    error = ratio.std(ddof=1) / np.sqrt(len(ratio))
    # Beyond 4 standard errors once in 16,000 seeds.
    assert abs(ratio.mean() - 1.0) < 4 * error < 0.1
    below = exact - log_p
    assert below.mean() > 4 * below.std(ddof=1) / np.sqrt(len(below))
    # More samples: closer, still below.
    more = exact - prior.estimate(many, 16, tf.constant([3, 2])).numpy()
    assert 0.0 < more.mean() < below.mean() / 2.0


def test_samples_have_the_moments_of_the_marginal(linear):
    prior, _, b, covariance = linear
    z = prior().sample(20_000, seed=[0, 1]).numpy()
    error = np.sqrt(np.diag(covariance) / len(z))
    # 3 means and 6 covariances: beyond 4 standard errors once in 1,700 seeds.
    assert np.all(np.abs(z.mean(axis=0) - b) < 4 * error)
    v = np.diag(covariance)
    errors = np.sqrt((np.outer(v, v) + covariance**2) / len(z))
    assert np.all(np.abs(np.cov(z.T) - covariance) < 4 * errors)


def test_density_is_the_same_for_the_same_batch_and_its_noise_independent_within(linear):
    prior, _, _, _ = linear
    p, z = prior(), tf.repeat(draws(1), 2_000, axis=0)
    log_p = p.log_prob(z).numpy()
    np.testing.assert_array_equal(p.log_prob(z), log_p)
    np.testing.assert_allclose(tf.function(p.log_prob)(z), log_p, rtol=1e-12)
    assert len(np.unique(log_p)) == len(log_p)
    shaped = p.log_prob(tf.reshape(z, [4, 500, D]))
    assert shaped.shape == (4, 500)
    # The correlation of 1,999 independent pairs: beyond 4 / sqrt(1999) once in 16,000 seeds.
    assert abs(np.corrcoef(log_p[:-1], log_p[1:])[0, 1]) < 4 / np.sqrt(1_999)


def test_noise_differs_between_batches_and_seeds(linear):
    prior, a, b, _ = linear
    z = draws(200)
    nudged = z + tf.constant([[0.1, 0.0, 0.0]], tf.float64)
    noise = [prior().log_prob(each).numpy() for each in (z, nudged)]
    # With the same noise, the two would differ by little and smoothly.
    smooth = prior.estimate(nudged, prior.num_samples, prior()._seed_of(z))
    assert np.abs(noise[0] - noise[1]).mean() > 2 * np.abs(noise[0] - smooth).mean()
    other = make(a, b, seed=1)
    other.encoder.out.set_weights(prior.encoder.out.get_weights())
    other.encoder.hidden[0].set_weights(prior.encoder.hidden[0].get_weights())
    assert np.all(other().log_prob(z) != noise[0])


def test_both_networks_equal_numpy():
    prior = kv.priors.TwoStage(D, hidden_units=(4, 5), activation="tanh", dtype="float64")
    prior.build()
    rng = np.random.default_rng(0)
    for weight in prior.weights:
        weight.assign(rng.normal(size=weight.shape))

    def perceptron(network, inputs):
        *hidden, (kernel, bias) = [layer.get_weights() for layer in (*network.hidden, network.out)]
        values = inputs
        for w, b in hidden:
            values = np.tanh(values @ w + b)
        return np.concatenate([values, inputs], axis=-1) @ kernel + bias

    z = draws(6).numpy()
    loc, raw = np.split(perceptron(prior.encoder, z), 2, axis=-1)
    q, p = prior.posterior(z), prior.likelihood(tf.constant(z.reshape(2, 3, D)))
    np.testing.assert_allclose(q.mean(), loc, rtol=1e-9)
    np.testing.assert_allclose(
        q.stddev(), np.log1p(np.exp(raw + inverse_scale(1.0))) + 1e-4, rtol=1e-9
    )
    np.testing.assert_allclose(p.mean(), perceptron(prior.decoder, z).reshape(2, 3, D), rtol=1e-9)
    np.testing.assert_allclose(p.stddev(), np.full((2, 3, D), float(prior.gamma)), rtol=1e-9)


def test_every_weight_gets_a_gradient_through_the_density():
    prior = kv.priors.TwoStage(D, hidden_units=(4,))
    prior.build()
    z = tf.cast(draws(8), tf.float32)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(prior().log_prob(z))
    for weight, gradient in zip(
        prior.trainable_weights, tape.gradient(value, prior.trainable_weights), strict=True
    ):
        assert gradient is not None and np.any(gradient != 0.0), weight.path


@pytest.mark.full
def test_a_fit_finds_the_normal_that_z_has():
    # p(z) of a fitted one cannot be better than the normal itself, on average.
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2_000, 1)) * [1.0, -0.5] + 0.2 * rng.normal(size=(2_000, 2)) + [3.0, 0.0]
    truth = stats.multivariate_normal([3.0, 0.0], [[1.04, -0.5], [-0.5, 0.29]]).logpdf(z).mean()
    prior = kv.priors.TwoStage(2, hidden_units=(16,), num_samples=64)
    before = float(tf.reduce_mean(prior().log_prob(tf.constant(z, tf.float32))))
    assert prior.fit(z, epochs=60, batch_size=100, learning_rate=5e-3, verbose=False) is prior
    after = float(tf.reduce_mean(prior().log_prob(tf.constant(z, tf.float32))))
    assert before < truth - 3.0
    assert truth - 0.15 < after < truth + 0.05
    assert 0.1 < float(prior.gamma) < 0.5


@pytest.mark.full
def test_a_fit_takes_new_noise_with_every_step(monkeypatch):
    prior = kv.priors.TwoStage(2, hidden_units=(4,))
    seeds = []
    original = prior.estimate

    def spy(z, num_samples, seed):
        tf.py_function(lambda s: seeds.append(tuple(s.numpy())), [seed], [])
        return original(z, num_samples, seed)

    monkeypatch.setattr(prior, "estimate", spy)
    prior.fit(np.zeros((40, 2)), epochs=2, batch_size=10, held_out=0.0, verbose=False)
    assert len(seeds) == len(set(seeds)) == 8


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"latent_dim": 0}, "latent_dim"),
        ({"latent_dim": 2, "hidden_units": ()}, "hidden_units"),
        ({"latent_dim": 2, "num_samples": 0}, "num_samples"),
        ({"latent_dim": 2, "seed": -1}, "seed"),
    ],
)
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(ValueError, match=f"Argument `{name}`"):
        kv.priors.TwoStage(**arguments)


@pytest.mark.full
def test_the_samples_of_u_count_into_the_memory_of_log_likelihood():
    def chunk(num_samples):
        model = kv.VAE(
            encoder=keras.layers.Dense(4),
            decoder=keras.layers.Dense(4),
            posterior=kv.posteriors.DiagonalNormal(2),
            likelihood=kv.likelihoods.Normal((4,)),
            prior=kv.priors.TwoStage(2, hidden_units=(16,), num_samples=num_samples),
        )
        return int(chunk_of(model, tf.zeros([8, 4]), None, memory=10.0))

    assert chunk(320) == pytest.approx(chunk(10) / 32, rel=0.1)
