"""Discrete variables: their distributions, and all the values that they can take."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.core.numerics import over_one_axis, softplus

tfd = tfp.distributions


class OneHotCategorical(tfd.OneHotCategorical):
    """`tfd.OneHotCategorical` with a faster log-density that keeps static shapes.

    log p(z) = sum_k z_k log p_k, which is linear in z even between the corners of the simplex.

    Example:
        >>> p = OneHotCategorical(logits=tf.zeros([4]), dtype=tf.float32)
        >>> round(float(p.log_prob([0.0, 0.0, 1.0, 0.0])), 4)
        -1.3863
    """

    def _sample_n(self, n: Any, seed: Any = None) -> tf.Tensor:
        return self._shaped(super()._sample_n(n, seed=seed))

    def _shaped(self, draws: tf.Tensor) -> tf.Tensor:
        # TFP reshapes through two axes, which loses the sizes that are known.
        draws.set_shape([None, *self.logits.shape])
        return draws

    def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(x * self.logits, axis=-1) - tf.reduce_logsumexp(self.logits, axis=-1)

    def _mean(self) -> tf.Tensor:
        # On a CPU `tf.nn.softmax` takes at most 5 axes, and [S, B, H, W, C, K] has 6.
        return tf.exp(tf.nn.log_softmax(self.logits))

    def _variance(self) -> tf.Tensor:
        mean = self._mean()
        return mean * (1.0 - mean)


class Bernoulli(tfd.Bernoulli):
    """`tfd.Bernoulli` with one softplus per element in its log-density instead of two.

    log p(z) = z l - softplus(l) with the logit l, which is linear in z even between 0 and 1.

    Example:
        >>> p = Bernoulli(logits=tf.zeros([]), dtype=tf.float32)
        >>> round(float(p.log_prob(1.0)), 4)
        -0.6931
    """

    def _log_prob(self, event: tf.Tensor) -> tf.Tensor:
        return over_one_axis(lambda z, logit: z * logit - softplus(logit), event, self.logits)


class _Relaxed:
    """Draws that lie between the values of a discrete variable and carry gradients.

    Everything except the draws is that of the discrete distribution: the log-density, which is
    extended linearly to the draws, the KL and the moments.

    Args:
        logits: The logits of the discrete distribution.
        temperature: Scalar > 0. Towards 0, the draws become those of the discrete distribution,
            and the variance of their gradients grows.
        straight_through: Whether to round draws to the nearest value but pass the gradient through
            as if they had not been rounded.
    """

    def __init__(self, logits: tf.Tensor, temperature: tf.Tensor, straight_through: bool = False):
        super().__init__(logits=logits, dtype=logits.dtype)  # type: ignore[call-arg]
        self._temperature = temperature
        self._straight_through = straight_through

    @property
    def reparameterization_type(self) -> Any:
        return tfd.FULLY_REPARAMETERIZED

    def _sample_n(self, n: Any, seed: Any = None) -> tf.Tensor:
        draws = self._relaxed_draws(n, seed)
        if not self._straight_through:
            return draws
        return tf.custom_gradient(lambda z: (self._nearest(z), lambda g: g))(draws)

    def _relaxed_draws(self, n: Any, seed: Any) -> tf.Tensor:
        raise NotImplementedError

    def _nearest(self, draws: tf.Tensor) -> tf.Tensor:
        raise NotImplementedError


class RelaxedOneHotCategorical(_Relaxed, OneHotCategorical):
    """One-hot rows, except that draws are a softmax of the logits with Gumbel noise.

    z = softmax((logits + g) / temperature),  g_k ~ Gumbel(0, 1)

    Example:
        >>> q = RelaxedOneHotCategorical(tf.zeros([2, 3]), temperature=tf.constant(0.5))
        >>> tf.reduce_sum(q.sample(seed=[0, 1]), axis=-1).numpy().round(4)
        array([1., 1.], dtype=float32)

    References:
        Jang et al., 2017, eq. 2, arXiv:1611.01144; Maddison et al., 2017, eq. 10 and appendix
        C.3.3 (the KL of the discrete distributions), arXiv:1611.00712.
    """

    def _relaxed_draws(self, n: Any, seed: Any) -> tf.Tensor:
        relaxed = tfd.RelaxedOneHotCategorical(self._temperature, logits=self.logits)
        return self._shaped(relaxed.sample(n, seed=seed))

    def _nearest(self, draws: tf.Tensor) -> tf.Tensor:
        return tf.one_hot(tf.argmax(draws, axis=-1), draws.shape[-1], dtype=draws.dtype)


class RelaxedBernoulli(_Relaxed, Bernoulli):
    """0 and 1, except that draws are a sigmoid of the logit with logistic noise.

    z = sigmoid((logit + log u - log(1 - u)) / temperature),  u ~ U(0, 1)

    Example:
        >>> q = RelaxedBernoulli(tf.zeros([2]), tf.constant(0.5), straight_through=True)
        >>> set(q.sample(50, seed=[0, 1]).numpy().flatten().tolist())
        {0.0, 1.0}

    References:
        Maddison et al., 2017, appendix B, arXiv:1611.00712.
    """

    def _relaxed_draws(self, n: Any, seed: Any) -> tf.Tensor:
        # The gradients of `tfd.RelaxedBernoulli` are NaN if logit / temperature > 88 in float32.
        noise = tfd.Logistic(tf.zeros_like(self.logits), 1.0).sample(n, seed=seed)
        return tf.sigmoid((self.logits + noise) / self._temperature)

    def _nearest(self, draws: tf.Tensor) -> tf.Tensor:
        return tf.round(draws)


def values(distribution: tfd.Distribution) -> tf.Tensor:
    """Returns the values that each of several independent discrete variables can take.

    Args:
        distribution: `tfd.Independent` of D one-hot or Bernoulli variables.

    Returns:
        Tensor `[K, K]` of one-hot rows, or `[2]` of 0 and 1.

    Raises:
        ValueError: If the distribution is of another kind.

    Example:
        >>> values(tfd.Independent(Bernoulli(logits=tf.zeros([5]), dtype=tf.float32), 1)).numpy()
        array([0., 1.], dtype=float32)
    """
    inner = distribution.distribution if isinstance(distribution, tfd.Independent) else None
    if inner is not None and distribution.event_shape.rank == inner.event_shape.rank + 1:
        if isinstance(inner, tfd.OneHotCategorical):
            return tf.eye(inner.event_shape[0], dtype=inner.dtype)
        if isinstance(inner, tfd.Bernoulli):
            return tf.constant([0, 1], inner.dtype)
    rule = "must be one of independent discrete variables, as of a Categorical or Bernoulli"
    raise checks.invalid("distribution", rule, distribution)


def support(distribution: tfd.Distribution, max_points: int) -> tf.Tensor:
    """Returns all values of several independent discrete variables.

    Args:
        distribution: `tfd.Independent` of D one-hot or Bernoulli variables.
        max_points: Maximum of their number, which is N = K^D or 2^D.

    Returns:
        Tensor `[N, D, K]` or `[N, D]`.

    Raises:
        ValueError: If the distribution is of another kind, or has more values.

    Example:
        >>> coins = Bernoulli(logits=tf.zeros([2]), dtype=tf.float32)
        >>> support(tfd.Independent(coins, 1), max_points=4).numpy()
        array([[0., 0.],
               [0., 1.],
               [1., 0.],
               [1., 1.]], dtype=float32)
    """
    each, count = values(distribution), distribution.event_shape[0]
    base = each.shape[0]
    points = base**count
    if points > max_points:
        rule = f"must be at least {base}^{count}, the number of values of z"
        raise checks.invalid("max_points", rule, max_points)
    # The numbers 0 .. N-1, written with D digits.
    strides = tf.constant([base**power for power in reversed(range(count))])
    return tf.gather(each, tf.range(points)[:, tf.newaxis] // strides % base)
