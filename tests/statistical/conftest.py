"""The oracle: a linear-Gaussian model, all of whose densities and bounds are known exactly.

p(z) = N(0, I), p(x|z) = N(W z + b, diag(s^2)), q(z|x) = N(m(x), V(x)). Written in NumPy and SciPy,
in float64, from textbook formulas (Bishop, 2006, eq. 2.113-2.117 and 12.2).
"""

import dataclasses
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import stats

import keras_vae as kv
from keras_vae.core.numerics import SCALE_FLOOR, inverse_scale


@pytest.fixture(autouse=True)
def float64():
    """Compute everything in float64; take the policy back afterwards."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(before)


@dataclasses.dataclass(frozen=True)
class LinearGaussian:
    """What is known of the model: W `[E, D]`, b `[E]`, and s, a number or `[E]`."""

    w: np.ndarray
    b: np.ndarray
    s: np.ndarray

    @property
    def noise(self):
        return np.broadcast_to(np.square(self.s), self.b.shape)

    @property
    def precision(self):
        """The precision of p(z|x), the same for every x."""
        return np.eye(self.w.shape[1]) + self.w.T @ (self.w / self.noise[:, None])

    def sample(self, count, seed=0):
        rng = np.random.default_rng(seed)
        z = rng.normal(size=(count, self.w.shape[1]))
        return z @ self.w.T + self.b + rng.normal(size=(count, len(self.b))) * self.s

    def log_p_x(self, x, z):
        return stats.norm(z @ self.w.T + self.b, self.s).logpdf(x).sum(axis=-1)

    def log_p_z(self, z):
        return stats.norm.logpdf(z).sum(axis=-1)

    def log_evidence(self, x):
        covariance = self.w @ self.w.T + np.diag(self.noise)
        return np.atleast_1d(stats.multivariate_normal(self.b, covariance).logpdf(x))

    def posterior(self, x):
        """Return mean `[B, D]` and covariance `[D, D]` of p(z|x)."""
        covariance = np.linalg.inv(self.precision)
        return (x - self.b) / self.noise @ self.w @ covariance, covariance

    def expected_log_p_x(self, x, q):
        spread = np.einsum("ed,bdf,ef,e->b", self.w, q.covariance, self.w, 1.0 / self.noise)
        return self.log_p_x(x, q.mean) - spread / 2.0

    def elbo(self, x, q):
        return self.expected_log_p_x(x, q) - q.kl().sum(axis=-1)

    def mean_field_gap(self):
        """Return KL(q || p(z|x)) of the best q with independent dimensions (Bishop, 10.1.2)."""
        return (np.log(np.diag(self.precision)).sum() - np.linalg.slogdet(self.precision)[1]) / 2.0


class NormalPosterior(NamedTuple):
    """q(z|x): mean `[B, D]` and covariance `[B, D, D]`."""

    mean: np.ndarray
    covariance: np.ndarray

    def log_prob(self, z):
        densities = [
            stats.multivariate_normal(mean, covariance).logpdf(z[:, b])
            for b, (mean, covariance) in enumerate(zip(*self, strict=True))
        ]
        return np.stack(densities, axis=1)  # [S, B]

    def kl(self):
        """Return KL(q || N(0, I)): of each dimension `[B, D]` if q factorizes, else `[B, 1]`."""
        variance = np.diagonal(self.covariance, axis1=1, axis2=2)
        per_dimension = (np.square(self.mean) + variance - 1.0) / 2.0
        if np.all(self.covariance == variance[..., None] * np.eye(variance.shape[1])):
            return per_dimension - np.log(variance) / 2.0
        log_det = np.linalg.slogdet(self.covariance)[1]
        return (per_dimension.sum(axis=1) - log_det / 2.0)[:, None]


class SpyingDense(keras.layers.Dense):
    """A decoder that shows at which z it was asked."""

    def call(self, inputs, training=None):
        self.seen = inputs
        return super().call(inputs)


@dataclasses.dataclass(frozen=True)
class Case:
    """A model under test, the numbers that it was given, and data."""

    model: kv.VAE
    truth: LinearGaussian
    x: np.ndarray

    def terms(self, num_samples, seed=1):
        """Return the terms as arrays, and the z `[S, B, D]` at which they were taken."""
        x = tf.constant(self.x)
        terms = self.model.compute_terms(x, num_samples=num_samples, seed=seed)
        z = self.model.decoder.seen.numpy().reshape(num_samples, len(self.x), -1)
        return type(terms)(*(value.numpy() for value in terms[:4])), z

    def q(self, x=None):
        """Return q(z|x) from the weights of encoder and head, which are all linear."""
        head, encoder = self.model.posterior_head, self.model.encoder
        features = _affine(encoder, self.x if x is None else x)
        mean, raw = _affine(head.loc, features), _affine(head.raw_scale, features)
        if isinstance(head, kv.posteriors.DiagonalNormal):
            scale = np.log1p(np.exp(raw)) + SCALE_FLOOR
            return NormalPosterior(mean, np.square(scale)[..., None] * np.eye(mean.shape[1]))
        raw = tfp.math.fill_triangular(raw).numpy()
        diagonal = np.diagonal(raw, axis1=1, axis2=2) + inverse_scale(1.0)
        tril = np.tril(raw, -1) + (np.log1p(np.exp(diagonal)) + SCALE_FLOOR)[..., None] * np.eye(
            mean.shape[1]
        )
        return NormalPosterior(mean, tril @ tril.transpose(0, 2, 1))

    def sampled(self, repeats, num_samples=None, copies=1):
        """Return losses `[R]` and gradients `[R, P]`, each of a batch of every x `copies` times."""
        objective = self.model.objective
        x = tf.constant(np.repeat(self.x, copies, axis=0))

        @tf.function(autograph=False)
        def one(seed):
            def loss():
                samples = num_samples or objective.num_samples
                terms = self.model.compute_terms(x, samples, training=True, seed=seed)
                return tf.reduce_mean(objective.loss(terms))

            return self.loss_and_gradient(loss)

        seeds = tf.constant([[3, k] for k in range(repeats)], tf.int32)
        return (np.stack(values) for values in zip(*map(one, seeds), strict=True))

    def loss_and_gradient(self, loss):
        """Return what the function `loss` gives, and its gradient by all trainable weights."""
        with tf.GradientTape() as tape:
            value = loss()
        return value, flat(tape.gradient(value, self.model.trainable_variables))

    def learned(self):
        """Return the linear-Gaussian model that the weights of the decoder make."""
        kernel, bias = (weight.numpy() for weight in self.model.decoder.weights)
        return LinearGaussian(kernel.T, bias, self.model.likelihood_head.scale.numpy())


def flat(tensors):
    """Return the entries of all tensors in a row, `[P]`."""
    return tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], axis=0)


def _affine(layer, inputs):
    kernel, bias = (weight.numpy() for weight in layer.weights)
    return inputs @ kernel + bias


class Cases:
    """Makes cases."""

    @staticmethod
    def truth(num_pixels=5, latent_dim=2, noise=0.5, orthogonal=False, seed=0):
        rng = np.random.default_rng(seed)
        w = rng.normal(size=(num_pixels, latent_dim))
        if orthogonal:
            w = np.linalg.qr(w)[0] * [1.5, 0.7][:latent_dim]
        return LinearGaussian(w, rng.normal(size=num_pixels), np.array(noise))

    @staticmethod
    def untrained(truth, x, posterior=None, *, likelihood=None, **kwargs):
        """Return a model of random weights, with nothing of the truth but its sizes."""
        num_pixels, latent_dim = truth.w.shape
        model = kv.VAE(
            encoder=keras.layers.Dense(num_pixels),
            decoder=SpyingDense(num_pixels),
            posterior=posterior or kv.posteriors.DiagonalNormal(latent_dim),
            likelihood=likelihood or kv.likelihoods.Normal((num_pixels,), scale=float(truth.s)),
            **kwargs,
        )
        model.encoder.set_weights([np.eye(num_pixels), np.zeros(num_pixels)])
        return Case(model, truth, x)

    def with_decoder(self, truth, x, posterior=None, **kwargs):
        """Return a model with the true decoder, and an encoder of random weights."""
        case = self.untrained(truth, x, posterior, **kwargs)
        case.model.decoder.set_weights([truth.w.T, truth.b])
        rng = np.random.default_rng(7)
        for weight in (*case.model.encoder.weights, *case.model.posterior_head.weights):
            weight.assign(weight.numpy() + rng.normal(0.0, 0.2, weight.shape))
        return case

    def exact(self, truth, x, posterior=None, **kwargs):
        """Return a model with the true decoder, whose q(z|x) is p(z|x)."""
        case = self.with_decoder(truth, x, posterior, **kwargs)
        shift, covariance = truth.posterior(np.zeros_like(truth.b)[None])
        slope = truth.posterior(np.eye(len(truth.b)))[0] - shift
        self.set_posterior(case.model, slope, shift[0], np.linalg.cholesky(covariance))
        return case

    @staticmethod
    def set_posterior(model, slope, shift, tril):
        """Let q(z|x) be N(x slope + shift, tril tril^T)."""
        head, num_pixels = model.posterior_head, len(slope)
        model.encoder.set_weights([np.eye(num_pixels), np.zeros(num_pixels)])
        head.loc.set_weights([slope, shift])
        if isinstance(head, kv.posteriors.DiagonalNormal):
            raw = np.array([inverse_scale(scale) for scale in np.diag(tril)])
        else:
            raw_diagonal = [inverse_scale(scale) - inverse_scale(1.0) for scale in np.diag(tril)]
            raw = tfp.math.fill_triangular_inverse(np.tril(tril, -1) + np.diag(raw_diagonal))
        head.raw_scale.set_weights([np.zeros((num_pixels, len(raw))), raw])


@pytest.fixture
def cases():
    """Return the maker of linear-Gaussian cases."""
    return Cases()


@pytest.fixture
def generic(cases):
    """Return a case whose q(z|x) is wrong, its scale dependent on x."""
    truth = cases.truth()
    return cases.with_decoder(truth, truth.sample(4))
