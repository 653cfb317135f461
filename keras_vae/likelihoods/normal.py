"""The normal likelihood, for real data."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.likelihoods.base import serializable
from keras_vae.likelihoods.location_scale import LocationScale

tfd = tfp.distributions


@serializable
class Normal(LocationScale):
    """Independent normal variables with means from the decoder and a fixed or learned scale.

    log p(x|z) = sum_e -(x_e - m_e)^2 / (2 s_e^2) - log s_e - log(2 pi) / 2,  m = decoder(z)

    A learned scale is a weight of this layer, the same for every z; its optimum is the root mean
    square of x - m. It is softplus(weight) + 1e-4, at most 1e4.

    Args:
        shape: Shape E of one datum.
        scale: Standard deviation s, in units of x: a number > 0 to keep it fixed, `"shared"` to
            learn one for all elements, `"per_dimension"` to learn one for each.
        initial_scale: Initial value of a learned scale, in units of x. An optimizer moves the
            weight by about its learning rate per step, so start near the spread of the data.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.Independent` for means `[..., *E]`: batch [...], event [*E]; `log_prob` in nats.

    Raises:
        ValueError: If `shape` is not a non-empty sequence of positive integers, `scale` is neither
            a number > 0 nor a known option, or `initial_scale` is outside (1e-4, 1e4).

    Example:
        >>> p = Normal((2,), scale="shared", initial_scale=2.0)(tf.zeros([1, 2]))
        >>> round(float(p.log_prob([[0.0, 2.0]])[0]), 4)
        -3.7242

    References:
        Kingma & Welling, 2014, appendix C.2, arXiv:1312.6114.
        Rybkin et al., 2021, section 3 (a learned shared scale), arXiv:2006.13202.
    """

    def elements(self, location: tf.Tensor, scale: tf.Tensor) -> tfd.Normal:
        return tfd.Normal(location, scale)
