"""The full state of a training at one moment: its variables, callbacks and configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_vae.callbacks import states
from keras_vae.core.version import __version__
from keras_vae.training.checkpoints import configuration, state
from keras_vae.training.checkpoints.folder import Position
from keras_vae.training.checkpoints.format import Checkpoint
from keras_vae.training.optimization import numbers_of


class Snapshots:
    """Takes snapshots of one training, and restores them.

    Args:
        model: The model, compiled and built, before anything is restored from a checkpoint.
        others: The callbacks.
        data: What is known about the data, from `configuration.of_data`.
    """

    def __init__(self, model: Any, others: Sequence[Any], data: Mapping[str, Any]):
        self._model = model
        self._others = others
        self._data = data
        self._first = configuration.of_model(model)

    def take(self, position: Position) -> Checkpoint:
        """Returns the current state of the training; all workers must call it."""
        arrays = state.read(self._model)
        own = {f"variable {name}": array for name, array in arrays.items()}
        facts = {
            "version": __version__,
            "position": list(position),
            "stopped": self.has_ended(position.epoch - (not position.batch)),
            "data": self._data,
            # A hyperparameter that moves has a different value in its layer's configuration by now.
            "configurations": [self._first, configuration.of_model(self._model)],
            "callbacks": states.read(self._others, own),
        }
        return Checkpoint(facts, own)

    def put_back(self, checkpoint: Checkpoint) -> None:
        """Restores the training to a checkpoint, for which `misfit` must have found nothing."""
        state.restore(self._model, _variables_of(checkpoint))
        states.restore(self._others, checkpoint.facts["callbacks"], checkpoint.arrays)

    def misfit(self, checkpoint: Checkpoint) -> str:
        """Returns how a checkpoint differs from this training, or "" if it fits."""
        now, facts = configuration.of_model(self._model), checkpoint.facts
        known = [self._differences(one, now) for one in facts["configurations"]]
        found = min(known, key=len)
        found += configuration.differences(facts["data"], self._data, "data")
        told = configuration.told(found)
        return told or state.misfit(self._model, _variables_of(checkpoint))

    def _differences(self, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
        """Returns where two configurations differ, leaving out rates that a callback drives.

        After an interruption, those of the model that is trained further are of any step.
        """
        driven = {id(getattr(hook, "variable", None)) for hook in self._model.hooks.values()}
        rates = numbers_of(self._model.optimizer).items()
        # "learning_rate" of the only optimizer, or "decoder.learning_rate" of that of a part.
        names = [name.rpartition(".") for name, rate in rates if id(rate) in driven]
        ends = tuple(f"{part}.config.{name}".strip(".") for part, _, name in names)

        def is_driven(difference: str) -> bool:
            path = difference.partition(":")[0]
            return path.startswith("optimizer.") and path.endswith(ends)

        found = configuration.differences(theirs, ours)
        return [one for one in found if not is_driven(one)]

    def unknown(self) -> list[str]:
        """Returns the names of callbacks that may remember something a snapshot does not hold."""
        return states.unknown(self._others)

    def has_ended(self, epoch: int) -> bool:
        """Returns whether a callback ended the training in an epoch, not just interrupted it."""
        return bool(self._model.stop_training) and epoch in map(_stopped_epoch, self._others)


def _stopped_epoch(callback: Any) -> int | None:
    """Returns the epoch in which a callback has ended the training, if it did."""
    epoch = getattr(callback, "stopped_epoch", None)
    # Keras's callback never stops in the first epoch: 0 stands for none.
    is_none = isinstance(callback, keras.callbacks.EarlyStopping) and not epoch
    return None if is_none else epoch


def _variables_of(checkpoint: Checkpoint) -> dict[str, Any]:
    arrays = checkpoint.arrays.items()
    prefix = "variable "
    return {name.removeprefix(prefix): v for name, v in arrays if name.startswith(prefix)}
