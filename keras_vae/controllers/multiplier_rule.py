"""A Lagrange multiplier that follows its constraint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_vae.controllers.controller import Controller, Updates
from keras_vae.controllers.moving_average import MovingAverage


class MultiplierRule(Controller):
    """A closed loop in which a Lagrange multiplier grows while its constraint is violated.

    C_ma <- alpha * C_ma + (1 - alpha) * C
    lambda <- lambda * clip(exp(eta * C_ma)), every so many steps

    λ moves on a logarithmic scale, so it stays positive, and it stays within its bounds. The
    reported loss of a training step contains C_ma instead of C, but has the gradient of C.

    Args:
        name: Name of the multiplier.
        variable: The weight that holds λ.
        average: The rule of C_ma.
        learning_rate: η, per unit of the constraint.
        clip: Smallest and largest factor of one update.
        bounds: Smallest and largest λ.
        every: Number of steps from one update to the next.
        warmup_steps: Number of steps at the start during which λ stays constant.

    Example:
        >>> c, seen, multiplier = (keras.Variable(value) for value in (0.0, 0.0, 1.0))
        >>> average = MovingAverage("constraint_ma", c, seen, "constraint", decay=0.99)
        >>> rule = MultiplierRule("lambda", multiplier, average, 0.1, clip=(0.5, 2.0))
        >>> updates = rule.after_step(tf.constant(0), {"constraint": tf.constant(2.0)})
        >>> round(float(updates[-1][1]), 4)  # exp(0.1 * 2)
        1.2214

    References:
        Rezende and Viola, 2018, algorithm 1, arXiv:1810.00597.
    """

    def __init__(
        self,
        name: str,
        variable: keras.Variable,
        average: MovingAverage,
        learning_rate: float,
        clip: tuple[float, float] = (0.9, 1.1),
        bounds: tuple[float, float] = (1e-6, 1e6),
        every: int = 1,
        warmup_steps: int = 0,
    ):
        super().__init__(name, variable)
        self.average = average
        self.learning_rate = learning_rate
        self.clip = clip
        self.bounds = bounds
        self.every = every
        self.warmup_steps = warmup_steps
        self.feedback = average.feedback

    @property
    def key(self) -> tuple[Any, ...]:
        numbers = (self.learning_rate, self.average.decay, *self.clip, *self.bounds)
        return self.name, id(self.variable), *numbers, self.every, self.warmup_steps

    @property
    def logged(self) -> dict[str, keras.Variable]:
        return {**super().logged, **self.average.logged}

    def after_step(self, step: tf.Tensor, means: Mapping[str, tf.Tensor]) -> Updates:
        log_low, log_high = map(math.log, self.clip)
        # Clip before the exponential, which a violation of 100 would make infinite.
        exponent = tf.clip_by_value(
            self.learning_rate * self.average.next(means), log_low, log_high
        )
        moved = tf.clip_by_value(self.variable * tf.exp(exponent), *self.bounds)
        count = tf.cast(step, tf.int64) + 1
        due = (count % self.every == 0) & (count > self.warmup_steps)
        value = tf.where(due, moved, tf.convert_to_tensor(self.variable))
        return [*self.average.after_step(step, means), (self.variable, value)]

    def loss_shift(self, means: Mapping[str, tf.Tensor]) -> tf.Tensor:
        mean = tf.cast(means[self.average.measure], self.variable.dtype)
        return self.variable * (self.average.next(means) - mean)
