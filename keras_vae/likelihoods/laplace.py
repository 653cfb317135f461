"""The Laplace likelihood, with the absolute error as its distortion."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.likelihoods.base import serializable
from keras_vae.likelihoods.location_scale import LocationScale

tfd = tfp.distributions


@serializable
class Laplace(LocationScale):
    """Independent Laplace variables with medians from the decoder and a fixed or learned scale.

    log p(x|z) = sum_e -|x_e - m_e| / s_e - log(2 s_e),  m = decoder(z)

    With a fixed scale, its distortion is the L1 error, which blurs edges less than the squared
    error; the autoencoders of latent diffusion models use it. A learned scale is a weight of this
    layer, the same for every z; its optimum is the mean absolute error. It is
    softplus(weight) + 1e-4, at most 1e4.

    Args:
        shape: Shape E of one datum.
        scale: Scale s, in units of x: a number > 0 to keep it fixed, `"shared"` to learn one for
            all elements, `"per_dimension"` to learn one for each.
        initial_scale: Initial value of a learned scale, in units of x. An optimizer moves the
            weight by about its learning rate per step, so start near the spread of the data.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.Independent` for medians `[..., *E]`: batch [...], event [*E]; `log_prob` in nats.

    Raises:
        ValueError: If `shape` is not a non-empty sequence of positive integers, `scale` is neither
            a number > 0 nor a known option, or `initial_scale` is outside (1e-4, 1e4).

    Example:
        >>> p = Laplace((2,))(tf.zeros([1, 2]))
        >>> round(float(p.log_prob([[0.0, 1.0]])[0]), 4)
        -2.3863

    References:
        Esser et al., 2021, section 3.1, arXiv:2012.09841; Rombach et al., 2022, appendix G,
        arXiv:2112.10752 (an absolute error in place of the squared one).
    """

    def elements(self, location: tf.Tensor, scale: tf.Tensor) -> tfd.Laplace:
        return tfd.Laplace(location, scale)
