"""Updates the multipliers of GECO."""

from __future__ import annotations

from typing import Any

import keras

from keras_vae.callbacks.objective_of import objective_of
from keras_vae.controllers import Controller, MultiplierRule, ScheduledValue
from keras_vae.core import checks
from keras_vae.objectives import GECO as GECOObjective


class GECO(keras.callbacks.Callback):
    """Updates the multipliers of a `GECO` objective until its constraints are met.

    C_ma <- alpha C_ma + (1 - alpha) C,  C_ma starting at the first C
    log lambda <- log lambda + eta C_ma,  the step clipped, lambda within bounds

    The rule runs inside the train step, once per optimizer step. λ and C_ma are weights of the
    model, so they are saved, and a resumed training continues with them. The logs hold `lambda`,
    `constraint` and `constraint_ma`.

    η is per unit of the constraint: 3e-3 suits a summed squared error in the tens; a distance of
    about 1 needs a correspondingly larger η. `clip` keeps λ from winding up during the first steps,
    when the networks cannot meet the constraint yet. If λ oscillates, a smaller η or α calms it.

    The multiplicative rule of the published MNIST table (see the references below) is
    `GECO(learning_rate=1.0, alpha=0.99, clip=(0.9, 1.1), every=100)`, except that its code counts
    steps from 0 and waits for two epochs of 200 steps, so that λ first moves at step 400, the
    401st. With `warmup_steps=399`, λ moves equally often, each time one step earlier.

    Args:
        learning_rate: η > 0.
        alpha: Decay α of the moving average, in [0, 1).
        clip: Smallest and largest factor by which λ changes in one update.
        every: Number of optimizer steps from one update of λ to the next.
        warmup_steps: Number of optimizer steps at the start during which λ stays as it is.
        kappa: Schedule of the constraint's κ, or None. If several constraints have a κ,
            `HyperparameterSchedule` can drive each by its name.
        bounds: Smallest and largest λ.

    Raises:
        ValueError: If an argument is out of range; at the start of `fit`, if the objective is not a
            `GECO`, another callback drives λ or κ, or `kappa` is given but the objective does not
            have exactly one κ.

    Example:
        >>> callback = GECO(learning_rate=2e-3, warmup_steps=100)

    References:
        Rezende and Viola, 2018, algorithm 1, arXiv:1810.00597; the multiplicative rule is that of
        github.com/denproc/Taming-VAEs.
    """

    def __init__(
        self,
        learning_rate: float = 3e-3,
        alpha: float = 0.9,
        clip: tuple[float, float] = (0.995, 1.005),
        every: int = 1,
        warmup_steps: int = 0,
        kappa: Any = None,
        bounds: tuple[float, float] = (1e-6, 1e6),
    ):
        super().__init__()
        self.learning_rate = checks.number("learning_rate", learning_rate, 0.0, exclusive=True)
        self.alpha = checks.number("alpha", alpha, 0.0, 1.0)
        if self.alpha == 1.0:
            raise checks.invalid("alpha", "must be < 1", alpha)
        self.clip = checks.interval("clip", clip, 0.0, exclusive=True)
        if not self.clip[0] <= 1.0 <= self.clip[1]:
            raise checks.invalid("clip", "must contain 1", clip)
        self.every = checks.integer("every", every)
        self.warmup_steps = checks.integer("warmup_steps", warmup_steps, minimum=0)
        if not (kappa is None or callable(kappa)):
            rule = "must be a function of the step, such as keras_vae.schedules.Linear(8, 4, 1000)"
            raise checks.invalid("kappa", rule, kappa)
        self.kappa = kappa
        self.bounds = checks.interval("bounds", bounds, 0.0, exclusive=True)
        self._controllers: list[Controller] = []

    def set_model(self, model: Any) -> None:
        """Attaches the rules; Keras calls this before it makes the train function."""
        super().set_model(model)
        objective = objective_of(model, GECOObjective)
        names = ["lambda" + suffix for suffix in objective.suffixes]
        averages = objective.moving_averages(self.alpha)
        parts = zip(names, objective.multipliers, averages, strict=True)
        self._controllers = [MultiplierRule(*part, **self._numbers()) for part in parts]
        if self.kappa is not None:
            self._controllers.append(ScheduledValue(*_kappa_of(model), self.kappa))
        for controller in self._controllers:
            model.attach(controller, by=type(self).__name__)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Detaches the rules; λ keeps its last value."""
        for controller in self._controllers:
            self.model.detach(controller)

    def _numbers(self) -> dict[str, Any]:
        names = ("learning_rate", "clip", "bounds", "every", "warmup_steps")
        return {name: getattr(self, name) for name in names}


def _kappa_of(model: Any) -> tuple[str, keras.Variable]:
    """Returns the name and the variable of the only κ among a model's constraints, or raises."""
    constraints = objective_of(model, GECOObjective).constraints
    held = [constraint.hyperparameters.get("kappa") for constraint in constraints]
    numbers = model.hyperparameters.items()
    found = {name: number for name, number in numbers if any(number is one for one in held)}
    if len(found) != 1:
        rule = f"must be None unless one constraint has a kappa, here {sorted(found) or 'none'}"
        hint = ": HyperparameterSchedule drives any number by its name"
        raise checks.invalid("kappa", rule + hint, "a schedule")
    return next(iter(found.items()))
