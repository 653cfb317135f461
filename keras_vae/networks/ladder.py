"""The bottom-up pass of a ladder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.networks.chain import Chain


@serializable
class LadderEncoder(Chain):
    """Perceptrons one after another; the features are the outputs at all levels.

    d_1 = MLP_1(flatten(x)), d_l = MLP_l(d_{l-1}), features = [d_1, ..., d_L]

    Args:
        hidden_units: Width of each level, starting from the lowest.
        depth: Number of layers in the perceptron of each level.
        activation: Name of a Keras activation, or a function.
        **kwargs: Passed on to `keras.Model`.

    Returns:
        Tensor `[B, F]`, features, for x `[B, ...]`; F is the sum of the widths.

    Raises:
        ValueError: If an argument, or the shape of x, is not as above.

    Example:
        >>> LadderEncoder((64, 32))(keras.ops.zeros([2, 28, 28, 1])).shape
        TensorShape([2, 96])

    References:
        Soenderby et al., 2016, eq. 9-12, arXiv:1602.02282.
    """

    def __init__(
        self,
        hidden_units: Sequence[int] = (512, 256, 128),
        depth: int = 2,
        activation: str | Callable = "leaky_relu",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.hidden_units = checks.sizes("hidden_units", hidden_units)
        self.depth = checks.integer("depth", depth)
        self.activation = checks.activation("activation", activation)
        dense = [
            keras.layers.Dense(units, self.activation, dtype=self.dtype_policy)
            for units in self.hidden_units
            for _ in range(self.depth)
        ]
        self.set_layers([keras.layers.Flatten(dtype=self.dtype_policy), *dense])

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the outputs of all levels, concatenated."""
        flatten, *dense = self.chain
        hidden, levels = flatten(inputs), []
        for number, layer in enumerate(dense, start=1):
            hidden = layer(hidden)
            if number % self.depth == 0:
                levels.append(hidden)
        return tf.concat(levels, axis=-1)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Returns the shape of the output for inputs of this shape."""
        return input_shape[0], sum(self.hidden_units)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "hidden_units": self.hidden_units,
            "depth": self.depth,
            "activation": keras.activations.serialize(self.activation),
        }
