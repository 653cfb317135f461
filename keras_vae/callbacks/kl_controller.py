"""Holds the KL at a target."""

from __future__ import annotations

from typing import Any

import keras

from keras_vae.callbacks.hyperparameter_schedule import HyperparameterSchedule
from keras_vae.callbacks.objective_of import objective_of
from keras_vae.controllers import PIRule
from keras_vae.core import checks
from keras_vae.objectives import TargetKL


class KLController(keras.callbacks.Callback):
    """Adjusts the β of a `TargetKL` objective until the KL is at its target.

    e = target - KL,  I <- clip(I - K_i e),  beta <- clip(K_p / (1 + exp(e)) + I)

    The rule runs inside the train step, once per optimizer step, on the KL of the batch. β and I
    are weights of the model, so they are saved, and a resumed training continues with them. The
    logs hold `beta`. The target must be a KL that can be reached with some β within the bounds.

    K_i sets the pace: with the published 1e-4, an error of 10 nats moves β by 0.1 in 100 steps. For
    trainings of a few hundred steps and targets of a few nats, 1e-3 settles sooner.

    Args:
        proportional: K_p >= 0, the most that the proportional term adds to β.
        integral: K_i >= 0, how much β moves in a step for each nat of error.
        bounds: Smallest and largest β, >= 0.
        target: Schedule of the target, or None.

    Raises:
        ValueError: If an argument is out of range; at the start of `fit`, if the objective is not a
            `TargetKL`, or another callback drives β or the target.

    Example:
        >>> callback = KLController(proportional=0.01, integral=1e-4)

    References:
        Shao et al., 2020, algorithm 1, arXiv:2004.05988.
    """

    def __init__(
        self,
        proportional: float = 0.01,
        integral: float = 1e-4,
        bounds: tuple[float, float] = (0.0, 1.0),
        target: Any = None,
    ):
        super().__init__()
        self.proportional = checks.number("proportional", proportional, 0.0)
        self.integral = checks.number("integral", integral, 0.0)
        self.bounds = checks.interval("bounds", bounds, 0.0)
        if not (target is None or callable(target)):
            rule = "must be a function of the step, such as keras_vae.schedules.Linear(8, 4, 1000)"
            raise checks.invalid("target", rule, target)
        self.target = None if target is None else HyperparameterSchedule("target_kl", target)
        self._rule: PIRule | None = None

    def set_model(self, model: Any) -> None:
        """Attaches the rule; Keras calls this before it makes the train function."""
        super().set_model(model)
        objective = objective_of(model, TargetKL)
        weights = (objective.beta, objective.integral, objective.target)
        numbers = (self.proportional, self.integral, self.bounds)
        self._rule = PIRule("beta", *weights, *numbers)
        model.attach(self._rule, by=type(self).__name__)
        if self.target is not None:
            self.target.set_model(model)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Detaches the rule; β keeps its last value."""
        self.model.detach(self._rule)
        if self.target is not None:
            self.target.on_train_end(logs)
