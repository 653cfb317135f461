"""A normal prior given a condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.core.initializers import Constant
from keras_vae.core.numerics import inverse_scale, positive_scale
from keras_vae.priors.base import Infer, Prior, serializable

tfd = tfp.distributions


@serializable
class ConditionalNormal(Prior):
    """A diagonal normal with its location and scale linear in the features of a condition.

    p(z|c) = N(z; mu(c), diag(sigma(c))^2), mu = W c + b, sigma = softplus(V c + d) + floor

    It starts as the standard normal.

    Args:
        latent_dim: Number D of latent dimensions.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.MultivariateNormalDiag`, batch [B], event [D], for a condition `[B, C]`.

    Raises:
        ValueError: If `latent_dim` is not a positive integer, or there is no condition of rank 2.

    Example:
        >>> prior = ConditionalNormal(2)(tf.zeros([3, 8]))
        >>> prior.batch_shape
        TensorShape([3])

    References:
        Sohn et al., 2015, Learning structured output representation using deep conditional
        generative models (NeurIPS), section 4.1.
    """

    def __init__(self, latent_dim: int, **kwargs: Any):
        super().__init__(latent_dim, **kwargs)
        self.loc = self._projection("loc", bias=0.0)
        self.raw_scale = self._projection("raw_scale", bias=inverse_scale(1.0))

    def _projection(self, name: str, bias: float) -> keras.layers.Dense:
        return keras.layers.Dense(
            self.latent_dim,
            kernel_initializer="zeros",
            bias_initializer=Constant(bias),
            dtype=self.dtype_policy,
            name=name,
        )

    def build(
        self,
        encoder_input_shape: Sequence[int | None] | None = None,
        condition_shape: Sequence[int | None] | None = None,
    ) -> None:
        """Builds the two projections for a condition `[B, C]`."""
        if condition_shape is None or len(condition_shape) != 2 or condition_shape[1] is None:
            rule = "must be `(batch, C)` with C known: a ConditionalNormal prior needs a condition"
            raise checks.invalid("condition_shape", rule, condition_shape)
        self.loc.build(tuple(condition_shape))
        self.raw_scale.build(tuple(condition_shape))

    def call(
        self, condition: tf.Tensor | None = None, infer: Infer | None = None
    ) -> tfd.MultivariateNormalDiag:
        """Returns p(z|c) for a condition `[B, C]`."""
        if condition is None:
            rule = "must be given: a ConditionalNormal prior depends on it"
            raise checks.invalid("condition", rule, None)
        scale = positive_scale(self.to_density(self.raw_scale(condition)))
        return tfd.MultivariateNormalDiag(self.to_density(self.loc(condition)), scale)

    def fit(self, z: Any, **options: Any) -> Prior:
        """Raises a `ValueError`: p(z|c) needs the condition, which draws of z do not contain."""
        raise ValueError(
            "A ConditionalNormal cannot be fitted to draws of z alone: it depends on the condition "
            f"of each, and is learned with the model. Received: z of shape {np.shape(z)}"
        )
