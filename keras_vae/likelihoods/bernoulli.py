"""The Bernoulli likelihood, for binary data."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.distributions import discrete
from keras_vae.likelihoods.base import MEAN_MARGIN, Likelihood, Support, serializable

tfd = tfp.distributions


def logit(mean: tf.Tensor) -> tf.Tensor:
    """Returns log(p / (1 - p)) of probabilities, first clipped to [1e-3, 1 - 1e-3]."""
    p = tf.clip_by_value(mean, MEAN_MARGIN, 1.0 - MEAN_MARGIN)
    return tf.math.log(p) - tf.math.log1p(-p)


@serializable
class Bernoulli(Likelihood):
    """Independent Bernoulli variables with logits from the decoder.

    log p(x|z) = sum_e x_e l_e - softplus(l_e),  l = decoder(z)

    Data are 0 and 1. Values in between, such as gray pixels, are also allowed: the sum above is
    then a negative cross-entropy, not a log-density, and `ContinuousBernoulli` is the model to
    compare with.

    Args:
        shape: Shape E of one datum.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.Independent` for logits `[..., *E]`: batch [...], event [*E]; `log_prob` in nats.

    Raises:
        ValueError: If `shape` is not a non-empty sequence of positive integers.

    Example:
        >>> p = Bernoulli((2,))(tf.zeros([1, 2]))
        >>> round(float(p.log_prob([[0.0, 1.0]])[0]), 4)
        -1.3863

    References:
        Kingma & Welling, 2014, appendix C.1, arXiv:1312.6114.
        Burda et al., 2016 (output biases from the mean of the data), arXiv:1509.00519.
    """

    support = Support(0.0, 1.0)

    def call(self, params: tf.Tensor) -> tfd.Independent:
        """Returns p(x|z) for logits `[..., *E]`."""
        logits = self.to_density(params)
        return self.independent(discrete.Bernoulli(logits=logits, dtype=logits.dtype))

    def params_from_mean(self, mean: tf.Tensor) -> tf.Tensor:
        """Returns the logits `[*E]` of `mean`, clipped to [1e-3, 1 - 1e-3]."""
        return logit(self.to_density(mean))
