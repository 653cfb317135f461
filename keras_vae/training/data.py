"""Reads the data that are passed to `fit`, `evaluate` and the evaluations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.likelihoods import Support
from keras_vae.training import iterators
from keras_vae.training.support import OutsideSupport, inside

_ARRAYS = (np.ndarray, tf.Tensor)
_CHUNK = 1024
_RULE = "must be an array, a pair of arrays (x, y) or a dataset of batches"


class Data(NamedTuple):
    """What `fit` calls `x`, `y` and `sample_weight`, and the name of the argument it came in."""

    name: str
    x: Any
    y: Any = None
    sample_weight: Any = None

    @classmethod
    def of(cls, name: str, given: Any, y: Any = None, sample_weight: Any = None) -> Data:
        """Reads `x`, `(x,)`, `(x, y)`, `(x, y, sample_weight)`, or the three given separately.

        Anything that can be converted to an array, such as a pandas table, becomes one.
        """
        if isinstance(given, Data):
            return given
        together = isinstance(given, tuple) and y is None and sample_weight is None
        parts = given if together else (given, y, sample_weight)
        data = cls(name, *map(as_array, parts)) if 1 <= len(parts) <= 3 else None
        for part in data or ():
            if isinstance(part, np.ndarray) and not checks.is_real(part.dtype):
                raise ValueError(
                    f"Argument `{name}` must hold real numbers. Received: dtype={part.dtype}"
                )
        if data is None or any(isinstance(part, _ARRAYS) and not part.shape for part in data):
            raise checks.invalid(name, _RULE, given)
        return data

    def as_tuple(self) -> Any:
        """Returns the data in the form that `of` reads."""
        return self.x if self.y is None else (self.x, self.y, self.sample_weight)

    @property
    def is_array(self) -> bool:
        """Whether all of x is available at once."""
        return isinstance(self.x, _ARRAYS)

    @property
    def never_ends(self) -> bool:
        """Whether the data are a dataset that is known to repeat without end."""
        is_dataset = isinstance(self.x, tf.data.Dataset)
        return is_dataset and int(self.x.cardinality()) == tf.data.INFINITE_CARDINALITY

    @property
    def shape(self) -> tuple[int | None, ...] | None:
        """Shape of a batch of x, `[None, ...]`, if it is known without reading."""
        if isinstance(self.x, tf.data.Dataset):
            x, _, _ = keras.utils.unpack_x_y_sample_weight(self.x.element_spec)
            return (None, *x.shape[1:])
        return (None, *self.x.shape[1:]) if self.is_array else None

    @property
    def num_examples(self) -> int | None:
        """Number of examples of an array; None for anything else."""
        # The length of a list is a number of batches.
        return len(self.x) if self.is_array else None

    def num_batches(self, batch_size: int) -> int | None:
        """Returns how many batches `batches` yields, or None if only reading can tell."""
        if isinstance(self.x, tf.data.Dataset):
            number = int(self.x.cardinality())
            return number if number >= 0 else None
        return None if self.num_examples is None else -(-self.num_examples // batch_size)

    def with_labels(self) -> Data:
        """Returns the same data with labels, without which Keras would drop the sample weights."""
        if not self.is_array or self.y is not None or self.sample_weight is None:
            return self
        return self._replace(y=np.zeros(len(self.x), np.float32))

    def rows(self, rows: slice) -> Data:
        """Returns some of the examples of arrays."""
        cut = (None if part is None else np.asarray(part)[rows] for part in self[1:])
        return Data(self.name, *cut)

    @property
    def parts(self) -> tuple[Any, ...]:
        """Returns `(x,)`, `(x, y)` or `(x, y, sample_weight)`, depending on what there is."""
        _, *parts = self.with_labels()
        # A list of labels is one array; `tf.data` would see as many scalars.
        arrays = (np.asarray(part) if isinstance(part, list) else part for part in parts)
        return tuple(part for part in arrays if part is not None)

    def for_keras(self, options: Mapping[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
        """Returns x, y and the options of `fit` or `evaluate`, as `keras.Model` takes them."""
        _, x, y, weights = self.with_labels()
        return x, y, {**options, **({} if weights is None else {"sample_weight": weights})}

    # Reading.

    def batches(self, batch_size: int = 128) -> Iterator[tuple[Any, Any]]:
        """Yields `(x, y)` of every batch; arrays are cut into batches of `batch_size` examples.

        Raises:
            ValueError: If there are no examples, or the data cannot be read.
        """
        empty = True
        unweighted = self._replace(sample_weight=None)
        given = unweighted.dataset(batch_size) if self.is_array else self._iterable()
        for batch in iterators.elements_of(given):
            _, x, y, _ = self._batch(batch)
            if len(x):
                empty = False
                yield x, y
        if empty:
            raise checks.invalid(self.name, "must hold at least one example", self.x)

    def checked_batches(
        self, check_batch: Callable[[Any, Any], Any], batch_size: int = 128
    ) -> Iterator[Any]:
        """Yields what `check_batch` returns for the `(x, y)` of every batch.

        Raises:
            ValueError: As for `batches`, or if a batch is refused.
        """
        for x, y in self.batches(batch_size):
            try:
                checked = check_batch(x, y)
            except OutsideSupport:
                if self.is_array:
                    self._check_values(check_batch)  # Its error covers all rows.
                raise
            yield checked

    def dataset(self, batch_size: int = 128) -> tf.data.Dataset:
        """Returns a dataset of batches that can be read repeatedly.

        Raises:
            ValueError: If there is nothing to read, or it can be read only once.
        """
        if isinstance(self.x, tf.data.Dataset):
            if not int(self.x.cardinality()):
                raise checks.invalid(self.name, "must hold at least one batch", self.x)
            return self.x
        if not self.is_array:
            return self._dataset_of_batches()
        parts = self.parts
        shapes = [tuple(np.shape(array)) for array in tf.nest.flatten(parts)]
        if len({shape[:1] for shape in shapes}) > 1 or not len(self.x):
            rule = "must hold at least one example, and labels for as many"
            raise checks.invalid(self.name, rule, shapes)
        return tf.data.Dataset.from_tensor_slices(parts).batch(batch_size)

    def _dataset_of_batches(self) -> tf.data.Dataset:
        self._check_kind()
        self.check_repeats()

        def read() -> Iterator[tuple[Any, ...]]:
            for batch in self._iterable():
                yield self._batch(batch).parts

        first = next(read(), None)
        if first is None:
            raise checks.invalid(self.name, "must hold at least one batch", self.x)
        spec = tf.nest.map_structure(any_number_of, first)
        return tf.data.Dataset.from_generator(read, output_signature=spec)

    def _iterable(self) -> Iterable[Any]:
        if not isinstance(self.x, Iterable):
            raise checks.invalid(self.name, _RULE, self.x)
        return self.x

    def _batch(self, batch: Any) -> Data:
        data = Data(self.name, *map(as_array, keras.utils.unpack_x_y_sample_weight(batch)))
        if not getattr(data.x, "shape", ()):
            raise checks.invalid(self.name, _RULE, type(self.x))
        return data

    # Checks.

    def check_repeats(self) -> None:
        """Raises a `ValueError` if the data can be read only once."""
        if isinstance(self.x, Iterator):
            raise checks.invalid(self.name, f"{_RULE}, to be read more than once", self.x)

    def check_ends(self) -> None:
        """Raises a `ValueError` if the data are a dataset that never ends."""
        if self.never_ends:
            raise checks.invalid(self.name, "must end, as by data.take(100)", self.x)

    def check(self, check_batch: Callable[[Any, Any], Any]) -> None:
        """Raises a `ValueError` if x is empty or holds data that `check_batch` refuses.

        For a dataset, the element types are checked here, and the values batch by batch within the
        steps; for a generator, both are checked within the steps.
        """
        self.check_not_empty()
        if isinstance(self.x, tf.data.Dataset):
            self._check_types(check_batch)
        if self.is_array:
            self._check_values(check_batch)

    def check_not_empty(self) -> None:
        """Raises a `ValueError` if x cannot be read or has no examples."""
        self._check_kind()
        if _length(self.x) == 0:
            raise checks.invalid(self.name, "must hold at least one example", self.x)

    def _check_kind(self) -> None:
        # Keras would take these for the inputs of a model with several inputs.
        if self.x is None or isinstance(self.x, (dict, list, tuple)):
            raise checks.invalid(self.name, _RULE, type(self.x))

    def _check_types(self, check_batch: Callable[[Any, Any], Any]) -> None:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(self.x.element_spec)
        if not isinstance(x, tf.TensorSpec):
            raise checks.invalid(self.name, "must be a dataset of single tensors x", x)
        # Tracing finds wrong dtypes and shapes, and missing labels.
        tf.function(check_batch, autograph=False).get_concrete_function(x, y)

    def _check_values(self, check_batch: Callable[[Any, Any], Any]) -> None:
        found: OutsideSupport | None = None
        for start in range(0, len(self.x), _CHUNK):
            rows = slice(start, start + _CHUNK)
            y = self.y[rows] if isinstance(self.y, _ARRAYS) else self.y
            try:
                check_batch(self.x[rows], y)
            except OutsideSupport as error:
                found = self._told_of_the_array(error, start, found)
        if found is not None:
            raise found
        if self.sample_weight is not None:
            try:
                checked_weights(tf.convert_to_tensor(self.sample_weight), self.x)
            except OutsideSupport as error:
                raise self._told_of_the_array(error) from None

    def _told_of_the_array(
        self, error: OutsideSupport, start: int = 0, earlier: OutsideSupport | None = None
    ) -> OutsideSupport:
        """Returns one error for the rows from `start` on and the rows before them."""
        if earlier is not None and earlier.rule != error.rule:
            return earlier
        row, *position = error.facts.first
        facts = error.facts._replace(first=np.array([start + row, *position]))
        facts = facts if earlier is None else facts.after(earlier.facts)
        where = "the array" if self.name == "x" else f"`{self.name}`"
        return OutsideSupport(error.rule, facts, where)


def check_not_symbolic(argument: str, value: Any) -> None:
    """Raises a `ValueError` for a symbolic value, as `keras.Input` returns it."""
    if isinstance(value, keras.KerasTensor):
        rule = (
            "must be an array or a tensor, for no output of a Functional model is a distribution: "
            "in one, use model(x), which reconstructs, model.encoder(x) or model.decoder(z), or "
            "call this method within `call` of a layer of your own"
        )
        raise checks.invalid(argument, rule, value)


def as_array(value: Any) -> Any:
    """Converts what can become an array, such as a pandas table; returns all else as it is.

    As in Keras, a column `[N]` of a table becomes `[N, 1]`.
    """
    if isinstance(value, _ARRAYS) or not hasattr(value, "__array__"):
        return value
    array = np.asarray(value)
    if hasattr(value, "to_frame"):
        return array[:, np.newaxis]
    if array.dtype == object and all(map(_is_number, getattr(value, "dtypes", [None]))):
        # Pandas finds no common dtype for columns of numbers and of booleans.
        return array.astype(np.result_type(*value.dtypes))
    return array


def _is_number(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and dtype.kind in "biuf"


def checked_weights(weights: tf.Tensor, x: Any) -> tf.Tensor:
    """Returns example weights as `[B]`; using them raises a `ValueError` if they are invalid.

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
    return inside(Support(0.0), "sample_weight", "must be finite numbers >= 0", weights)


def any_number_of(value: Any) -> tf.TensorSpec:
    """Returns the spec of tensors like this one, `[B, ...]`, for any B."""
    return tf.TensorSpec([None, *value.shape[1:]], value.dtype)


def inputs_of(batch: Any) -> list[Any]:
    """Returns `[x]` or `[x, y]` of a batch as `fit` takes it, or of its types."""
    x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    return [x] if y is None else [x, y]


def first_examples(
    data: Iterable[Any], num_examples: int | None = None
) -> Iterator[list[tf.Tensor]]:
    """Yields `[x]` or `[x, y]` of batches, up to this many examples; the last batch is cut."""
    left = num_examples
    for batch in map(inputs_of, iterators.elements_of(data)):
        if left is not None and len(batch[0]) >= left:
            yield tf.nest.map_structure(lambda rows, end=left: rows[:end], batch)
            return
        yield batch
        left = None if left is None else left - len(batch[0])


def _length(x: Any) -> int | None:
    """Returns a number that is 0 if there are no data, or None if that is unknown."""
    if isinstance(x, tf.data.Dataset):
        return int(x.cardinality())
    try:
        return len(x)
    except TypeError:
        return None
