"""How many samples of z are decoded at once."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from keras_vae.training.data import any_number_of

# Tensors of the largest size that are alive at once in a pass without gradients, as measured with
# dense and convolutional decoders.
_ALIVE = 6
_MEBIBYTE = 2**20
# MiB, where nothing else is asked for.
MEMORY = 128.0


def chunk_of(model: Any, x: tf.Tensor, y: Any, memory: float) -> tf.Tensor:
    """Returns how many samples of each example fit into so many MiB when they are decoded at once.

    chunk = memory / (B * bytes of one draw), at least 1

    The bytes are those of the largest tensor that a single draw of z makes in the graph.

    Args:
        model: A `LatentVariableModel`.
        x: Standardized data `[B, *E]`.
        y: Standardized condition, or None.
        memory: In MiB.
    """
    spec = (any_number_of(x), None if y is None else any_number_of(y))
    trace = tf.function(lambda x, y: model.compute_terms(x, 1, False, 0, y).log_w, autograph=False)
    operations = trace.get_concrete_function(*spec).graph.get_operations()
    largest = max(_bytes_each(tensor) for one in operations for tensor in one.outputs)
    examples = int(memory * _MEBIBYTE / (_ALIVE * largest))
    return tf.maximum(examples // tf.shape(x)[0], 1)


def _bytes_each(tensor: tf.Tensor) -> int:
    """Returns the bytes for each example: weights, which have no open dimension, have none."""
    shape = tensor.shape
    if shape.rank is None or None not in shape:
        return 0
    return math.prod(size for size in shape if size is not None) * tensor.dtype.size
