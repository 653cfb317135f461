"""The full state of a training at one moment: its variables, callbacks and configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_vae.callbacks import states
from keras_vae.core.version import __version__
from keras_vae.training.checkpoints import configuration, state
from keras_vae.training.checkpoints.folder import Position
from keras_vae.training.checkpoints.format import Checkpoint


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
            "stopped": self._is_stopped(position),
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
        known = [list(configuration.differences(one, now)) for one in facts["configurations"]]
        found = min(known, key=len)
        found += configuration.differences(facts["data"], self._data, "data")
        told = configuration.told(found)
        return told or state.misfit(self._model, _variables_of(checkpoint))

    def unknown(self) -> list[str]:
        """Returns the names of callbacks that may remember something a snapshot does not hold."""
        return states.unknown(self._others)

    def _is_stopped(self, position: Position) -> bool:
        """Returns whether a callback has ended the training, rather than just interrupted it."""
        ends = [getattr(one, "stopped_epoch", None) for one in self._others]
        return bool(self._model.stop_training) and position.epoch - 1 in ends


def _variables_of(checkpoint: Checkpoint) -> dict[str, Any]:
    arrays = checkpoint.arrays.items()
    prefix = "variable "
    return {name.removeprefix(prefix): v for name, v in arrays if name.startswith(prefix)}
