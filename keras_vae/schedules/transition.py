"""From one value to another, once."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_vae.core import checks
from keras_vae.schedules.base import Schedule
from keras_vae.schedules.curves import between


class Transition(Schedule):
    """Goes from `start` to `end` along a curve, and stays at `end`.

    value(t) = start + (end - start) * f(min(1, t / steps))

    Subclasses implement `fraction`, which is f, with f(0) = 0, f(1) = 1 and f(1 - x) = 1 - f(x).

    Args:
        start: Value at step 0.
        end: Value from step `steps` on.
        steps: Number of steps between the two, >= 1.
    """

    def __init__(self, start: float, end: float, steps: int):
        self.start = checks.number("start", start)
        self.end = checks.number("end", end)
        self.steps = checks.integer("steps", steps)

    def fraction(self, x: tf.Tensor) -> tf.Tensor:
        """Returns how much of the way is done at x in [0, 1]."""
        raise NotImplementedError

    def value_at(self, t: tf.Tensor) -> tf.Tensor:
        return between(self.start, self.end, t, self.steps, self.fraction)

    def get_config(self) -> dict[str, Any]:
        own = {"start": self.start, "end": self.end, "steps": self.steps}
        return {**super().get_config(), **own}
