"""A normal posterior with independent dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core.numerics import positive_scale
from keras_vae.distributions.normal import MultivariateNormalDiag, normal_projections
from keras_vae.posteriors.base import Posterior, serializable

tfd = tfp.distributions


@serializable
class DiagonalNormal(Posterior):
    """A diagonal normal with its location and scale linear in the features.

    q(z|x) = N(z; mu(h), diag(sigma(h))^2), mu = W h + b, sigma = softplus(V h + c) + floor

    The scale starts near one, close to a standard normal prior.

    Args:
        latent_dim: Number D of latent dimensions.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.MultivariateNormalDiag`, batch [B], event [D], for features `[B, ...]`.

    Raises:
        ValueError: If `latent_dim` is not a positive integer, or the number of features is unknown.

    Example:
        >>> q = DiagonalNormal(2)(tf.zeros([3, 8]))
        >>> q.sample(5, seed=[0, 1]).shape
        TensorShape([5, 3, 2])

    References:
        Kingma & Welling, 2014, arXiv:1312.6114.
    """

    def __init__(self, latent_dim: int, **kwargs: Any):
        super().__init__(latent_dim, **kwargs)
        self.loc, self.raw_scale = normal_projections(self.latent_dim, self.dtype_policy)

    def build(self, features_shape: Sequence[int | None]) -> None:
        """Builds the two projections for features of this shape, `[B, ...]`."""
        shape = self.flat_shape(features_shape)
        self.loc.build(shape)
        self.raw_scale.build(shape)

    def parameters(self, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns mu and the scale before its softplus, each `[B, D]`."""
        features = self.flatten(features)
        return self.to_density(self.loc(features)), self.to_density(self.raw_scale(features))

    def distribution(
        self, parameters: tuple[tf.Tensor, tf.Tensor], training: bool = False
    ) -> tfd.MultivariateNormalDiag:
        """Returns q(z|x) with these parameters."""
        loc, raw_scale = parameters
        return MultivariateNormalDiag(loc, scale_diag=positive_scale(raw_scale))
