"""What every posterior has in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.core.head import Head
from keras_vae.core.numerics import SCALE_FLOOR

# A separate package, because a posterior and a prior may have the same name.
serializable = keras.saving.register_keras_serializable(package="keras_vae.posteriors")


class Posterior(Head):
    """A head for q(z|x): features `[B, F]` -> `tfd.Distribution`, batch [B], event [D].

    A subclass owns the projection from features to parameters. It builds the projection in `build`
    from `flat_shape` and applies it in `parameters` to `flatten(features)`, so that maps
    `[B, H, W, C]` also work. `distribution` turns the parameters into q(z|x).

    Args:
        latent_dim: Number D of latent dimensions.
        **kwargs: Passed on to `keras.layers.Layer`.

    Attributes:
        discrete: Whether z takes countably many values.
        is_point_mass: Whether q(z|x) is a single z, so that further samples add nothing.

    Example:
        >>> tfd = tfp.distributions
        >>> class UnitNormal(Posterior):
        ...     def parameters(self, features):
        ...         return self.to_density(features)[:, : self.latent_dim]
        ...     def distribution(self, parameters, training=False):
        ...         return tfd.MultivariateNormalDiag(parameters, tf.ones_like(parameters))
        >>> UnitNormal(2)(tf.ones([3, 4])).batch_shape
        TensorShape([3])
    """

    discrete = False
    is_point_mass = False

    def __init__(self, latent_dim: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.latent_dim = checks.size("latent_dim", latent_dim)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one z: `(D,)`."""
        return (self.latent_dim,)

    @property
    def scale_floor(self) -> float:
        """The smallest standard deviation that q(z|x) can have."""
        return SCALE_FLOOR

    @property
    def z_dtype(self) -> str:
        """The dtype of z: the dtype of densities."""
        return self.density_dtype

    @property
    def latents(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the groups of z by name, in their order within z: one group here."""
        return {"z": self.event_shape}

    @property
    def decoder_input_dim(self) -> int:
        """Number F of dimensions that `decoder_input` returns."""
        return math.prod(self.event_shape)

    @property
    def decoder_input_shape(self) -> tuple[int, ...]:
        """Shape of what `decoder_input` returns, without the batch: `(F,)`."""
        return (self.decoder_input_dim,)

    def decoder_input(self, z: tf.Tensor) -> tf.Tensor:
        """Returns what p(x|z) depends on, `[..., F]`: all of z, flattened to vectors."""
        rank = len(self.event_shape)
        if rank == 1:
            return z
        size = self.decoder_input_dim
        vectors = tf.reshape(z, tf.concat([tf.shape(z)[:-rank], [size]], axis=0))
        vectors.set_shape([*z.shape[:-rank], size])
        return vectors

    @property
    def reparameterized(self) -> bool:
        """Whether gradients pass through the samples drawn in training."""
        return not self.discrete

    def parameters(self, features: tf.Tensor) -> Any:
        """Returns the parameters of q(z|x): unconstrained tensors `[B, ...]`, nested or not."""
        raise NotImplementedError

    def distribution(
        self, parameters: Any, training: bool = False
    ) -> tfp.distributions.Distribution:
        """Returns q(z|x) with these parameters."""
        raise NotImplementedError

    def call(self, features: tf.Tensor, training: bool = False) -> tfp.distributions.Distribution:
        """Returns q(z|x) for features `[B, ...]`."""
        return self.distribution(self.parameters(features), training)

    def flat_shape(self, features_shape: Sequence[int | None]) -> tuple[None, int]:
        """Returns `(None, F)`, the shape of the flattened features.

        Raises:
            ValueError: If a dimension after the batch is unknown, or if there is none.
        """
        dims = [size for size in tuple(features_shape)[1:] if size is not None]
        if not dims or len(dims) != len(features_shape) - 1:
            rule = "must have at least one dimension after the batch, all known"
            raise checks.invalid("features_shape", rule, tuple(features_shape))
        return None, math.prod(dims)

    def flatten(self, features: tf.Tensor) -> tf.Tensor:
        """Returns the features as `[B, F]`."""
        return tf.reshape(features, [-1, math.prod(features.shape[1:])])

    def mean(self, q: tfp.distributions.Distribution) -> tf.Tensor:
        """Returns E_q[z], exact or estimated: Tensor `[B, D]`."""
        return q.mean()

    def stddev(self, q: tfp.distributions.Distribution) -> tf.Tensor:
        """Returns the marginal standard deviations of q, exact or estimated: Tensor `[B, D]`."""
        return q.stddev()

    def summary(self, q: tfp.distributions.Distribution) -> dict[str, tf.Tensor]:
        """Returns the numbers that describe q(z|x): its mean and scale, each `[B, D]`."""
        return {"mean": self.mean(q), "scale": self.stddev(q)}

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "latent_dim": self.latent_dim}
