"""A progress bar for work that takes a long time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_vae.core import checks

# Seconds before a bar appears; short work shows none.
_PATIENCE = 5.0


class Progress:
    """A bar that appears once the work takes more than a few seconds.

    Args:
        total: Number of steps, or None if it is unknown.
        verbose: Whether there is a bar at all.
        unit: The name of a step.

    Example:
        >>> with Progress(2, verbose=True) as progress:
        ...     progress.advance()
        ...     progress.advance()
    """

    def __init__(self, total: int | None, verbose: bool, unit: str = "batch"):
        checks.flag("verbose", verbose)
        self._bar = keras.utils.Progbar(total, unit_name=unit) if verbose else None
        self._total, self._number, self._shown = total, 0, False
        self._start = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: Any) -> None:  # the work may be left before its end
        if self._bar is not None and self._shown:
            self._bar.update(self._number, finalize=True)

    def advance(self) -> None:
        """Counts a completed step."""
        if self._bar is None:
            return
        self._number += 1
        late = self._number != self._total and time.monotonic() - self._start > _PATIENCE
        self._shown = self._shown or late
        if self._shown:
            self._bar.update(self._number, finalize=False)

    def tick(self) -> tf.Operation | None:
        """Counts a step inside a graph, each time the graph reaches this point."""
        if self._bar is None:
            return tf.no_op()
        return tf.numpy_function(self.advance, [], [], stateful=True)


def with_progress(
    work: Iterable[Any], total: int | None, verbose: bool, unit: str = "batch"
) -> Iterator[Any]:
    """Yields what `work` yields, with a progress bar once it takes more than a few seconds."""
    with Progress(total, verbose, unit) as progress:
        for item in work:
            yield item
            progress.advance()
