"""Shuffled batches of arrays, whose order in each epoch a resumed training sees again."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from keras_vae.data import pipeline, randomness
from keras_vae.data.epochs import EpochCounter


def shuffled_batches(
    parts: Any, batch_size: int, *, seed: int, initial_epoch: int = 0
) -> tf.data.Dataset:
    """Returns batches of arrays, reshuffled in each epoch.

    The order depends only on (seed, epoch); an epoch is over when its last batch is handed out.

    Args:
        parts: Arrays of N examples, nested or not.
        batch_size: Integer >= 1.
        seed: Integer in [0, 2^64).
        initial_epoch: The epoch of the first pass.

    Returns:
        Dataset of batches with the structure of `parts`, each with `batch_size` examples.

    Example:
        >>> batches = shuffled_batches((np.arange(4),), 4, seed=0)
        >>> [sorted(x.numpy().tolist()) for x, in batches]
        [[0, 1, 2, 3]]
    """
    tensors = tf.nest.map_structure(tf.convert_to_tensor, parts)
    number = len(tf.nest.flatten(tensors)[0])
    counter = EpochCounter(initial_epoch)

    def one_pass(epoch: tf.Tensor) -> tf.data.Dataset:
        order = randomness.order(seed, epoch, tf.range(number, dtype=tf.int64))

        def pick(rows: tf.Tensor) -> Any:
            return epoch, tf.nest.map_structure(lambda array: tf.gather(array, rows), tensors)

        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size).map(pick)

    num_batches = int(np.ceil(number / batch_size))
    batches = counter.current().flat_map(one_pass).prefetch(tf.data.AUTOTUNE)
    batches = counter.count(batches, num_batches)
    batches = batches.apply(tf.data.experimental.assert_cardinality(num_batches))
    found = pipeline.options()
    found.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.with_options(found)
