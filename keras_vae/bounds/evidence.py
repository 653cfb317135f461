"""Bounds on log p(x), importance weights and their baselines."""

from __future__ import annotations

import math

import tensorflow as tf

from keras_vae.core import checks


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
    return tf.reduce_logsumexp(log_w, axis=0) - _log_size(log_w)


def normalized_weights(log_w: tf.Tensor) -> tf.Tensor:
    """The importance weights as probabilities of the K samples, without gradient.

    v_k = w_k / sum_j w_j

    Args:
        log_w: Log importance weights, `[K, ...]`.

    Returns:
        Tensor of the shape of `log_w`, which sums to one over its first axis.

    Example:
        >>> normalized_weights(tf.constant([[-1e6], [-1e6]])).numpy()
        array([[0.5],
               [0.5]], dtype=float32)

    References:
        Burda et al., 2016, eq. 14, arXiv:1509.00519.
    """
    return tf.stop_gradient(tf.nn.softmax(log_w, axis=0))


def leave_one_out_bound(log_w: tf.Tensor) -> tf.Tensor:
    """L_K without each sample, whose weight is replaced by the geometric mean of the others.

    L_-k = log 1/K (sum_{j != k} w_j + exp(1/(K-1) sum_{j != k} log w_j))

    This is VIMCO's baseline for the learning signal L_K of sample k; it does not depend on that
    sample.

    Args:
        log_w: Log importance weights, `[K, ...]` with K >= 2.

    Returns:
        Tensor of the shape of `log_w`, nats, without gradient.

    Example:
        >>> log_w = tf.math.log([[1.0], [2.0], [8.0]])
        >>> tf.exp(leave_one_out_bound(log_w)).numpy().round(4)  # with 4, sqrt(8), sqrt(2)
        array([[4.6667],
               [3.9428],
               [1.4714]], dtype=float32)

    References:
        Mnih and Rezende, 2016, eq. 9 and 10, arXiv:1602.06725.
    """
    log_w = tf.stop_gradient(log_w)
    # Sums without one term, from what is before it and after it: a difference would lose digits.
    before = tf.math.cumulative_logsumexp(log_w, axis=0, exclusive=True)
    after = tf.math.cumulative_logsumexp(log_w, axis=0, exclusive=True, reverse=True)
    terms = tf.stack([before, after, leave_one_out_mean(log_w)])
    return tf.reduce_logsumexp(terms, axis=0) - _log_size(log_w)


def leave_one_out_mean(values: tf.Tensor) -> tf.Tensor:
    """The mean of the other samples' values: the baseline for an expectation.

    b_k = 1/(K-1) sum_{j != k} f_j

    Args:
        values: Tensor `[K, ...]` with K >= 2.

    Returns:
        Tensor of the shape of `values`, without gradient.

    Example:
        >>> leave_one_out_mean(tf.constant([[1.0], [2.0], [6.0]])).numpy()
        array([[4. ],
               [3.5],
               [1.5]], dtype=float32)

    References:
        Mnih and Rezende, 2016, section 2.5, arXiv:1602.06725; Kool et al., 2019.
    """
    values = tf.stop_gradient(values)
    # Uses deviations from the largest, which keep their digits even if the values are large, and
    # sums of what is before and after, so that a sample of density zero, -inf, leaves its own mean
    # finite.
    largest = tf.reduce_max(values, axis=0, keepdims=True)
    rest = values - largest
    before = tf.cumsum(rest, axis=0, exclusive=True)
    after = tf.cumsum(rest, axis=0, exclusive=True, reverse=True)
    return largest + (before + after) / tf.cast(tf.shape(values)[0] - 1, values.dtype)


def with_gradient_of(value: tf.Tensor, surrogate: tf.Tensor) -> tf.Tensor:
    """Adds the gradient of `surrogate` to that of `value`, and leaves the value as it is.

    Args:
        value: Tensor.
        surrogate: Tensor of the same shape; only its gradient counts.

    Returns:
        Tensor equal to `value`.

    Example:
        >>> x = tf.Variable(3.0)
        >>> with tf.GradientTape() as tape:
        ...     y = with_gradient_of(2.0 * x, tf.square(x))
        >>> float(y), float(tape.gradient(y, x))
        (6.0, 8.0)
    """
    # Without subtracting the surrogate's own value, which may be large: inf - inf is NaN.
    return tf.custom_gradient(lambda v, s: (tf.identity(v), lambda g: (g, g)))(value, surrogate)


def lagrangian(rate: tf.Tensor, constraint: tf.Tensor, multiplier: tf.Tensor | float) -> tf.Tensor:
    """The rate with a constraint on the distortion, weighted by a multiplier.

    loss = rate + lambda * C

    Args:
        rate: KL(q(z|x) || p(z)), or its importance-weighted estimate, `[B]`.
        constraint: C, which must not be above 0 on average, `[B]`.
        multiplier: λ > 0.

    Returns:
        Tensor `[B]`.

    Example:
        >>> lagrangian(tf.constant([5.0]), tf.constant([2.0]), 3.0).numpy()
        array([11.], dtype=float32)

    References:
        Rezende and Viola, 2018, eq. 2 and algorithm 1, arXiv:1810.00597.
    """
    return rate + multiplier * constraint


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


def _log_size(values: tf.Tensor) -> tf.Tensor:
    """Returns log K for `[K, ...]`."""
    return tf.math.log(tf.cast(tf.shape(values)[0], values.dtype))
