"""A normal posterior with a full covariance matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core.numerics import inverse_scale, positive_scale
from keras_vae.distributions.normal import MultivariateNormalTriL
from keras_vae.posteriors.base import Posterior, serializable

tfd = tfp.distributions


@serializable
class FullCovarianceNormal(Posterior):
    """A normal whose location and Cholesky factor of the covariance are linear in the features.

    q(z|x) = N(z; mu(h), L(h) L(h)^T), L lower triangular, L_dd = softplus(l_dd(h)) + floor

    L starts near the identity. It costs D (D + 1) / 2 rows of weights.

    Args:
        latent_dim: Number D of latent dimensions.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.MultivariateNormalTriL`, batch [B], event [D], for features `[B, ...]`.

    Raises:
        ValueError: If `latent_dim` is not a positive integer, or the number of features is unknown.

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
        """Returns mu `[B, D]` and the entries of L in one row, the diagonal before its softplus."""
        features = self.flatten(features)
        return self.to_density(self.loc(features)), self.to_density(self.raw_scale(features))

    def distribution(
        self, parameters: tuple[tf.Tensor, tf.Tensor], training: bool = False
    ) -> tfd.MultivariateNormalTriL:
        """Returns q(z|x) with these parameters."""
        loc, entries = parameters
        return MultivariateNormalTriL(loc, _cholesky_factor(entries, self.latent_dim))


def _cholesky_factor(entries: tf.Tensor, size: int) -> tf.Tensor:
    """Returns L `[B, D, D]` from its entries `[B, D (D + 1) / 2]`, in the order of TFP.

    `tfp.math.fill_triangular` and `tf.linalg.set_diag` give the same result, but with matrix
    operations that other runtimes do not have.
    """
    square = tf.concat([entries[:, size:], tf.reverse(entries, [-1])], axis=-1)  # [B, D * D]
    diagonal = positive_scale(square[:, :: size + 1] + inverse_scale(1.0))  # [B, D]
    raw = tf.reshape(square, [-1, size, size])
    below = np.tri(size, k=-1, dtype=bool)
    return tf.where(below, raw, diagonal[:, tf.newaxis] * tf.constant(np.eye(size), entries.dtype))
