"""Functions of the optimizer step, to drive β, the learning rate or any other number."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.head import serializable

__all__ = ["Constant", "Linear"]


@serializable
class Constant(keras.optimizers.schedules.LearningRateSchedule):
    """The same value at every step.

    Args:
        value: The value.

    Example:
        >>> float(Constant(0.5)(100))
        0.5
    """

    def __init__(self, value: float):
        self.value = checks.number("value", value)

    def __call__(self, step: Any) -> tf.Tensor:
        """Returns the value at an optimizer step, counted from 0: a float32 scalar."""
        return tf.constant(self.value, tf.float32)

    def get_config(self) -> dict[str, Any]:
        return {"value": self.value}


@serializable
class Linear(keras.optimizers.schedules.LearningRateSchedule):
    """A straight line from `start` to `end`, and `end` from then on.

    value(t) = start + (end - start) * min(1, t / steps)

    Args:
        start: Value at step 0.
        end: Value from step `steps` on.
        steps: Number of steps between the two, >= 1.

    Example:
        >>> [float(Linear(0.0, 1.0, steps=4)(t)) for t in (0, 1, 4, 100)]
        [0.0, 0.25, 1.0, 1.0]

    References:
        Bowman et al., 2016, section 3.1, arXiv:1511.06349 (annealing of the KL weight).
    """

    def __init__(self, start: float, end: float, steps: int):
        self.start = checks.number("start", start)
        self.end = checks.number("end", end)
        self.steps = checks.integer("steps", steps)

    def __call__(self, step: Any) -> tf.Tensor:
        """Returns the value at an optimizer step, counted from 0: a float32 scalar."""
        # Steps are exact in float32 to 2^24 only, so the bound comes before the cast.
        step = tf.minimum(tf.cast(step, tf.int64), self.steps)
        fraction = tf.cast(tf.cast(step, tf.float64) / self.steps, tf.float32)
        return self.start + (self.end - self.start) * fraction

    def get_config(self) -> dict[str, Any]:
        return {"start": self.start, "end": self.end, "steps": self.steps}
