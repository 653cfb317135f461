"""The residual block of the residual networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.head import serializable


@serializable
class ResidualBlock(keras.layers.Layer):
    """Two convolutions, each after an activation, with a shortcut around them.

    y = x + conv(activation(conv(activation(x))))

    The second kernel starts at zero, so that a block starts as the identity and a deep network
    trains without normalization. Normalization is avoided because batch statistics couple the
    examples of a batch: log p(x|z) of one image would depend on the others, so the bound would not
    be a bound for that image.

    Args:
        filters: Number of filters, and of channels of the input.
        activation: Name of a Keras activation, or a function.
        bottleneck: Number of channels between the convolutions; the first is then 3x3 and the
            second 1x1. None for as many as `filters`, with 3x3 for both.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        Tensor of the input's shape, `[B, H, W, filters]`.

    Raises:
        ValueError: If a number of channels is not a positive integer.

    Example:
        >>> x = tf.random.stateless_normal([2, 7, 7, 8], seed=[0, 1])
        >>> bool(tf.reduce_all(ResidualBlock(8)(x) == x))
        True

    References:
        He et al., 2016, Identity mappings in deep residual networks, arXiv:1603.05027;
        Zhang et al., 2019 (the zero start), arXiv:1901.09321.
    """

    def __init__(
        self,
        filters: int,
        activation: str | Callable = "relu",
        *,
        bottleneck: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = checks.size("filters", filters)
        self.bottleneck = None
        if bottleneck is not None:
            self.bottleneck = checks.integer("bottleneck", bottleneck)
        width, side = (self.filters, 3) if bottleneck is None else (bottleneck, 1)
        self.activation = checks.activation("activation", activation)
        policy = self.dtype_policy
        self.first = keras.layers.Conv2D(
            width, 3, padding="same", activation=self.activation, dtype=policy
        )
        self.second = keras.layers.Conv2D(
            self.filters, side, padding="same", kernel_initializer="zeros", dtype=policy
        )

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Builds the two convolutions for maps of as many channels as there are filters."""
        if input_shape[-1] != self.filters:
            rule = f"must have {self.filters} channels, as many as there are filters"
            raise checks.invalid("input_shape", rule, tuple(input_shape))
        self.first.build(input_shape)
        self.second.build(self.first.compute_output_shape(input_shape))

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the input plus the output of the convolutions."""
        return inputs + self.second(self.first(self.activation(inputs)))

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Returns the shape of the input."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        activation = keras.activations.serialize(self.activation)
        own = {"filters": self.filters, "activation": activation, "bottleneck": self.bottleneck}
        return {**super().get_config(), **own}
