"""What every prior has in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.core.head import Head

# A package of its own: a posterior and a prior may bear the same name.
serializable = keras.saving.register_keras_serializable(package="keras_vae.priors")

Infer = Callable[[tf.Tensor], tfp.distributions.Distribution]


class Prior(Head):
    """A head for p(z): -> `tfd.Distribution`, event [D].

    `call` is given what a prior may depend on, and takes what it needs: the features of a
    condition (`condition`, `[B, C]`, None in an unconditional model) and the model's own way from
    encoder inputs to q(z|x) (`infer`).

    Args:
        latent_dim: Number D of latent dimensions.
        **kwargs: Of `keras.layers.Layer`.

    Attributes:
        discrete: Whether z takes countably many values.

    Example:
        >>> tfd = tfp.distributions
        >>> class WideNormal(Prior):
        ...     def call(self, condition=None, infer=None):
        ...         loc = tf.zeros([self.latent_dim], self.density_dtype)
        ...         return tfd.MultivariateNormalDiag(loc, 10.0 * tf.ones_like(loc))
        >>> WideNormal(2)().event_shape
        TensorShape([2])
    """

    discrete = False

    def __init__(self, latent_dim: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.latent_dim = checks.integer("latent_dim", latent_dim)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one z: `(D,)`."""
        return (self.latent_dim,)

    def build(
        self,
        encoder_input_shape: Sequence[int | None] | None = None,
        condition_shape: Sequence[int | None] | None = None,
    ) -> None:
        """Makes the weights, given the shapes `[B, ...]` of encoder input and condition."""
        self.built = True

    def __call__(
        self, condition: tf.Tensor | None = None, infer: Infer | None = None, **kwargs: Any
    ) -> tfp.distributions.Distribution:
        """Returns p(z), building the prior first if it needs no shape but the condition's."""
        if not self.built:  # Keras can only build from the shapes of call's own arguments.
            self.build(condition_shape=None if condition is None else condition.shape)
        return super().__call__(condition, infer=infer, **kwargs)

    def call(
        self, condition: tf.Tensor | None = None, infer: Infer | None = None
    ) -> tfp.distributions.Distribution:
        """Returns p(z), or p(z|c)."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "latent_dim": self.latent_dim}
