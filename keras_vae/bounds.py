"""Bounds on log p(x) as pure functions of log-densities: no variables, no batch means, no logging.

Shapes: S or K samples, B examples, G groups of latent dimensions, D latent dimensions. All in nats.
"""

from __future__ import annotations

import math

import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.core.numerics import to_dtype

tfd = tfp.distributions

__all__ = [
    "FREE_BITS_MODES",
    "balancing_weights",
    "bits_per_dimension",
    "closed_form_kl",
    "conditional_kl",
    "elbo",
    "estimated_kl",
    "factors",
    "free_bits",
    "importance_weighted",
    "lagrangian",
    "leave_one_out_bound",
    "leave_one_out_mean",
    "log_prob_by_group",
    "log_ratio_by_group",
    "normalized_weights",
    "sampled_kl",
    "sum_groups",
    "with_gradient_of",
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

    The two batch means are spread over the examples, so that the mean of the result over the
    batch is the formula, with its gradient. λ = 0 is no floor, also for a sampled KL below zero.

    Args:
        kl: KL of each group, `[B, G]`.
        floor: λ >= 0 in nats: of each group, or of the whole latent for `batch_averaged`.
        batch_mean: Mean of `kl` over the (global) batch, `[G]`.
        mode: One of `FREE_BITS_MODES`.
        weights: w of each group, `[G]`, as of `balancing_weights`; 1 for `batch_averaged`.

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
    """Weights of groups that keep any of them from being switched off while the KL comes in.

    γ_l = G r_l / sum_k r_k,  r_l = (max(E_batch KL_l, 0) + 0.01) / α_l

    A group pays for its KL in proportion to what it has, so those with little get more. Their mean
    is 1, and no gradient passes through them.

    Args:
        batch_mean: Mean of the KL of each group over the (global) batch, `[G]`, nats.
        alpha: α of each group, > 0: larger groups get larger ones, as they should hold more.

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
    """What L_K would be without each sample, its weight replaced by the others' geometric mean.

    L_-k = log 1/K (sum_{j != k} w_j + exp(1/(K-1) sum_{j != k} log w_j))

    The baseline of VIMCO for the learning signal L_K of sample k, on which it does not depend.

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
    # Sums without one term, by what is before it and after it: a difference would lose the digits.
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
    # As deviations from the largest, which keep their digits where the values are large; and by
    # what is before and after, so that a sample of density zero, -inf, leaves its own mean finite.
    largest = tf.reduce_max(values, axis=0, keepdims=True)
    rest = values - largest
    before = tf.cumsum(rest, axis=0, exclusive=True)
    after = tf.cumsum(rest, axis=0, exclusive=True, reverse=True)
    return largest + (before + after) / tf.cast(tf.shape(values)[0] - 1, values.dtype)


def with_gradient_of(value: tf.Tensor, surrogate: tf.Tensor) -> tf.Tensor:
    """Adds the gradient of `surrogate` to that of `value`, and leaves the value as it is.

    Args:
        value: Tensor.
        surrogate: Tensor of the same shape, of which only the gradient counts.

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
        constraint: C, what must not be above 0 in the mean, `[B]`.
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


def sampled_kl(log_q: tf.Tensor, log_p_z: tf.Tensor) -> tf.Tensor:
    """The KL estimated by samples of q, without bias, as one group or by groups of z.

    KL = E_q[log q(z|x) - log p(z)]

    Args:
        log_q: log q(z|x), `[S, B]`, or the densities of its groups, `[S, B, G]`.
        log_p_z: log p(z), of the same rank.

    Returns:
        Tensor `[B, G]`, nats, with G = 1 unless both have the same groups. Single estimates may be
        negative.

    Example:
        >>> sampled_kl(tf.constant([[1.0], [3.0]]), tf.constant([[0.5], [0.5]])).numpy()
        array([[1.5]], dtype=float32)
    """
    return tf.reduce_mean(log_ratio_by_group(log_q, log_p_z), axis=0)


def log_ratio_by_group(log_q: tf.Tensor, log_p_z: tf.Tensor) -> tf.Tensor:
    """The log-ratio of two densities, by groups where both have the same.

    log q(z|x) - log p(z)

    Args:
        log_q: log q(z|x), `[S, B]`, or the densities of its groups, `[S, B, G]`.
        log_p_z: log p(z), of the same rank.

    Returns:
        Tensor `[S, B, G]`, nats, with G = 1 unless both have the same groups.

    Example:
        >>> log_ratio_by_group(tf.ones([2, 1, 3]), tf.zeros([2, 1, 3])).shape
        TensorShape([2, 1, 3])
        >>> log_ratio_by_group(tf.ones([2, 1, 3]), tf.zeros([2, 1, 1])).numpy()[0]
        array([[3.]], dtype=float32)
    """
    if log_q.shape.rank == 2:
        log_q, log_p_z = log_q[..., tf.newaxis], log_p_z[..., tf.newaxis]
    elif log_q.shape[-1] != log_p_z.shape[-1]:
        log_q, log_p_z = sum_groups(log_q)[..., tf.newaxis], sum_groups(log_p_z)[..., tf.newaxis]
    return log_q - log_p_z


def sum_groups(log_p: tf.Tensor) -> tf.Tensor:
    """The log-density of z, given those of its groups.

    log p(z) = sum_l log p(g_l | groups drawn before)

    Args:
        log_p: Log-densities of the groups, `[..., G]`.

    Returns:
        Tensor `[...]`, nats.

    Example:
        >>> sum_groups(tf.constant([[-1.0, -2.0]])).numpy()
        array([-3.], dtype=float32)
    """
    return tf.reduce_sum(log_p, axis=-1)


def log_prob_by_group(distribution: tfd.Distribution, z: tf.Tensor) -> tf.Tensor:
    """The log-density of each group of z given those drawn before it; their sum is log p(z).

    Args:
        distribution: Distribution whose event is z; it has a method of this name if z has groups.
        z: Values `[..., *E]`.

    Returns:
        Tensor `[..., G]`, nats, with the groups in the order in which they lie in z.

    Example:
        >>> p = tfd.MultivariateNormalDiag([0.0, 0.0], [1.0, 1.0])
        >>> log_prob_by_group(p, tf.zeros([3, 2])).shape
        TensorShape([3, 1])
    """
    if hasattr(distribution, "log_prob_by_group"):
        return distribution.log_prob_by_group(z)
    return distribution.log_prob(z)[..., tf.newaxis]


def factors(distribution: tfd.Distribution) -> tfd.Distribution | None:
    """The distributions of the single dimensions, where a distribution factorizes over them.

    p(z) = prod_d p_d(z_d)

    Args:
        distribution: Distribution with batch [...] and event [D, ...].

    Returns:
        Distribution with batch [..., D], or None if it is not known to factorize.

    Example:
        >>> factors(tfd.MultivariateNormalDiag([0.0, 0.0], [1.0, 1.0])).batch_shape
        TensorShape([2])
    """
    if isinstance(distribution, tfd.MultivariateNormalDiag):
        return tfd.Normal(distribution.mean(), distribution.stddev())
    if isinstance(distribution, tfd.Independent):
        inner = distribution.distribution
        whole_event = distribution.event_shape.rank == inner.event_shape.rank + 1
        return inner if whole_event else None
    return None


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
    q_factors, p_factors = factors(q), factors(p)
    try:
        if q_factors is not None and p_factors is not None:
            return tfd.kl_divergence(q_factors, p_factors)
        return tfd.kl_divergence(q, p)[..., tf.newaxis]
    except NotImplementedError:
        return None


def conditional_kl(q: tfd.Distribution, p: tfd.Distribution, z: tf.Tensor) -> tf.Tensor | None:
    """The KL of each group in closed form, given draws of the groups before it.

    KL_l = E_q KL(q(g_l | groups before, x) || p(g_l | groups before))

    Args:
        q: Distribution with batch [B] and event [D].
        p: Distribution with batch [] or [B] and event [D].
        z: Draws of q, `[S, B, D]`, over which the expectation is taken.

    Returns:
        Tensor `[B, G]`, nats; None unless q and p draw the same groups in the same order and TFP
        registers a closed form for each.

    Example:
        >>> from keras_vae.distributions.chain import Chain
        >>> first = tfd.MultivariateNormalDiag([[0.0]], [[1.0]])
        >>> one, other = (
        ...     Chain(first, [lambda g, a=a: tfd.MultivariateNormalDiag(a * g, [1.0])], (1, 1))
        ...     for a in (1.0, 0.0))
        >>> conditional_kl(one, other, 2.0 * tf.ones([5, 1, 2])).numpy()  # 0 and 2^2 / 2
        array([[0., 2.]], dtype=float32)

    References:
        Soenderby et al., 2016, section 2, arXiv:1602.02282.
    """
    if not _draw_alike(q, p):
        return None
    pairs = zip(q.walk_along(z), p.walk_along(z), strict=True)
    columns = [closed_form_kl(q_l, p_l) for (q_l, _), (p_l, _) in pairs]
    if any(column is None for column in columns):
        return None
    every_draw = tf.zeros(tf.shape(z)[:-1], z.dtype)  # that of the first group is the same for all
    totals = [tf.reduce_sum(column, axis=-1) + every_draw for column in columns]
    return tf.reduce_mean(tf.stack(totals, axis=-1), axis=0)


def estimated_kl(q: tfd.Distribution, p: tfd.Distribution, z: tf.Tensor) -> tf.Tensor:
    """The KL of each group from draws of q: `conditional_kl` where there is one, else `sampled_kl`.

    Args:
        q: Distribution with batch [B] and event [D].
        p: Distribution with batch [] or [B] and event [D].
        z: Draws of q, `[S, B, *E]`.

    Returns:
        Tensor `[B, G]`, nats.

    Example:
        >>> q = tfd.Independent(tfd.Normal([[0.0]], 1.0), 1)
        >>> estimated_kl(q, q, tf.zeros([3, 1, 1])).numpy()
        array([[0.]], dtype=float32)
    """
    kl = conditional_kl(q, p, z)
    if kl is not None:
        return kl
    return sampled_kl(log_prob_by_group(q, z), log_prob_by_group(p, z))


def _draw_alike(q: tfd.Distribution, p: tfd.Distribution) -> bool:
    """Returns whether two distributions draw the same groups in the same order."""
    q_groups, p_groups = ((getattr(d, "order", None), getattr(d, "sizes", None)) for d in (q, p))
    return q_groups == p_groups and None not in q_groups


def _log_size(values: tf.Tensor) -> tf.Tensor:
    """Returns log K for `[K, ...]`."""
    return tf.math.log(tf.cast(tf.shape(values)[0], values.dtype))


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
