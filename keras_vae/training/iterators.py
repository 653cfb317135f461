"""Ends passes over tf.data without waiting for the thread that tunes the pipeline.

The destructor of an iterator tells that thread to end. The thread often misses this and sleeps on
in periods that double, from 10 ms to a minute, while the destructor waits, with all cores idle, for
up to as long as the pass took. A separate thread therefore destroys an iterator once nobody else
holds it.
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf
from keras.src.backend.tensorflow import trainer as keras_trainer


def release(iterators: list[Any]) -> None:
    """Empties the list, and destroys in the background whatever nobody else holds."""
    released = iterators.copy()
    iterators.clear()
    if released and not sys.is_finalizing():
        # Not a daemon: one that returned from the destructor to an interpreter that has ended would
        # abort the process. If no more threads can be started, the caller's thread destroys them.
        with contextlib.suppress(RuntimeError):
            threading.Thread(target=released.clear, name="release", daemon=False).start()


def elements_of(data: Iterable[Any]) -> Iterator[Any]:
    """Yields what `data` holds, and releases its iterator at the end if it is a dataset."""
    if not isinstance(data, (tf.data.Dataset, tf.distribute.DistributedDataset)):
        yield from data
        return
    held = [iter(data)]
    try:
        yield from held[0]
    finally:
        release(held)


@contextlib.contextmanager
def released_in_background() -> Iterator[None]:
    """Releases the iterators that `fit`, `evaluate` and `predict` of `keras.Model` make in it.

    Keras's loops look up by name the class that makes their iterators, so another class stands in
    for it. It does so only for the current thread: others get Keras's own.
    """
    outer = _made.get()
    made: list[_EpochIterator] = []
    token = _made.set(made)
    keras_trainer.TFEpochIterator = _make
    try:
        yield
    finally:
        _made.reset(token)
        if outer is None:
            keras_trainer.TFEpochIterator = _TFEpochIterator
        for epoch_iterator in made:
            epoch_iterator.let_go()


class _EpochIterator(keras_trainer.TFEpochIterator):
    """Makes an iterator for every epoch, and holds it for as long as Keras's loop may do so."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._held: list[Any] = []
        self._outdated: list[Any] = []

    def _get_iterator(self) -> Any:
        self._held.append(iter(super()._get_iterator()))
        return self._held[-1]

    def __next__(self) -> Any:
        # A loop that asks for a step holds the iterator of the last step, and none before it.
        release(self._outdated)
        step = super().__next__()
        while self._held[0] is not step[-1]:
            self._outdated.append(self._held.pop(0))
        return step

    def let_go(self) -> None:
        """Releases all iterators: the loop has ended."""
        # This object is in a cycle with its generator if the generator has not finished.
        self._epoch_iterator = self._current_iterator = None
        self._outdated += self._held
        self._held.clear()
        release(self._outdated)


_made: contextvars.ContextVar[list[_EpochIterator] | None] = contextvars.ContextVar(
    "epoch_iterators", default=None
)
_TFEpochIterator = keras_trainer.TFEpochIterator


def _make(*args: Any, **kwargs: Any) -> keras_trainer.TFEpochIterator:
    made = _made.get()
    if made is None:
        return _TFEpochIterator(*args, **kwargs)
    made.append(_EpochIterator(*args, **kwargs))
    return made[-1]
