"""Bounds on log p(x) as pure functions of log-densities: no variables, no batch means, no logging.

Shapes: S samples, B examples, G groups of latent dimensions, D latent dimensions. All in nats.
"""

from __future__ import annotations

import math

import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks

tfd = tfp.distributions

__all__ = [
    "FREE_BITS_MODES",
    "bits_per_dimension",
    "closed_form_kl",
    "elbo",
    "free_bits",
    "importance_weighted",
    "sampled_kl",
]

FREE_BITS_MODES = ("per_dimension", "per_example", "batch_averaged")


def elbo(log_p_x: tf.Tensor, kl: tf.Tensor, beta: tf.Tensor | float = 1.0) -> tf.Tensor:
    """The evidence lower bound, with the KL weighted by β.

    ELBO = E_q[log p(x|z)] - beta * KL(q(z|x) || p(z))

    Args:
        log_p_x: log p(x|z) at samples of q, `[S, B]`.
        kl: KL(q(z|x) || p(z)), `[B]`.
        beta: Weight of the KL; a bound on log p(x) for beta >= 1.

    Returns:
        Tensor `[B]`, nats.

    Example:
        >>> elbo(tf.constant([[-3.0], [-5.0]]), tf.constant([1.0])).numpy()
        array([-5.], dtype=float32)

    References:
        Kingma and Welling, 2014, eq. 3, arXiv:1312.6114; Higgins et al., 2017, eq. 4.
    """
    return tf.reduce_mean(log_p_x, axis=0) - beta * kl


def free_bits(
    kl: tf.Tensor, floor: tf.Tensor | float, batch_mean: tf.Tensor, mode: str = "per_dimension"
) -> tf.Tensor:
    """The KL with a floor λ, below which it costs the same and has no gradient.

    per_dimension:   sum_g max(λ, E_batch KL_g)
    per_example:     sum_g max(λ, KL_g)
    batch_averaged:  max(λ, E_batch sum_g KL_g)

    The two batch means are spread over the examples, so that the mean of the result over the
    batch is the formula, with its gradient. λ = 0 is no floor, also for a sampled KL below zero.

    Args:
        kl: KL of each group, `[B, G]`.
        floor: λ >= 0 in nats: of each group, or of the whole latent for `batch_averaged`.
        batch_mean: Mean of `kl` over the (global) batch, `[G]`.
        mode: One of `FREE_BITS_MODES`.

    Returns:
        Tensor `[B]`, nats.

    Raises:
        ValueError: If the mode is unknown.

    Example:
        >>> kl = tf.constant([[0.1, 2.0], [0.3, 4.0]])
        >>> free_bits(kl, 0.5, tf.reduce_mean(kl, axis=0)).numpy()
        array([2.5, 4.5], dtype=float32)

    References:
        Kingma et al., 2016, eq. 15 and appendix C.8, arXiv:1606.04934.
    """
    checks.option("mode", mode, FREE_BITS_MODES)
    floor = tf.cast(floor, kl.dtype)
    floor = tf.where(floor > 0.0, floor, tf.constant(-math.inf, kl.dtype))
    if mode == "per_example":
        return tf.reduce_sum(tf.maximum(kl, floor), axis=-1)
    if mode == "batch_averaged":
        kl = tf.reduce_sum(kl, axis=-1, keepdims=True)
        batch_mean = tf.reduce_sum(batch_mean, keepdims=True)
    return tf.reduce_sum(tf.where(batch_mean > floor, kl, floor), axis=-1)


def importance_weighted(log_w: tf.Tensor) -> tf.Tensor:
    """The importance-weighted bound on log p(x), tighter with every sample.

    L_K = log (1/K sum_k w_k) = logsumexp_k(log w_k) - log K

    Args:
        log_w: log p(x, z) - log q(z|x) at K samples of q, `[K, B]`.

    Returns:
        Tensor `[B]`, nats. For K = 1 it is the ELBO with a sampled KL.

    Example:
        >>> importance_weighted(tf.constant([[-90.0], [-90.0]])).numpy()
        array([-90.], dtype=float32)

    References:
        Burda et al., 2016, eq. 8, arXiv:1509.00519.
    """
    num_samples = tf.cast(tf.shape(log_w)[0], log_w.dtype)
    return tf.reduce_logsumexp(log_w, axis=0) - tf.math.log(num_samples)


def sampled_kl(log_q: tf.Tensor, log_p_z: tf.Tensor) -> tf.Tensor:
    """The KL estimated by samples of q, without bias, as one group.

    KL = E_q[log q(z|x) - log p(z)]

    Args:
        log_q: log q(z|x), `[S, B]`.
        log_p_z: log p(z), `[S, B]`.

    Returns:
        Tensor `[B, 1]`, nats. Single estimates may be negative.

    Example:
        >>> sampled_kl(tf.constant([[1.0], [3.0]]), tf.constant([[0.5], [0.5]])).numpy()
        array([[1.5]], dtype=float32)
    """
    return tf.reduce_mean(log_q - log_p_z, axis=0)[:, tf.newaxis]


def closed_form_kl(q: tfd.Distribution, p: tfd.Distribution) -> tf.Tensor | None:
    """KL(q || p) in closed form, split over dimensions where both distributions factorize.

    Args:
        q: Distribution with batch [B] and event [D].
        p: Distribution with batch [] or [B] and event [D].

    Returns:
        Tensor `[B, D]` where both factorize, `[B, 1]` where only their joint KL is known, in nats;
        None where TFP registers no closed form.

    Example:
        >>> q = tfd.MultivariateNormalDiag([[1.0, 0.0]], [[1.0, 1.0]])
        >>> closed_form_kl(q, tfd.MultivariateNormalDiag([0.0, 0.0], [1.0, 1.0])).numpy()
        array([[0.5, 0. ]], dtype=float32)
    """
    q_factors, p_factors = _factors(q), _factors(p)
    try:
        if q_factors is not None and p_factors is not None:
            return tfd.kl_divergence(q_factors, p_factors)
        return tfd.kl_divergence(q, p)[:, tf.newaxis]
    except NotImplementedError:
        return None


def _factors(distribution: tfd.Distribution) -> tfd.Distribution | None:
    """Returns the distribution of the single dimensions (batch [..., D]), or None."""
    if isinstance(distribution, tfd.MultivariateNormalDiag):
        return tfd.Normal(distribution.mean(), distribution.stddev())
    if isinstance(distribution, tfd.Independent):
        inner = distribution.distribution
        whole_event = distribution.event_shape.rank == 1 and inner.event_shape.rank == 0
        return inner if whole_event else None
    return None


def bits_per_dimension(nats: tf.Tensor, num_dimensions: int) -> tf.Tensor:
    """Converts a negative log-likelihood from nats to bits per dimension.

    bits/dim = nats / (ln 2 * dims)

    Args:
        nats: Negative log-likelihood of whole data points.
        num_dimensions: Number of dimensions of one data point.

    Returns:
        Tensor of the shape of `nats`, bits/dim.

    Example:
        >>> round(float(bits_per_dimension(tf.constant(3072 * 0.6931472), 3072)), 6)
        1.0
    """
    return nats / (math.log(2.0) * checks.integer("num_dimensions", num_dimensions))
