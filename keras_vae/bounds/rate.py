"""The KL from the posterior to the prior, by groups of latent dimensions."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


def sampled_kl(log_q: tf.Tensor, log_p_z: tf.Tensor) -> tf.Tensor:
    """The unbiased estimate of the KL from samples of q, as one group or by groups of z.

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
    """The log-ratio of two densities, by groups if both have the same groups.

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
    """The distributions of the single dimensions, if a distribution factorizes over them.

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
    columns = _conditional_kls(q, p, z)
    if columns is None:
        return None
    totals = [tf.reduce_sum(column, axis=-1) for column in columns]
    return tf.reduce_mean(tf.stack(totals, axis=-1), axis=0)


def conditional_kl_of_dimensions(
    q: tfd.Distribution, p: tfd.Distribution, z: tf.Tensor
) -> tf.Tensor | None:
    """The KL of each dimension in closed form, given draws of the groups before its own.

    Args:
        q: Distribution with batch [B] and event [D].
        p: Distribution with batch [] or [B] and event [D].
        z: Draws of q, `[S, B, D]`, over which the expectation is taken.

    Returns:
        Tensor `[B, D]`, nats; None where `conditional_kl` is None, or if a group has only a joint
        KL.

    Example:
        >>> from keras_vae.distributions.chain import Chain
        >>> first = tfd.MultivariateNormalDiag([[0.0]], [[1.0]])
        >>> one, other = (
        ...     Chain(first, [lambda g, a=a: tfd.MultivariateNormalDiag(a * g, [1.0])], (1, 1))
        ...     for a in (1.0, 0.0))
        >>> conditional_kl_of_dimensions(one, other, tf.ones([5, 1, 2])).numpy()
        array([[0. , 0.5]], dtype=float32)
    """
    columns = _conditional_kls(q, p, z)
    if columns is None or sum(int(column.shape[-1]) for column in columns) != z.shape[-1]:
        return None
    return tf.reduce_mean(tf.concat(columns, axis=-1), axis=0)


def _conditional_kls(
    q: tfd.Distribution, p: tfd.Distribution, z: tf.Tensor
) -> list[tf.Tensor] | None:
    """Returns the KL of each group given those before, `[S, B, D_l]` or `[S, B, 1]`, or None."""
    if not _draw_alike(q, p):
        return None
    pairs = zip(q.walk_along(z), p.walk_along(z), strict=True)
    columns = [closed_form_kl(q_l, p_l) for (q_l, _), (p_l, _) in pairs]
    if any(column is None for column in columns):
        return None
    # The KL of the first group is the same for all draws.
    every_draw = tf.zeros(tf.shape(z)[:-1], z.dtype)[..., tf.newaxis]
    return [column + every_draw for column in columns if column is not None]


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
