"""What the posteriors of discrete variables have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.posteriors.base import Posterior

tfd = tfp.distributions


class DiscretePosterior(Posterior):
    """A posterior of independent discrete variables, whose parameters are logits.

    Args:
        latent_dim: Number D of latent variables.
        temperature: Temperature of the relaxed draws in training, > 0; None for whole draws.
        straight_through: Whether relaxed draws are rounded in the forward pass.
        **kwargs: Passed on to `keras.layers.Layer`.

    Attributes:
        whole: The distribution of one variable, constructed from logits.
        relaxed: The same with relaxed draws, constructed from logits, temperature and
            straight_through.
    """

    discrete = True
    whole: type[tfd.Distribution]
    relaxed: type[tfd.Distribution]

    def __init__(
        self,
        latent_dim: int,
        *,
        temperature: float | None = None,
        straight_through: bool = False,
        **kwargs: Any,
    ):
        super().__init__(latent_dim, **kwargs)
        self.straight_through = checks.flag("straight_through", straight_through)
        if temperature is not None:
            temperature = checks.number("temperature", temperature, 0.0, exclusive=True)
            self.temperature = self.add_hyperparameter("temperature", temperature)
        elif straight_through:
            raise checks.invalid("temperature", "must be given with straight_through=True", None)
        self._initial_temperature = temperature

    @property
    def reparameterized(self) -> bool:
        """Whether gradients pass through samples drawn in training: only with a temperature."""
        return self._initial_temperature is not None

    def distribution(self, parameters: tf.Tensor, training: bool = False) -> tfd.Independent:
        """Returns q(z|x) with these logits; with a temperature, draws in training are relaxed."""
        if training and self.reparameterized:
            temperature = self.to_density(tf.convert_to_tensor(self.temperature))
            each = self.relaxed(parameters, temperature, self.straight_through)
        else:
            each = self.whole(logits=parameters, dtype=parameters.dtype)
        return tfd.Independent(each, reinterpreted_batch_ndims=1)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "temperature": self._initial_temperature,
            "straight_through": self.straight_through,
        }


class LinearLogits(DiscretePosterior):
    """Discrete variables whose logits are linear in the features."""

    def __init__(
        self,
        latent_dim: int,
        *,
        temperature: float | None = None,
        straight_through: bool = False,
        **kwargs: Any,
    ):
        super().__init__(
            latent_dim, temperature=temperature, straight_through=straight_through, **kwargs
        )
        self.logits = keras.layers.Dense(
            math.prod(self.event_shape), dtype=self.dtype_policy, name="logits"
        )

    def build(self, features_shape: Sequence[int | None]) -> None:
        """Builds the projection for features of this shape, `[B, ...]`."""
        self.logits.build(self.flat_shape(features_shape))

    def parameters(self, features: tf.Tensor) -> tf.Tensor:
        """Returns the logits, `[B, *event_shape]`."""
        logits = self.to_density(self.logits(self.flatten(features)))
        return tf.reshape(logits, [-1, *self.event_shape])
