"""From one value to a second, and on to a third."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.schedules.base import Schedule
from keras_vae.schedules.curves import CURVES, between


@serializable
class ThereAndBack(Schedule):
    """Goes from `start` to `middle` over `turn` steps, then to `end`, and stays there.

    It is what the rate and the momentum of `OneCycle` have in common.

    Args:
        start: Value at step 0.
        middle: Value at step `turn`.
        end: Value from step `steps` on.
        turn: Where it turns, less than `steps`; need not be a whole number. What turns before step
            0 begins on its way from `middle` to `end`.
        steps: Number of steps of the whole, >= 0.
        shape: `"cosine"` or `"linear"`, of both ways.

    Example:
        >>> schedule = ThereAndBack(0.9, 0.5, 0.9, turn=2, steps=6, shape="linear")
        >>> [round(float(schedule(t)), 3) for t in (0, 1, 2, 4, 6, 100)]
        [0.9, 0.7, 0.5, 0.7, 0.9, 0.9]
    """

    def __init__(
        self,
        start: float,
        middle: float,
        end: float,
        turn: float,
        steps: int,
        shape: str = "cosine",
    ):
        self.start = checks.number("start", start)
        self.middle = checks.number("middle", middle)
        self.end = checks.number("end", end)
        self.steps = checks.integer("steps", steps, minimum=0)
        self.turn = checks.number("turn", turn, maximum=self.steps, exclusive=True)
        self.shape = checks.option("shape", shape, CURVES)

    def value_at(self, t: tf.Tensor) -> tf.Tensor:
        curve = CURVES[self.shape]
        back = between(self.middle, self.end, t - self.turn, self.steps - self.turn, curve)
        # The difference of the turn and the last step may be off by a rounding.
        back = tf.where(t < self.steps, back, self.end)
        if self.turn <= 0.0:
            return back
        there = between(self.start, self.middle, t, self.turn, curve)
        return tf.where(t < self.turn, there, back)

    def get_config(self) -> dict[str, Any]:
        names = ("start", "middle", "end", "turn", "steps", "shape")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
