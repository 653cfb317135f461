"""Features of data, which distances compare, read batch by batch and checked on the way."""

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
    """Keeps the largest absolute value in the arrays that pass through it."""

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
        name: Name of the argument by which the data were given.
        size: Number F of features.
        length: Number of examples, or None if it is not known before they are read.
        parts: Features of every batch, `[B, F]`, float64 and finite.
        largest: Keeps the largest absolute value if pixels are used as features; None if features
            have their own units.
    """

    name: str
    size: int
    length: int | None
    parts: Iterator[np.ndarray]
    largest: Largest | None = None

    @property
    def unit(self) -> float:
        """What distances divide features by; it is known once all examples have been read."""
        return 1.0 if self.largest is None else self.largest.value or 1.0

    def require(self, minimum: int, reason: str, count: int | None = None) -> None:
        """Raises an error if there are known to be fewer examples than `minimum`.

        Args:
            minimum: Integer.
            reason: What the examples are needed for.
            count: Number of examples, once they have been read.
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
    """Opens data and computes the features of their first batch.

    Args:
        name: Name of the argument by which the data were given.
        data: Array `[N, ...]`, or dataset of batches as `fit` takes it.
        features: Function from images to features `[B, F]`; None uses the data themselves, with
            images in units of the largest real pixel.
        batch_size: Number of examples to process at once, if `data` is an array.
        verbose: Whether to show a progress bar if it takes long.

    Returns:
        A `FeatureStream`.

    Raises:
        ValueError: If the data are empty, or `features` does not return finite `[B, F]` for them.

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
    """Opens real and generated data, or raises if their numbers of features differ.

    Both use the unit of the real data, so that a distance does not depend on whether pixels go up
    to 1 or to 255, and every model is measured on the same scale.
    """
    features = None if features is None else _function(features)  # Use one graph for both.
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
        # Use one graph instead of running one operation after another.
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
