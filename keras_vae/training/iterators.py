"""Ends passes over tf.data without waiting for the thread that tunes the pipeline.

The destructor of an iterator tells that thread to end. The thread often misses it, and sleeps on in
periods that double, from 10 ms to a minute: the destructor waits, with all cores idle, for up to as
long as the pass took. So a thread of its own destroys an iterator, once nobody else holds it.
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
    """Empties the list, and destroys what nobody else holds of it in the background."""
    released = iterators.copy()
    iterators.clear()
    if released and not sys.is_finalizing():
        # No daemon: one that came back from the destructor to an interpreter that has ended would
        # abort the process. Where no more threads can be started, the caller's destroys them.
        with contextlib.suppress(RuntimeError):
            threading.Thread(target=released.clear, name="release", daemon=False).start()


def elements_of(data: Iterable[Any]) -> Iterator[Any]:
    """Yields what `data` holds, and releases its iterator in the end if it is a dataset."""
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
    """Releases the iterators of `fit`, `evaluate` and `predict` of `keras.Model` within it.

    Keras's loops name the class that makes their iterators, so another one stands in for it. It is
    for the current thread alone: others get Keras's own.
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
        # This one is in a cycle with its generator if that has not come to its end.
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
