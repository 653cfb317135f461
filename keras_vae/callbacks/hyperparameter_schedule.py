"""Drives a hyperparameter of the model by a schedule."""

from __future__ import annotations

from typing import Any

import keras

from keras_vae.controllers import ScheduledValue
from keras_vae.core import checks


class HyperparameterSchedule(keras.callbacks.Callback):
    """Sets a hyperparameter of the model at every optimizer step of a training.

    value at step t = schedule(t),  t = optimizer.iterations

    The schedule runs inside the train step. The hyperparameter appears in the logs under its name,
    and keeps its last value when the training ends.

    Args:
        name: Name of the hyperparameter, one of `model.hyperparameters`: `"beta"`,
            `"learning_rate"`, ...
        schedule: Function of the step, such as one of `keras_vae.schedules`.

    Raises:
        ValueError: At the start of `fit`, if the model has no such hyperparameter, or another
            callback drives it.

    Example:
        >>> import keras_vae as kv
        >>> callback = HyperparameterSchedule("beta", kv.schedules.Linear(0.0, 1.0, steps=1000))
    """

    def __init__(self, name: str, schedule: Any):
        super().__init__()
        if not callable(schedule):
            rule = "must be a function of the step, such as keras_vae.schedules.Linear(0, 1, 1000)"
            raise checks.invalid("schedule", rule, schedule)
        self.name = checks.text("name", name)
        self.schedule = schedule
        self._controller: ScheduledValue | None = None

    def set_model(self, model: Any) -> None:
        """Attaches the schedule; Keras calls this before it makes the train function."""
        super().set_model(model)
        self._attach()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Detaches the schedule."""
        self.model.detach(self._controller)

    def _attach(self) -> None:
        number = self._number_of(self.model)
        self._controller = ScheduledValue(self.name, number, self.schedule)
        self.model.attach(self._controller, by=type(self).__name__)

    def _number_of(self, model: Any) -> keras.Variable:
        """Returns the variable that holds the hyperparameter, or raises an error."""
        hyperparameters = getattr(model, "hyperparameters", {})
        if self.name in hyperparameters:
            return hyperparameters[self.name]
        rule = f"must be a hyperparameter of the model, one of {sorted(hyperparameters)}"
        of_parts = any(name.endswith(".learning_rate") for name in hyperparameters)
        if self.name == "learning_rate" and not of_parts:
            rule += "; an optimizer that has a schedule for its learning rate computes it itself"
        raise checks.invalid("name", rule, self.name)


class KLAnnealing(HyperparameterSchedule):
    """Drives β, the weight of the KL, by a schedule: `HyperparameterSchedule("beta", schedule)`.

    Args:
        schedule: Function of the step, such as one of `keras_vae.schedules`.

    Example:
        >>> import keras_vae as kv
        >>> callback = KLAnnealing(kv.schedules.Linear(0.0, 1.0, steps=1000))

    References:
        Bowman et al., 2016, section 3.1, arXiv:1511.06349; Soenderby et al., 2016,
        arXiv:1602.02282 (warm-up).
    """

    def __init__(self, schedule: Any):
        super().__init__("beta", schedule)
