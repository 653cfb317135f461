"""Reads what `fit`, `evaluate` and the evaluations are given as data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.models import graph_errors

_CHUNK = 1024


class Data(NamedTuple):
    """What `fit` calls `x`, `y` and `sample_weight`, and the name of the argument it came by."""

    name: str
    x: Any
    y: Any = None
    sample_weight: Any = None

    @classmethod
    def of_tuple(cls, name: str, data: Any) -> Data:
        """Reads `x`, `(x,)`, `(x, y)` or `(x, y, sample_weight)`."""
        return cls(name, *(data if isinstance(data, tuple) else (data,)))

    def as_tuple(self) -> Any:
        """Returns what `of_tuple` reads."""
        return self.x if self.y is None else (self.x, self.y, self.sample_weight)

    @property
    def is_array(self) -> bool:
        """Whether all of x is at hand."""
        return isinstance(self.x, (np.ndarray, tf.Tensor))

    @property
    def shape(self) -> tuple[int | None, ...] | None:
        """Shape of a batch of x, `[None, ...]`, where it can be told without reading."""
        if isinstance(self.x, tf.data.Dataset):
            x, _, _ = keras.utils.unpack_x_y_sample_weight(self.x.element_spec)
            return (None, *x.shape[1:])
        return (None, *self.x.shape[1:]) if self.is_array else None

    def with_labels(self) -> Data:
        """Returns the same with labels, without which Keras would drop the sample weights."""
        if not self.is_array or self.y is not None or self.sample_weight is None:
            return self
        return self._replace(y=np.zeros(len(self.x), np.float32))

    def check(self, check_batch: Callable[[Any, Any], Any]) -> None:
        """Raises a `ValueError` if x is empty or holds data that `check_batch` refuses.

        Of a dataset the element types are checked here, and the values batch by batch within the
        steps; of a generator, both within the steps.
        """
        if self.x is None or isinstance(self.x, (dict, list)):
            raise checks.invalid(self.name, "must be one array, or a dataset of such", type(self.x))
        if _length(self.x) == 0:
            raise checks.invalid(self.name, "must hold at least one example", self.x)
        if isinstance(self.x, tf.data.Dataset):
            self._check_types(check_batch)
        if self.is_array:
            self._check_values(check_batch)

    def _check_types(self, check_batch: Callable[[Any, Any], Any]) -> None:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(self.x.element_spec)
        if not isinstance(x, tf.TensorSpec):
            raise checks.invalid(self.name, "must be a dataset of single tensors x", x)
        # Tracing finds wrong dtypes and shapes, and labels that are missing.
        tf.function(check_batch, autograph=False).get_concrete_function(x, y)

    def _check_values(self, check_batch: Callable[[Any, Any], Any]) -> None:
        for start in range(0, len(self.x), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            y = self.y[chunk] if isinstance(self.y, (np.ndarray, tf.Tensor)) else self.y
            check_batch(self.x[chunk], y)
        if self.sample_weight is not None:
            checked_weights(tf.convert_to_tensor(self.sample_weight), self.x)


def checked_weights(weights: tf.Tensor, x: Any) -> tf.Tensor:
    """Returns the weights of examples as `[B]`, whose use raises a `ValueError` if they are none.

    Args:
        weights: Tensor `[B]` or `[B, 1]`.
        x: The examples `[B, ...]`.
    """
    fits = weights.shape.rank == 1 or (weights.shape.rank == 2 and weights.shape[1] == 1)
    if not fits or not weights.shape[:1].is_compatible_with(x.shape[:1]):
        raise ValueError(
            f"Argument `sample_weight` must have shape [{x.shape[0]}], a weight for each example. "
            f"Received: shape={tuple(weights.shape)}"
        )
    dtype = x.dtype if isinstance(x, tf.Tensor) and x.dtype.is_floating else tf.float32
    weights = tf.reshape(tf.cast(weights, dtype), [-1])
    valid = tf.reduce_all(tf.math.is_finite(weights) & (weights >= 0.0))

    def message() -> tf.Tensor:
        rule = "Argument `sample_weight` must be finite numbers >= 0. Received: {}"
        return tf.strings.format(rule, weights)

    return graph_errors.require(valid, message, weights)


def batches(data: Any, batch_size: int = 128, name: str = "data") -> Iterator[tuple[Any, Any]]:
    """Yields `(x, y)` of every batch of an array, of `(x, y)` arrays, or of a dataset of batches.

    Args:
        data: What `fit` takes as data.
        batch_size: Examples at once, where `data` is an array.
        name: Name of the argument that the data came by, for errors.

    Raises:
        ValueError: If there is no example, or the data are nothing of the kind.
    """
    if isinstance(data, (np.ndarray, tf.Tensor, tuple)):
        data = tf.data.Dataset.from_tensor_slices(data).batch(batch_size)
    if not isinstance(data, Iterable):
        rule = "must be an array, a pair of arrays (x, y) or a dataset of batches"
        raise checks.invalid(name, rule, data)
    empty = True
    for batch in data:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        if len(x):
            empty = False
            yield x, y
    if empty:
        raise checks.invalid(name, "must hold at least one example", data)


def num_examples_of(data: Any) -> int | None:
    """Returns the number of examples of an array or a tuple of such, None of anything else."""
    x = data[0] if isinstance(data, tuple) and data else data
    # Of other things than arrays, such as lists of batches, the length is no number of examples.
    return len(x) if isinstance(x, (np.ndarray, tf.Tensor)) else None


def num_batches_of(data: Any, batch_size: int) -> int | None:
    """Returns how many batches `batches` yields, or None where reading alone can tell."""
    if isinstance(data, tf.data.Dataset):
        number = int(data.cardinality())
        return number if number >= 0 else None
    length = num_examples_of(data)
    return None if length is None else -(-length // batch_size)


def any_number_of(value: Any) -> tf.TensorSpec:
    """Returns the spec of tensors like this one, `[B, ...]`, for any B."""
    return tf.TensorSpec([None, *value.shape[1:]], value.dtype)


def check_ends(name: str, data: Any) -> None:
    """Raises a `ValueError` if the data are a dataset that never ends."""
    if isinstance(data, tf.data.Dataset) and data.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise checks.invalid(name, "must end, as by data.take(100)", data)


def inputs_of(batch: Any) -> list[Any]:
    """Returns `[x]` or `[x, y]` of a batch as `fit` takes it, or of its types."""
    x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    return [x] if y is None else [x, y]


def first_examples(
    data: Iterable[Any], num_examples: int | None = None
) -> Iterator[list[tf.Tensor]]:
    """Yields `[x]` or `[x, y]` of batches until they hold so many examples; the last one is cut."""
    left = num_examples
    for batch in map(inputs_of, data):
        if left is not None and len(batch[0]) >= left:
            yield tf.nest.map_structure(lambda rows, end=left: rows[:end], batch)
            return
        yield batch
        left = None if left is None else left - len(batch[0])


def _length(x: Any) -> int | None:
    """Returns a number that is 0 if there is no data, and None where that cannot be told."""
    if isinstance(x, tf.data.Dataset):
        return int(x.cardinality())
    try:
        return len(x)
    except TypeError:
        return None
