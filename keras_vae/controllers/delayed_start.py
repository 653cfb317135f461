"""A number that is 0 before a step, and 1 from it on."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_vae.controllers.controller import Controller


class DelayedStart(Controller):
    """Open loop: a number that is 0 before a step of the optimizer, and 1 from it on.

    Args:
        name: Name of the number.
        variable: The weight that holds it.
        start: Number of the step, from 0.

    Example:
        >>> started = keras.Variable(0.0)
        >>> DelayedStart("started", started, start=3).before_step(tf.constant(3))
        >>> float(started)
        1.0
    """

    def __init__(self, name: str, variable: keras.Variable, start: int):
        super().__init__(name, variable)
        self.start = start

    @property
    def key(self) -> tuple[Any, ...]:
        return self.name, id(self.variable), self.start

    def before_step(self, step: tf.Tensor) -> None:
        self.variable.assign(tf.cast(step >= self.start, self.variable.dtype))
