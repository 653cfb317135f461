"""A logistic curve from one value to another."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.schedules.transition import Transition


@serializable
class Sigmoid(Transition):
    """A logistic curve from `start` to `end`, and `end` from then on.

    s(x) = 1 / (1 + exp(-steepness * (x - 1/2))),  x = min(1, t / steps)
    value(t) = start + (end - start) * (s(x) - s(0)) / (s(1) - s(0))

    The curve is rescaled so that it is `start` at step 0 and `end` at `steps` exactly.

    Args:
        start: Value at step 0.
        end: Value from step `steps` on.
        steps: Number of steps between the two, >= 1.
        steepness: > 0. Near 0 the curve is a line; 10 spends two thirds of the change on the
            middle third of the steps, and much larger values make a jump at half of the steps.

    Example:
        >>> [round(float(Sigmoid(0.0, 1.0, steps=4)(t)), 3) for t in (0, 1, 2, 3, 4, 100)]
        [0.0, 0.07, 0.5, 0.93, 1.0, 1.0]

    References:
        Bowman et al., 2016, section 3.1, arXiv:1511.06349 (annealing of the KL weight).
    """

    def __init__(self, start: float, end: float, steps: int, steepness: float = 10.0):
        super().__init__(start, end, steps)
        self.steepness = checks.number("steepness", steepness, 0.0, exclusive=True)

    def fraction(self, x: tf.Tensor) -> tf.Tensor:
        # The formula above, rearranged so that no two close numbers are subtracted near x = 0.
        k = self.steepness
        return tf.math.expm1(-k * x) / math.expm1(-0.5 * k) * tf.sigmoid(k * (x - 0.5))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "steepness": self.steepness}
