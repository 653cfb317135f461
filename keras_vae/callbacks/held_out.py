"""Data that callbacks look at, besides those of the training."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from keras_vae.core import checks


def dataset_of(data: Any, batch_size: int) -> tf.data.Dataset:
    """Returns held-out data as a dataset of batches, which can be read again and again."""
    if isinstance(data, tf.data.Dataset):
        if not int(data.cardinality()):
            raise checks.invalid("data", "must hold at least one batch", data)
        return data
    arrays = data if isinstance(data, tuple) else (data,)
    known = all(isinstance(array, (np.ndarray, tf.Tensor)) for array in arrays)
    if not known or len(arrays) not in (1, 2) or not all(len(array.shape) for array in arrays):
        rule = "must be an array, a pair of arrays (x, y) or a tf.data.Dataset of batches"
        raise checks.invalid("data", rule, type(data))
    if len({array.shape[0] for array in arrays}) > 1 or not arrays[0].shape[0]:
        rule = "must hold at least one example, and labels for as many"
        raise checks.invalid("data", rule, [tuple(array.shape) for array in arrays])
    return tf.data.Dataset.from_tensor_slices(arrays).batch(batch_size)
