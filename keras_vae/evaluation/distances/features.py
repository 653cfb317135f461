"""What distances compare: features of data, read batch by batch and checked on the way."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.evaluation.reading import with_progress
from keras_vae.training.data import Data


class Largest:
    """Keeps the largest absolute value of arrays that pass."""

    def __init__(self) -> None:
        self.value = 0.0

    def watch(self, parts: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields the arrays."""
        for part in parts:
            self.value = max(self.value, float(np.abs(part).max()))
            yield part


@dataclasses.dataclass(frozen=True)
class FeatureStream:
    """Features of data that are read once.

    Attributes:
        name: Name of the argument that the data came by.
        size: Number F of features.
        length: Number of examples, None where it cannot be told before they are read.
        parts: Features of every batch, `[B, F]`, float64 and finite.
        largest: Keeps the largest absolute value of pixels that are their own features; None where
            features have units of their own.
    """

    name: str
    size: int
    length: int | None
    parts: Iterator[np.ndarray]
    largest: Largest | None = None

    @property
    def unit(self) -> float:
        """What distances divide features by, known once all examples have been read."""
        return 1.0 if self.largest is None else self.largest.value or 1.0

    def require(self, minimum: int, reason: str, count: int | None = None) -> None:
        """Raises if there are fewer examples than `minimum`, as far as that is known.

        Args:
            minimum: Integer.
            reason: What they are needed for.
            count: Their number, once they have been read.
        """
        count = self.length if count is None else count
        if count is not None and count < minimum:
            rule = f"must hold at least {minimum} examples, {reason}"
            raise ValueError(f"Argument `{self.name}` {rule}. Received: {count}")

    def collect(self) -> np.ndarray:
        """Returns the features of all examples, `[N, F]`."""
        return np.concatenate(list(self.parts))


def feature_stream(
    name: str, data: Any, features: Any, batch_size: int = 128, verbose: bool = True
) -> FeatureStream:
    """Opens data and looks at the features of their first batch.

    Args:
        name: Name of the argument that the data came by.
        data: Array `[N, ...]`, or dataset of batches as `fit` takes it.
        features: Function from images to features `[B, F]`; None takes the data themselves, images
            in units of the largest real pixel.
        batch_size: Examples at once, where `data` is an array.
        verbose: Whether to show a progress bar when it takes longer.

    Returns:
        A `FeatureStream`.

    Raises:
        ValueError: If the data are empty, or what `features` makes of them is not finite `[B, F]`.

    Example:
        >>> stream = feature_stream("real", np.zeros([5, 2, 2, 1]), None, batch_size=4)
        >>> stream.size, stream.length, [len(part) for part in stream.parts]
        (4, 5, [4, 1])
    """
    data = Data.of(name, data)
    data.check_ends()
    batch_size = checks.integer("batch_size", batch_size)
    work = (x for x, _ in data.batches(batch_size))
    opening = next(work)
    function = _function(features)
    parts = (_features_of(name, x, function) for x in itertools.chain([opening], work))
    first = next(parts)
    size = first.shape[1]
    rest = (_same_size(name, part, size) for part in itertools.chain([first], parts))
    largest = Largest() if features is None and np.ndim(opening) > 2 else None
    watched = rest if largest is None else largest.watch(rest)
    shown = with_progress(watched, data.num_batches(batch_size), verbose)
    return FeatureStream(name, size, data.num_examples, shown, largest)


def both_streams(
    real: Any, generated: Any, features: Any, batch_size: int, verbose: bool
) -> tuple[FeatureStream, FeatureStream]:
    """Opens real and generated data, or raises if the sizes of their features differ.

    The unit of both is that of the real data, so that a distance does not depend on whether pixels
    reach to 1 or to 255, and every model is held against the same scale.
    """
    features = None if features is None else _function(features)  # one graph for both
    first = feature_stream("real", real, features, batch_size, verbose)
    second = feature_stream("generated", generated, features, batch_size, verbose)
    if first.size != second.size:
        rule = f"must have as many features as `real`, {first.size}"
        raise ValueError(f"Argument `generated` {rule}. Received: {second.size}")
    return first, second


def _function(features: Any) -> Callable[[Any], Any]:
    if features is None:
        return lambda x: x
    if not callable(features):
        rule = "must be a function from images to features, a Keras model, or None"
        raise checks.invalid("features", rule, features)
    if isinstance(features, keras.layers.Layer):
        # One graph instead of one operation after the other.
        return tf.function(features, reduce_retracing=True, autograph=False)
    return features


def _features_of(name: str, x: Any, function: Callable[[Any], Any]) -> np.ndarray:
    """Returns the features `[B, F]` of a batch, float64."""
    values = np.asarray(function(x))
    if values.ndim < 2 or len(values) != len(x) or not values.size:
        rule = f"must give features [B, F] of {len(x)} examples"
        raise ValueError(f"Argument `{name}` {rule}. Received: shape={values.shape}")
    values = values.reshape(len(values), -1).astype(np.float64)
    if not np.isfinite(values).all():
        bad = np.argwhere(~np.isfinite(values))
        row, column = bad[0]
        told = f"{len(bad)} in a batch that are not, the first, {values[row, column]}, in its row "
        raise ValueError(
            f"Argument `{name}` must give finite features. Received: {told}{row}, column {column}"
        )
    return values


def _same_size(name: str, part: np.ndarray, size: int) -> np.ndarray:
    if part.shape[1] != size:
        rule = f"must give as many features in every batch, {size}"
        raise ValueError(f"Argument `{name}` {rule}. Received: {part.shape[1]}")
    return part
