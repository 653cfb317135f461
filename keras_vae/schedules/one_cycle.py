"""One rise and one long fall of the learning rate."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.schedules.base import Schedule
from keras_vae.schedules.curves import CURVES
from keras_vae.schedules.there_and_back import ThereAndBack


@serializable
class OneCycle(Schedule):
    """The one-cycle policy: warm-up to a large learning rate, then annealing to a tiny one.

    initial = max_value / initial_division,  final = initial / final_division
    value(t) goes from initial at t = 0 to max_value at t = warmup * steps - 1,
             and on to final at t = steps - 1, the last of so many updates, where it stays

    Both ways are half cosines, or straight lines. The momentum takes the opposite way. The values
    are those of `torch.optim.lr_scheduler.OneCycleLR`.

    Args:
        max_value: The largest value, > 0.
        steps: Number of steps of the training, >= 1.
        warmup: Fraction of the steps on the way up, in (0, 1).
        initial_division: What `max_value` is divided by at the start, >= 1.
        final_division: What the initial value is divided by at the end, >= 1.
        shape: `"cosine"` or `"linear"`.
        momentum: None, or least and largest momentum (or β1 of Adam) of the counter-cycle, in
            [0, 1).
        endpoint: Whether the last of the `steps` updates has the final value. If False, both ways
            take one step more: `max_value` is reached at t = warmup * steps, and the final value at
            t = steps, after the last update.

    Attributes:
        momentum_schedule: Schedule of the momentum, from its largest value to the least and back;
            None without `momentum`.

    Example:
        >>> schedule = OneCycle(1.0, steps=1000, initial_division=4.0, momentum=(0.85, 0.95))
        >>> [round(float(schedule(t)), 6) for t in (0, 299, 999)]
        [0.25, 1.0, 2.5e-05]
        >>> [round(float(schedule.momentum_schedule(t)), 4) for t in (0, 299, 649, 999)]
        [0.95, 0.85, 0.9, 0.95]

    References:
        Smith and Topin, 2018, arXiv:1708.07120; Smith, 2018, section 4, arXiv:1803.09820 (cyclical
        momentum).
    """

    def __init__(
        self,
        max_value: float,
        steps: int,
        *,
        warmup: float = 0.3,
        initial_division: float = 25.0,
        final_division: float = 1e4,
        shape: str = "cosine",
        momentum: tuple[float, float] | None = None,
        endpoint: bool = True,
    ):
        self.max_value = checks.number("max_value", max_value, 0.0, exclusive=True)
        self.steps = checks.integer("steps", steps)
        self.warmup = checks.number("warmup", warmup, 0.0, 1.0, exclusive=True)
        self.initial_division = checks.number("initial_division", initial_division, 1.0)
        self.final_division = checks.number("final_division", final_division, 1.0)
        self.shape = checks.option("shape", shape, CURVES)
        self.momentum = None if momentum is None else _momenta(momentum)
        self.endpoint = bool(endpoint)
        initial = self.max_value / self.initial_division
        self._rate = self._phases(initial, self.max_value, initial / self.final_division)

    @property
    def momentum_schedule(self) -> Schedule | None:
        """The schedule of the momentum, None without one."""
        if self.momentum is None:
            return None
        low, high = self.momentum
        return self._phases(high, low, high)

    def value_at(self, t: tf.Tensor) -> tf.Tensor:
        return self._rate.value_at(t)

    def _phases(self, start: float, middle: float, end: float) -> ThereAndBack:
        # The last of n updates comes n - 1 steps after the first.
        shift = 1 if self.endpoint else 0
        turn, last = self.warmup * self.steps - shift, self.steps - shift
        return ThereAndBack(start, middle, end, turn, last, self.shape)

    def get_config(self) -> dict[str, Any]:
        names = ("max_value", "steps", "warmup", "initial_division", "final_division", "shape")
        own = {name: getattr(self, name) for name in names}
        own |= {"momentum": self.momentum, "endpoint": self.endpoint}
        return {**super().get_config(), **own}


def _momenta(momentum: Any) -> tuple[float, float]:
    low, high = checks.interval("momentum", momentum, 0.0)
    if high >= 1.0:
        raise checks.invalid("momentum", "must be < 1", momentum)
    return low, high
