"""The bias at the end of a decoder."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.head import serializable


@serializable
class OutputBias(keras.layers.Layer):
    """Adds a trainable bias to every element of its input; the last layer of a decoder.

    y = x + bias, with one bias for each element of one datum

    A model sets `bias` from the mean of the data before training starts, whatever the decoder is.
    Hence the layer before it should have no bias of its own.

    Args:
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        Tensor of the input's shape.

    Raises:
        ValueError: If a dimension other than the batch is unknown.

    Example:
        >>> decoder = keras.Sequential([keras.layers.Dense(4, use_bias=False), OutputBias()])
        >>> decoder(tf.zeros([2, 3])).shape
        TensorShape([2, 4])

    References:
        Burda et al., 2016, appendix C (the bias from the data mean), arXiv:1509.00519.
    """

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Creates a bias of zeros with the shape of one datum."""
        if None in tuple(input_shape)[1:]:
            rule = "must be known but for the batch"
            raise checks.invalid("input_shape", rule, tuple(input_shape))
        self.bias = self.add_weight(shape=input_shape[1:], initializer="zeros", name="bias")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns `inputs + bias`."""
        return inputs + self.bias

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Returns the shape of the input."""
        return tuple(input_shape)
