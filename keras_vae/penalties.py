"""Penalties on the rate and on the aggregate posterior q(z) = E_x q(z|x), as pure functions.

Shapes: S samples, B examples, D latent dimensions. Densities and results from them are in nats.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.numerics import to_dtype

__all__ = [
    "KERNELS",
    "KLParts",
    "SAMPLINGS",
    "capacity",
    "covariance_deviations",
    "kl_parts",
    "log_mixture",
    "log_sampling_weights",
    "mmd",
]

KERNELS = ("rbf", "imq")
SAMPLINGS = ("weighted", "stratified")


class KLParts(NamedTuple):
    """KL(q(z|x) || p(z)) in three parts that add up to it.

    Attributes:
        mutual_information: log q(z|x) - log q(z); its mean is I(x; z).
        total_correlation: log q(z) - sum_d log q(z_d); its mean is KL(q(z) || prod_d q(z_d)).
        dimension_wise_kl: sum_d log q(z_d) - log p(z); its mean is sum_d KL(q(z_d) || p(z_d)).

    Example:
        >>> KLParts(*tf.constant([2.0, 0.5, 1.5])).total_correlation.numpy()
        np.float32(0.5)

    References:
        Chen et al., 2018, eq. 2, arXiv:1802.04942.
    """

    mutual_information: tf.Tensor
    total_correlation: tf.Tensor
    dimension_wise_kl: tf.Tensor


def kl_parts(
    log_q: tf.Tensor, log_p_z: tf.Tensor, log_aggregate: tf.Tensor, log_marginals: tf.Tensor
) -> KLParts:
    """Splits the sampled KL into mutual information, total correlation and dimension-wise KL.

    Args:
        log_q: log q(z|x) at samples of q(z|x), `[S, B]`.
        log_p_z: log p(z) under a prior that factorizes over dimensions, `[S, B]`.
        log_aggregate: log q(z), `[S, B]`.
        log_marginals: log q(z_d) of each dimension, `[S, B, D]`.

    Returns:
        `KLParts` of Tensors `[S, B]`, nats.

    Example:
        >>> one = tf.ones([1, 1])
        >>> parts = kl_parts(5.0 * one, 1.0 * one, 3.0 * one, tf.constant([[[0.5, 2.0]]]))
        >>> [part.numpy().item() for part in parts]
        [2.0, 0.5, 1.5]

    References:
        Chen et al., 2018, eq. 2, arXiv:1802.04942.
    """
    log_product = tf.reduce_sum(log_marginals, axis=-1)
    return KLParts(log_q - log_aggregate, log_aggregate - log_product, log_product - log_p_z)


def log_mixture(log_components: tf.Tensor, log_weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the log-density of a mixture of factorized components, and those of its marginals.

    log q(z) = log sum_j w_j prod_d q_j(z_d),  log q(z_d) = log sum_j w_j q_j(z_d)

    Args:
        log_components: log q_j(z_d) of each of J components, `[..., J, D]`.
        log_weights: log w_j, `[..., J]`.

    Returns:
        Tensors `[...]` and `[..., D]`, nats.

    Example:
        >>> joint, marginals = log_mixture(tf.math.log([[0.1, 0.2], [0.3, 0.4]]), tf.math.log(0.5))
        >>> tf.exp(joint).numpy().round(4), tf.exp(marginals).numpy().round(4)
        (np.float32(0.07), array([0.2, 0.3], dtype=float32))
    """
    joint = tf.reduce_logsumexp(tf.reduce_sum(log_components, axis=-1) + log_weights, axis=-1)
    marginals = tf.reduce_logsumexp(log_components + log_weights[..., tf.newaxis], axis=-2)
    return joint, marginals


def log_sampling_weights(
    own: tf.Tensor, dataset_size: int, sampling: str = "weighted", dtype: tf.DType = tf.float32
) -> tf.Tensor:
    """Returns the log-weights of a batch's posteriors in the aggregate posterior of the data.

    log q(z_i) ~ log sum_j w_ij q(z_i|x_j),  z_i ~ q(z|x_i),  for N data and a batch of B

    weighted:    w_ij = 1 / (N B).  log q(z) is a lower bound, by log B to log N too small.
    stratified:  w_ii = 1 / N,  w_ij = (N-1) / (N (B-1)).  q(z) is unbiased; exact for B = N.

    The stratified weights of the paper assign the remainder to one j of the batch; the weights here
    are their mean over the choice of j. With a batch of 64, the variance of log q(z) was the same
    for both. Some code in use has 1 / N in the first column instead of on the diagonal, so that z_i
    has a weight of about 1 / (B-1) under its own posterior, and q(z) is too large.

    Args:
        own: Whether z_i was drawn from q(z|x_j), `[B, J]`, for J posteriors of the batch.
        dataset_size: Number N of data.
        sampling: One of `SAMPLINGS`.
        dtype: Data type of the result.

    Returns:
        Tensor `[B, J]`.

    Raises:
        ValueError: If the sampling is unknown.

    Example:
        >>> own = tf.eye(2) > 0.0
        >>> tf.exp(log_sampling_weights(own, 10, "stratified")).numpy().round(4)
        array([[0.1, 0.9],
               [0.9, 0.1]], dtype=float32)

    References:
        Chen et al., 2018, eq. 3 and appendix C, arXiv:1802.04942.
    """
    checks.option("sampling", sampling, SAMPLINGS)
    batch_size = tf.cast(tf.shape(own)[0], dtype)
    log_size = tf.math.log(to_dtype(dataset_size, dtype))
    if sampling == "weighted":
        return tf.fill(tf.shape(own), -log_size - tf.math.log(batch_size))
    others = tf.maximum(batch_size - 1.0, 1.0)  # A batch of one has no others.
    log_share = tf.math.log(to_dtype(dataset_size - 1, dtype) / others) - log_size
    return tf.where(own, -log_size, log_share)


def capacity(kl: tf.Tensor, capacity: tf.Tensor | float, batch_mean: tf.Tensor) -> tf.Tensor:
    """Returns how far the mean KL is from a capacity.

    |E_batch KL - C|

    The result is spread over the examples, so that its mean over the batch is the formula above,
    with the corresponding gradient.

    Args:
        kl: KL(q(z|x) || p(z)), `[B]`.
        capacity: C >= 0, nats.
        batch_mean: Mean of `kl` over the (global) batch, without gradient.

    Returns:
        Tensor `[B]`, nats. Individual values may be negative.

    Example:
        >>> capacity(tf.constant([1.0, 4.0]), 3.0, batch_mean=tf.constant(2.5)).numpy()
        array([ 2., -1.], dtype=float32)

    References:
        Burgess et al., 2018, eq. 8, arXiv:1804.03599.
    """
    return tf.sign(batch_mean - capacity) * (kl - capacity)


def covariance_deviations(covariance: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns how far a covariance is from the identity, off the diagonal and on it.

    sum_{i != j} Cov_ij^2,  sum_i (Cov_ii - 1)^2

    Args:
        covariance: Tensor `[D, D]`.

    Returns:
        Two scalars.

    Example:
        >>> off, on = covariance_deviations(tf.constant([[1.5, 0.5], [0.5, 1.0]]))
        >>> float(off), float(on)
        (0.5, 0.25)

    References:
        Kumar et al., 2018, eq. 6 and 7, arXiv:1711.00848.
    """
    diagonal = tf.linalg.diag_part(covariance)
    off_diagonal = tf.linalg.set_diag(covariance, tf.zeros_like(diagonal))
    return tf.reduce_sum(tf.square(off_diagonal)), tf.reduce_sum(tf.square(diagonal - 1.0))


def mmd(
    x: tf.Tensor, y: tf.Tensor, kernel: str = "rbf", bandwidth: float | tf.Tensor = 1.0
) -> tf.Tensor:
    """Returns an unbiased estimate of the squared maximum mean discrepancy of two distributions.

    MMD = E[k(x, x')] + E[k(y, y')] - 2 E[k(x, y)],  x != x', y != y' in the sample

    rbf:  k(x, y) = exp(-||x - y||^2 / (2 h^2))
    imq:  k(x, y) = 2 h^2 / (2 h^2 + ||x - y||^2), the inverse multiquadratic kernel

    Args:
        x: Sample from one distribution, `[..., N, D]`.
        y: Sample from the other distribution, `[..., M, D]`.
        kernel: One of `KERNELS`.
        bandwidth: h > 0, in the unit of x.

    Returns:
        Tensor `[...]`. For equal distributions its mean is zero, so it may be negative. It is zero
        if a sample is a single point, of which there are no pairs.

    Raises:
        ValueError: If the kernel is unknown.

    Example:
        >>> x, y = tf.constant([[0.0], [1.0]]), tf.constant([[2.0], [2.0]])
        >>> round(float(mmd(x, y, "imq", bandwidth=0.5 ** 0.5)), 4)  # 1/2 + 1 - 2 (1/5 + 1/2) / 2
        0.8

    References:
        Gretton et al., 2012, eq. 3 (JMLR 13); Zhao et al., 2017, section 3.2, arXiv:1706.02262;
        Tolstikhin et al., 2018, section 4, arXiv:1711.01558 (inverse multiquadratic kernel).
    """
    checks.option("kernel", kernel, KERNELS)
    scale = 2.0 * tf.square(to_dtype(bandwidth, x.dtype))

    def similarity(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        differences = a[..., :, tf.newaxis, :] - b[..., tf.newaxis, :, :]
        distances = tf.reduce_sum(tf.square(differences), axis=-1)
        return tf.exp(-distances / scale) if kernel == "rbf" else scale / (scale + distances)

    between = tf.reduce_mean(similarity(x, y), axis=[-2, -1])
    within = _mean_of_pairs(similarity(x, x)) + _mean_of_pairs(similarity(y, y))
    pairs = tf.minimum(tf.shape(x)[-2], tf.shape(y)[-2]) > 1
    return tf.where(pairs, within - 2.0 * between, tf.zeros_like(between))


def _mean_of_pairs(values: tf.Tensor) -> tf.Tensor:
    """Returns the mean of `[..., N, N]` off the diagonal, `[...]`; zero for N = 1."""
    size = tf.cast(tf.shape(values)[-1], values.dtype)
    # XLA has no gradient of `tf.linalg.set_diag` for dynamic sizes.
    total = tf.reduce_sum(values, axis=[-2, -1]) - tf.linalg.trace(values)
    return total / tf.maximum(size * (size - 1.0), 1.0)
