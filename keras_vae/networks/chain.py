"""What the networks of this package share: layers in a row."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence

import keras
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.empty_batches import of_any_batch


class Chain(keras.Model):
    """Layers applied one after another, all built by `build`.

    It is a subclass of `keras.Model` and not of `keras.Sequential`, because the configuration of
    the latter is its list of layers; here it consists of the arguments of the constructor.

    Attributes:
        takes_vectors: Whether inputs with several axes are first flattened to vectors.
    """

    takes_vectors = False

    def set_layers(self, layers: Iterable[keras.layers.Layer]) -> None:
        """Sets the layers; the constructor of a subclass calls it at its end."""
        self.chain = list(layers)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Builds every layer for inputs `[B, ...]`, where only B may be unknown."""
        if None in tuple(input_shape)[1:]:
            rule = "must be known but for the batch"
            raise checks.invalid("input_shape", rule, tuple(input_shape))
        shape = self._inner_shape(input_shape)
        for layer in self.chain:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the output of the last layer."""
        if self.takes_vectors and len(inputs.shape) > 2:
            inputs = tf.reshape(inputs, [-1, math.prod(inputs.shape[1:])])
        return of_any_batch(functools.partial(apply_in_turn, self.chain), inputs)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Returns the shape of the output for inputs of this shape."""
        shape = self._inner_shape(input_shape)
        for layer in self.chain:
            shape = layer.compute_output_shape(shape)
        return shape

    def _inner_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        batch, *event = tuple(input_shape)
        if self.takes_vectors:
            return batch, math.prod(size or 0 for size in event)
        return batch, *event


def apply_in_turn(layers: Iterable[keras.layers.Layer], inputs: tf.Tensor) -> tf.Tensor:
    """Returns the output of the last layer when the layers are applied one after another."""
    for layer in layers:
        inputs = layer(inputs)
    return inputs
