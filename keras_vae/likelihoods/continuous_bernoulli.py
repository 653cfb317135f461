"""The continuous Bernoulli likelihood, for data in [0, 1]."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core.numerics import over_one_axis
from keras_vae.likelihoods.base import MEAN_MARGIN, Likelihood, Support, serializable

tfd = tfp.distributions


def log_partition(logits: tf.Tensor) -> tf.Tensor:
    """Returns the log of the integral of exp(l x) over [0, 1]: log((exp(l) - 1) / l).

    Near l = 0, where the quotient and its gradient suffer from cancellation, it uses the series of
    l/2 + log(sinh(t) / t) in t = l/2. Both forms are exact to float64 where they meet, |l| = 0.3.
    """
    near_zero = tf.abs(logits) < 0.3
    t2 = tf.square(logits / 2)
    series = logits / 2 + t2 * (1 / 6 - t2 * (1 / 180 - t2 * (1 / 2835 - t2 / 37800)))
    # The branch not taken must be finite as well: `where` multiplies its gradient by zero.
    safe = tf.where(near_zero, tf.ones_like(logits), logits)
    size = tf.abs(safe)
    closed = tf.nn.relu(safe) + tf.math.log(-tf.math.expm1(-size) / size)
    return tf.where(near_zero, series, closed)


def mean_of(logits: tf.Tensor) -> tf.Tensor:
    """Returns the mean, the derivative of `log_partition`: 1 / (1 - exp(-l)) - 1 / l.

    Near l = 0, where both terms have a pole, it uses the series. Otherwise the first term is
    written as (1 + 1 / tanh(l/2)) / 2, which does not overflow for any l. It uses `tanh` rather
    than `expm1` because every runtime to which models are exported has it.
    """
    near_zero = tf.abs(logits) < 0.3
    l2 = tf.square(logits)
    terms = 1 / 12 - l2 * (1 / 720 - l2 * (1 / 30240 - l2 * (1 / 1209600 - l2 / 47900160)))
    # The branch not taken must be finite as well: `where` multiplies its gradient by zero.
    safe = tf.where(near_zero, tf.ones_like(logits), logits)
    closed = (1.0 + 1.0 / tf.tanh(safe / 2)) / 2 - 1.0 / safe
    return tf.where(near_zero, 0.5 + logits * terms, closed)


class _ContinuousBernoulli(tfd.ContinuousBernoulli):
    """`tfd.ContinuousBernoulli` with fewer operations in the log-density and the mean."""

    def _log_prob(self, event: tf.Tensor) -> tf.Tensor:
        log_density = over_one_axis(
            lambda x, logit: x * logit - log_partition(logit), event, self.logits
        )
        outside = (event < 0) | (event > 1)
        return tf.where(outside, tf.constant(float("-inf"), log_density.dtype), log_density)

    def _mean(self) -> tf.Tensor:
        return mean_of(self.logits)


@serializable
class ContinuousBernoulli(Likelihood):
    """Independent continuous Bernoulli variables with logits from the decoder.

    log p(x|z) = sum_e x_e l_e - log((exp(l_e) - 1) / l_e),  l = decoder(z)

    It is a density on [0, 1], where a `Bernoulli` lacks the normalizer. Its mean, which `mean()`
    returns, is not sigmoid(l) but 1 / (1 - exp(-l)) - 1 / l.

    Args:
        shape: Shape E of one datum.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.Independent` for logits `[..., *E]`: batch [...], event [*E]; `log_prob` in nats.

    Raises:
        ValueError: If `shape` is not a non-empty sequence of positive integers.

    Example:
        >>> p = ContinuousBernoulli((2,))(tf.zeros([1, 2]))
        >>> p.log_prob([[0.2, 0.9]]).numpy()
        array([0.], dtype=float32)

    References:
        Loaiza-Ganem & Cunningham, 2019, section 3, arXiv:1907.06845.
    """

    support = Support(0.0, 1.0)

    def call(self, params: tf.Tensor) -> tfd.Independent:
        """Returns p(x|z) for logits `[..., *E]`."""
        logits = self.to_density(params)
        return self.independent(_ContinuousBernoulli(logits=logits, dtype=logits.dtype))

    def params_from_mean(self, mean: tf.Tensor) -> tf.Tensor:
        """Returns the logits `[*E]` with mean `mean`, which is clipped to [1e-3, 1 - 1e-3].

        The mean has no inverse in closed form, but it increases with l: bisection halves the
        interval until it contains no further float64 number.
        """
        mean = tf.clip_by_value(self.to_density(mean), MEAN_MARGIN, 1.0 - MEAN_MARGIN)
        # The mean is 1 - 1/l for large l, so that a margin of 1e-3 is reached at |l| = 1e3.
        high = tf.fill(tf.shape(mean), tf.constant(1.1 / MEAN_MARGIN, mean.dtype))
        low = -high
        for _ in range(60):
            middle = (low + high) / 2
            below = mean_of(middle) < mean
            low, high = tf.where(below, middle, low), tf.where(below, high, middle)
        return (low + high) / 2
