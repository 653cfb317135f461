"""Convolutions of batches that may be empty."""

from __future__ import annotations

import keras
import tensorflow as tf


def convolve(layer: keras.layers.Layer, inputs: tf.Tensor) -> tf.Tensor:
    """Returns what a convolutional layer makes of a batch, also of one without examples.

    A replica at the end of the data may have none. TensorFlow gives an empty batch the shape of the
    inputs on a CPU, not that of the outputs.

    Args:
        layer: The layer.
        inputs: Tensor `[B, ...]`.

    Example:
        >>> layer = keras.layers.Conv2D(5, 3)
        >>> layer.build((None, 4, 4, 1))
        >>> run = tf.function(lambda x: convolve(layer, x))
        >>> run(tf.zeros([0, 4, 4, 1])).shape
        TensorShape([0, 2, 2, 5])
    """
    if inputs.shape[0]:
        return layer(inputs)
    rows = tf.shape(inputs)[0]
    paddings = [[0, tf.maximum(1 - rows, 0)], *([[0, 0]] * (inputs.shape.rank - 1))]
    padded = tf.ensure_shape(tf.pad(inputs, paddings), [None, *inputs.shape[1:]])
    return layer(padded)[:rows]
