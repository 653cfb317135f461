"""Ends a training with GECO once its constraints are met."""

from __future__ import annotations

import warnings
from typing import Any

import keras

from keras_vae.callbacks.objective_of import objective_of
from keras_vae.core import checks
from keras_vae.objectives import GECO as GECOObjective

MONITORS = ("constraint_ma", "constraint", "val_constraint")


class StopWhenConstraintSatisfied(keras.callbacks.Callback):
    """Ends the training once every constraint of a `GECO` objective has been met for some epochs.

    C <= tolerance for each constraint, at the end of `patience` epochs in a row

    Args:
        patience: Number of epochs in a row.
        tolerance: How much a constraint may be violated, in its own unit.
        monitor: Which C to use: `"constraint_ma"`, the moving average at the end of the epoch,
            which the callback `GECO` keeps; `"constraint"`, the mean over the epoch; or
            `"val_constraint"`, the mean over the validation data. Epochs without validation do not
            count for the latter.
        start_from_epoch: Epochs before this one do not count; epochs are numbered from 0.

    Attributes:
        stopped_epoch: The epoch after which this callback ended the training, or None.

    Raises:
        ValueError: If an argument is out of range; at the start of `fit`, if the objective is not a
            `GECO`, or nothing keeps the moving average.

    Example:
        >>> callback = StopWhenConstraintSatisfied(patience=3, tolerance=0.5)
    """

    def __init__(
        self,
        patience: int = 1,
        tolerance: float = 0.0,
        monitor: str = "constraint_ma",
        start_from_epoch: int = 0,
    ):
        super().__init__()
        self.patience = checks.integer("patience", patience)
        self.tolerance = checks.number("tolerance", tolerance, 0.0)
        self.monitor = checks.option("monitor", monitor, MONITORS)
        self.start_from_epoch = checks.integer("start_from_epoch", start_from_epoch, minimum=0)
        self.stopped_epoch: int | None = None
        self._names: list[str] = []
        self._met = 0  # Number of epochs in a row.
        self._seen = False

    def set_model(self, model: Any) -> None:
        """Checks the objective."""
        super().set_model(model)
        objective = objective_of(model, GECOObjective)
        self._names = [self.monitor + suffix for suffix in objective.suffixes]

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks that the monitored value exists, and forgets earlier trainings."""
        kept = {name for hook in self.model.hooks.values() for name in hook.logged}
        if self.monitor == "constraint_ma" and not kept.issuperset(self._names):
            rule = "needs the callback keras_vae.callbacks.GECO in the same training"
            raise checks.invalid("monitor", rule, self.monitor)
        self.stopped_epoch, self._met, self._seen = None, 0, False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Ends the training if the constraints have been met for long enough."""
        found = [(logs or {}).get(name) for name in self._names]
        values = [float(value) for value in found if value is not None]
        if epoch < self.start_from_epoch or len(values) < len(self._names):
            return
        self._seen = True
        self._met = self._met + 1 if all(value <= self.tolerance for value in values) else 0
        if self._met >= self.patience:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def get_state(self) -> dict[str, Any]:
        """Returns what `Resume` keeps."""
        return {"stopped_epoch": self.stopped_epoch, "met": self._met, "seen": self._seen}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores what `get_state` returned."""
        self.stopped_epoch, self._met = state["stopped_epoch"], state["met"]
        self._seen = state["seen"]

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Warns if the monitored value was never there during the training."""
        if self.monitor == "val_constraint" and not self._seen:
            text = "StopWhenConstraintSatisfied: no validation, so `val_constraint` was not known."
            warnings.warn(text, stacklevel=2)
