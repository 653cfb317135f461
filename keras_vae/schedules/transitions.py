"""Single transitions from one value to another: linear, cosine, sigmoid or exponential."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.schedules import curves
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
        """Returns the fraction of the transition that is completed at x in [0, 1]."""
        raise NotImplementedError

    def value_at(self, t: tf.Tensor) -> tf.Tensor:
        return between(self.start, self.end, t, self.steps, self.fraction)

    def get_config(self) -> dict[str, Any]:
        own = {"start": self.start, "end": self.end, "steps": self.steps}
        return {**super().get_config(), **own}


@serializable
class Linear(Transition):
    """A straight line from `start` to `end`, which stays at `end` from then on.

    value(t) = start + (end - start) * min(1, t / steps)

    Args:
        start: Value at step 0.
        end: Value from step `steps` on.
        steps: Number of steps between the two, >= 1.

    Example:
        >>> [float(Linear(0.0, 1.0, steps=4)(t)) for t in (0, 1, 4, 100)]
        [0.0, 0.25, 1.0, 1.0]

    References:
        Bowman et al., 2016, section 3.1, arXiv:1511.06349 (annealing of the KL weight); Soenderby
        et al., 2016, arXiv:1602.02282 (warm-up).
    """

    def fraction(self, x: tf.Tensor) -> tf.Tensor:
        return curves.linear(x)


@serializable
class Cosine(Transition):
    """Half a cosine from `start` to `end`, which stays at `end` from then on.

    value(t) = start + (end - start) * (1 - cos(pi * min(1, t / steps))) / 2

    Args:
        start: Value at step 0.
        end: Value from step `steps` on.
        steps: Number of steps between the two, >= 1.

    Example:
        >>> [round(float(Cosine(1.0, 0.0, steps=4)(t)), 3) for t in (0, 1, 2, 3, 4, 100)]
        [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]

    References:
        Loshchilov and Hutter, 2017, eq. 5, arXiv:1608.03983 (annealing of the learning rate).
    """

    def fraction(self, x: tf.Tensor) -> tf.Tensor:
        return curves.cosine(x)


@serializable
class Sigmoid(Transition):
    """A logistic curve from `start` to `end`, which stays at `end` from then on.

    s(x) = 1 / (1 + exp(-steepness * (x - 1/2))),  x = min(1, t / steps)
    value(t) = start + (end - start) * (s(x) - s(0)) / (s(1) - s(0))

    The curve is rescaled so that it is exactly `start` at step 0 and `end` at `steps`.

    Args:
        start: Value at step 0.
        end: Value from step `steps` on.
        steps: Number of steps between the two, >= 1.
        steepness: > 0. Near 0 the curve is a straight line; with 10, two thirds of the change
            happen in the middle third of the steps, and much larger values give a jump halfway
            through the steps.

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


@serializable
class Exponential(Transition):
    """Geometric interpolation from `start` to `end`, which stays at `end` from then on.

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
