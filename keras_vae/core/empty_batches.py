"""Networks that are applied to batches that may be empty."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def of_any_batch(network: Callable[[tf.Tensor], Any], inputs: tf.Tensor) -> Any:
    """Returns the output of a network for a batch, even on a replica that has no examples.

    At the end of the data, a replica may have none. On a CPU, convolutions by oneDNN give an empty
    batch the shape of their inputs instead of that of their outputs, and their gradients fail.
    Therefore an empty batch is run as one example of zeros, which is cut off again and gets no
    gradient.

    Args:
        network: Layer or function of `[B, ...]` that does not use batch statistics.
        inputs: Tensor `[B, ...]`.

    Returns:
        The output of the network for B examples, nested or not.

    Example:
        >>> of_any_batch(lambda x: 2.0 * x, tf.constant([1.0, 3.0])).numpy()
        array([2., 6.], dtype=float32)
    """
    context = tf.distribute.get_replica_context()
    if inputs.shape[0] or context is None or context.num_replicas_in_sync == 1:
        return network(inputs)
    rows = tf.shape(inputs)[0]
    paddings = [[0, tf.maximum(1 - rows, 0)], *([[0, 0]] * (inputs.shape.rank - 1))]
    padded = tf.ensure_shape(tf.pad(inputs, paddings), [None, *inputs.shape[1:]])
    return tf.nest.map_structure(lambda output: output[:rows], network(padded))
