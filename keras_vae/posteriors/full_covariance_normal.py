"""A normal posterior with a full covariance matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core.normal import MultivariateNormalTriL
from keras_vae.core.numerics import inverse_scale, positive_scale
from keras_vae.posteriors.base import Posterior, serializable

tfd = tfp.distributions


@serializable
class FullCovarianceNormal(Posterior):
    """A normal whose location and Cholesky factor of the covariance are linear in the features.

    q(z|x) = N(z; mu(h), L(h) L(h)^T), L lower triangular, L_dd = softplus(l_dd(h)) + floor

    L starts near the identity. Costs D (D + 1) / 2 rows of weights.

    Args:
        latent_dim: Number D of latent dimensions.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.MultivariateNormalTriL`, batch [B], event [D], for features `[B, ...]`.

    Raises:
        ValueError: If `latent_dim` is not a positive integer, or the number of features unknown.

    Example:
        >>> q = FullCovarianceNormal(2)(tf.zeros([3, 8]))
        >>> q.covariance().shape
        TensorShape([3, 2, 2])

    References:
        Kingma & Welling, 2019, section 2.5.1, arXiv:1906.02691.
    """

    def __init__(self, latent_dim: int, **kwargs: Any):
        super().__init__(latent_dim, **kwargs)
        self.loc = keras.layers.Dense(self.latent_dim, dtype=self.dtype_policy, name="loc")
        self.raw_scale = keras.layers.Dense(
            self.latent_dim * (self.latent_dim + 1) // 2,
            kernel_initializer=keras.initializers.VarianceScaling(0.01, "fan_avg", "uniform"),
            dtype=self.dtype_policy,
            name="raw_scale",
        )

    def build(self, features_shape: Sequence[int | None]) -> None:
        """Builds the two projections for features of this shape, `[B, ...]`."""
        shape = self.flat_shape(features_shape)
        self.loc.build(shape)
        self.raw_scale.build(shape)

    def parameters(self, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns mu `[B, D]` and the entries of L, the diagonal's before softplus, in one row."""
        features = self.flatten(features)
        return self.to_density(self.loc(features)), self.to_density(self.raw_scale(features))

    def distribution(
        self, parameters: tuple[tf.Tensor, tf.Tensor], training: bool = False
    ) -> tfd.MultivariateNormalTriL:
        """Returns q(z|x) of its parameters."""
        loc, entries = parameters
        raw = tfp.math.fill_triangular(entries)  # [B, D, D]
        diagonal = positive_scale(tf.linalg.diag_part(raw) + inverse_scale(1.0))
        return MultivariateNormalTriL(loc, tf.linalg.set_diag(raw, diagonal))
