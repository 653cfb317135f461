"""Reads what `fit`, `evaluate` and the evaluations are given as data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_vae.core import checks

_CHUNK = 1024


def check(check_batch: Callable[[Any, Any], Any], x: Any, y: Any = None, name: str = "x") -> None:
    """Raises a `ValueError` if `x` is empty or holds data that `check_batch` refuses.

    Of a dataset the element types are checked here, and the values batch by batch within the steps;
    of a generator, both within the steps.
    """
    if _length(x) == 0:
        raise checks.invalid(name, "must hold at least one example", x)
    if isinstance(x, tf.data.Dataset):
        # Tracing checks dtypes and shapes, and that labels are there where they must be.
        x, y, _ = keras.utils.unpack_x_y_sample_weight(x.element_spec)
        tf.function(check_batch, autograph=False).get_concrete_function(x, y)
    if not isinstance(x, (np.ndarray, tf.Tensor)):
        return
    for start in range(0, len(x), _CHUNK):
        labels = y[start : start + _CHUNK] if isinstance(y, (np.ndarray, tf.Tensor)) else y
        check_batch(x[start : start + _CHUNK], labels)


def check_pair(check_batch: Callable[[Any, Any], Any], name: str, data: Any) -> None:
    """Does the same for `x`, `(x,)`, `(x, y)` or `(x, y, sample_weight)`."""
    x, y = (*data, None)[:2] if isinstance(data, tuple) and data else (data, None)
    check(check_batch, x, y, name)


def _length(x: Any) -> int | None:
    """Returns a number that is 0 if there is no data, and None where that cannot be told."""
    if isinstance(x, tf.data.Dataset):
        return int(x.cardinality())
    try:
        return len(x)
    except TypeError:
        return None


def batches(data: Any, batch_size: int = 128) -> Iterator[tuple[Any, Any]]:
    """Yields `(x, y)` of every batch of an array, of `(x, y)` arrays, or of a dataset of batches.

    Raises:
        ValueError: If there is none.
    """
    if not isinstance(data, Iterable) or isinstance(data, (np.ndarray, tf.Tensor, tuple)):
        data = tf.data.Dataset.from_tensor_slices(data).batch(batch_size)
    empty = True
    for batch in data:
        empty = False
        x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        yield x, y
    if empty:
        raise checks.invalid("data", "must hold at least one batch", data)
