"""The standard normal prior."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.priors.base import Infer, Prior, serializable

tfd = tfp.distributions


@serializable
class StandardNormal(Prior):
    """The standard normal, without weights.

    p(z) = N(z; 0, I)

    Args:
        latent_dim: Number D of latent dimensions.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.MultivariateNormalDiag`, batch [], event [D].

    Raises:
        ValueError: If `latent_dim` is not a positive integer.

    Example:
        >>> prior = StandardNormal(2)()
        >>> round(float(prior.log_prob([0.0, 0.0])), 4)
        -1.8379

    References:
        Kingma & Welling, 2014, arXiv:1312.6114.
    """

    def call(
        self, condition: tf.Tensor | None = None, infer: Infer | None = None
    ) -> tfd.MultivariateNormalDiag:
        """Returns N(0, I), whatever the arguments."""
        zeros = tf.zeros(self.event_shape, self.density_dtype)
        return tfd.MultivariateNormalDiag(zeros, tf.ones_like(zeros))
