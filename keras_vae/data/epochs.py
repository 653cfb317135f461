"""The epoch of a pass, which is the number of passes over a pipeline completed before it."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf


class EpochCounter:
    """Counts the completed passes over a pipeline.

    A pass reads its epoch when its first batch is requested. The epoch is over when the last batch
    has been handed out, not when the next pass begins: Keras and `tf.distribute` create iterators
    that they then drop (to build a model, and one more at the end of each epoch), and a peek at the
    first batch must not change what training sees. Two simultaneous passes belong to the same
    epoch.

    Args:
        initial_epoch: Integer, the epoch of the first pass.
    """

    def __init__(self, initial_epoch: int = 0):
        self._epoch = initial_epoch

    def current(self) -> tf.data.Dataset:
        """Returns a data set with one element: the epoch at the time it is read."""
        return tf.data.Dataset.from_tensors(np.int64(0)).map(self._read_tensor)

    def count(self, dataset: tf.data.Dataset, num_batches: int) -> tf.data.Dataset:
        """Counts a pass when the last of its `num_batches` batches is handed out.

        Elements come in as `(epoch, batch)` and come out as `batch`. This must be the last stage,
        as a prefetch after it would count passes of which only the beginning was used.
        """

        def hand_out(step: tf.Tensor, epoch_and_batch: Any) -> Any:
            epoch, batch = epoch_and_batch
            is_last = tf.equal(step, num_batches - 1)
            tf.cond(is_last, lambda: self._complete_tensor(epoch), lambda: epoch)
            return batch

        return dataset.enumerate().map(hand_out)

    def _read_tensor(self, _: tf.Tensor) -> tf.Tensor:
        epoch = tf.numpy_function(self._read, [], tf.int64)
        return tf.ensure_shape(epoch, [])

    def _complete_tensor(self, epoch: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.numpy_function(self._complete, [epoch], tf.int64), [])

    def _read(self) -> np.int64:
        return np.int64(self._epoch)

    def _complete(self, epoch: np.int64) -> np.int64:
        # Take the maximum, as two simultaneous passes must not count twice.
        self._epoch = max(self._epoch, int(epoch) + 1)
        return np.int64(self._epoch)
