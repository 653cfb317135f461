"""A proportional-integral controller of β."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_vae.controllers.controller import Controller, Updates


class PIRule(Controller):
    """A closed loop: a proportional-integral controller of β that holds the KL at a target.

    e = target - KL,  I <- clip(I - K_i e),  beta <- clip(K_p / (1 + exp(e)) + I)

    Both are clipped to the bounds of β, so that I does not wind up while β is at a bound. Published
    versions start with I = 0 and add the lower bound to β; here, I starts at any β and includes the
    lower bound.

    Args:
        name: Name of the number β.
        variable: The weight that holds β.
        integral: The weight that holds I, which is initially the first β.
        target: The weight that holds the target, in nats.
        proportional: K_p >= 0.
        integral_gain: K_i >= 0.
        bounds: Smallest and largest β.

    Example:
        >>> beta, integral, target = (keras.Variable(value) for value in (1.0, 0.0, 10.0))
        >>> rule = PIRule("beta", beta, integral, target, 0.01, 0.001, bounds=(0.0, 1.0))
        >>> updates = rule.after_step(tf.constant(0), {"kl": tf.constant(30.0)})
        >>> round(float(updates[-1][1]), 4)  # the KL is too large: I = 0.02, and K_p in full
        0.03

    References:
        Shao et al., 2020, algorithm 1, arXiv:2004.05988.
    """

    feedback = ("kl",)

    def __init__(
        self,
        name: str,
        variable: keras.Variable,
        integral: keras.Variable,
        target: keras.Variable,
        proportional: float,
        integral_gain: float,
        bounds: tuple[float, float],
    ):
        super().__init__(name, variable)
        self.integral = integral
        self.target = target
        self.proportional = proportional
        self.integral_gain = integral_gain
        self.bounds = bounds

    @property
    def key(self) -> tuple[Any, ...]:
        numbers = (self.proportional, self.integral_gain, *self.bounds)
        return self.name, id(self.variable), *numbers

    def after_step(self, step: tf.Tensor, means: Mapping[str, tf.Tensor]) -> Updates:
        error = self.target - tf.cast(means["kl"], self.variable.dtype)
        integral = tf.clip_by_value(self.integral - self.integral_gain * error, *self.bounds)
        beta = self.proportional * tf.sigmoid(-error) + integral
        return [
            (self.integral, integral),
            (self.variable, tf.clip_by_value(beta, *self.bounds)),
        ]
