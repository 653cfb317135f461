"""The state of a model while `fit`, `evaluate` or `predict` run, and what they put back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from keras_vae.core import checks
from keras_vae.training import execution, iterators, keeping, workers
from keras_vae.training.data import Data


@contextlib.contextmanager
def kept(model: Any, training: Data, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields the options of `fit` as needed by a callback that saves the training."""
    callbacks = keras.tree.flatten(options.get("callbacks") or [])
    keeper = keeping.keeper_among(callbacks)
    if keeper is None:
        yield options
        return
    callbacks = keeping.in_order(callbacks, keeper)
    try:
        prepared = keeper.prepare(model, training, options, callbacks[:-1])
        yield {**prepared, "callbacks": callbacks}
    finally:
        model.skip_batches(0)
        keeper.close()


def checked_callbacks(model: Any, callbacks: Any) -> list[Any]:
    """Returns the callbacks of `fit` as a list.

    Raises:
        ValueError: If they cannot be notified of the training, or would all write to one file.
    """
    flat = keras.tree.flatten(callbacks or [])
    if any(isinstance(one, keras.callbacks.CallbackList) for one in flat):
        rule = "must be a list of callbacks: Keras tells a CallbackList of no further training"
        raise checks.invalid("callbacks", rule, flat)
    backs_up = any(isinstance(one, keras.callbacks.BackupAndRestore) for one in flat)
    if backs_up and workers.several(model.distribute_strategy):
        rule = "must hold keras_vae.callbacks.Resume, not BackupAndRestore, on several workers"
        raise checks.invalid("callbacks", f"{rule}: all would write to one file", flat)
    return flat


@contextlib.contextmanager
def several_steps_per_call(
    model: Any, is_chosen: bool, callbacks: Any, *totals: int | None
) -> Iterator[None]:
    """Sets the best number of steps per call, and cleans up afterwards.

    Args:
        model: The model.
        is_chosen: Whether the number is left to the model.
        callbacks: Callbacks that may want to see every batch.
        *totals: Numbers of steps that an execution must divide, if they are known.
    """
    before = model.steps_per_execution
    # Several workers must agree, whatever callbacks each of them has.
    apart = model.run_eagerly or workers.several(model.distribute_strategy)
    if is_chosen and not apart:
        flat = keras.tree.flatten(callbacks or [])
        boundaries = keeping.boundaries_of(flat)
        model.steps_per_execution = execution.steps_per_call(flat, *totals, *boundaries)
    try:
        with cleaned_up_after(model):
            yield
    finally:
        model.steps_per_execution = before


@contextlib.contextmanager
def cleaned_up_after(model: Any) -> Iterator[None]:
    """Removes what callbacks attached and did not remove, and releases the iterators of data.

    If the training broke off because a worker is gone, the error says so plainly.
    """
    policies = model.non_finite, model.spikes
    try:
        with (
            iterators.released_in_background(),
            model.training_step.hooks.detached_after(),
            workers.loss_told(model.distribute_strategy),
        ):
            yield
    finally:
        model.non_finite, model.spikes = policies
