"""Equal ratios from one value to another."""

from __future__ import annotations

import math

import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.schedules.transition import Transition


@serializable
class Exponential(Transition):
    """Geometric interpolation from `start` to `end`, and `end` from then on.

    value(t) = start * (end / start)^min(1, t / steps)

    Every step multiplies the value by the same factor.

    Args:
        start: Value at step 0, > 0.
        end: Value from step `steps` on, > 0.
        steps: Number of steps between the two, >= 1.

    Example:
        >>> [round(float(Exponential(1.0, 1e-4, steps=4)(t)), 6) for t in (0, 1, 2, 4, 100)]
        [1.0, 0.1, 0.01, 0.0001, 0.0001]

    References:
        Jang et al., 2017, arXiv:1611.01144 (annealing of a temperature).
    """

    def __init__(self, start: float, end: float, steps: int):
        super().__init__(start, end, steps)
        checks.number("start", start, 0.0, exclusive=True)
        checks.number("end", end, 0.0, exclusive=True)

    def value_at(self, t: tf.Tensor) -> tf.Tensor:
        factor = (math.log(self.end) - math.log(self.start)) / self.steps
        return tf.where(t < self.steps, self.start * tf.exp(factor * t), self.end)
