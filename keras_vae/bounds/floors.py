"""What each group of latent dimensions pays for its KL."""

from __future__ import annotations

import math

import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.numerics import to_dtype

FREE_BITS_MODES = ("per_dimension", "per_example", "batch_averaged")


def free_bits(
    kl: tf.Tensor,
    floor: tf.Tensor | float,
    batch_mean: tf.Tensor,
    mode: str = "per_dimension",
    weights: tf.Tensor | float = 1.0,
) -> tf.Tensor:
    """The KL with a floor λ, below which it costs the same and has no gradient.

    per_dimension:   sum_g w_g max(λ, E_batch KL_g)
    per_example:     sum_g w_g max(λ, KL_g)
    batch_averaged:  max(λ, E_batch sum_g KL_g)

    The two batch means are spread over the examples, so that the mean of the result over the batch
    equals the formula and has its gradient. λ = 0 means no floor, even for a sampled KL below zero.

    Args:
        kl: KL of each group, `[B, G]`.
        floor: λ >= 0 in nats, for each group, or for the whole of z with `batch_averaged`.
        batch_mean: Mean of `kl` over the (global) batch, `[G]`.
        mode: One of `FREE_BITS_MODES`.
        weights: w for each group, `[G]`, as from `balancing_weights`; 1 for `batch_averaged`.

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
    floor = to_dtype(floor, kl.dtype)
    floor = tf.where(floor > 0.0, floor, tf.constant(-math.inf, kl.dtype))
    if mode == "per_example":
        return tf.reduce_sum(weights * tf.maximum(kl, floor), axis=-1)
    if mode == "batch_averaged":
        kl = tf.reduce_sum(kl, axis=-1, keepdims=True)
        batch_mean = tf.reduce_sum(batch_mean, keepdims=True)
    return tf.reduce_sum(weights * tf.where(batch_mean > floor, kl, floor), axis=-1)


def balancing_weights(batch_mean: tf.Tensor, alpha: tf.Tensor | float = 1.0) -> tf.Tensor:
    """Weights of groups that keep any of them from being switched off while the KL is phased in.

    γ_l = G r_l / sum_k r_k,  r_l = (max(E_batch KL_l, 0) + 0.01) / α_l

    The price of a group's KL is proportional to how much KL it has, so groups with little get more.
    The mean of the weights is 1, and no gradient passes through them.

    Args:
        batch_mean: Mean of the KL of each group over the (global) batch, `[G]`, nats.
        alpha: α of each group, > 0: larger groups get a larger α, as they should hold more.

    Returns:
        Tensor `[G]`.

    Example:
        >>> balancing_weights(tf.constant([0.99, 2.99])).numpy()
        array([0.5, 1.5], dtype=float32)

    References:
        Vahdat and Kautz, 2020, appendix A ("Balancing the KL"), arXiv:2007.03898.
    """
    ratio = (tf.maximum(tf.stop_gradient(batch_mean), 0.0) + 0.01) / to_dtype(
        alpha, batch_mean.dtype
    )
    return ratio / tf.reduce_mean(ratio)
