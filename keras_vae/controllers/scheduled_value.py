"""A number that follows a schedule."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_vae.controllers.controller import Controller
from keras_vae.core.numerics import to_dtype


class ScheduledValue(Controller):
    """An open loop: at step t, the number is `schedule(t)`.

    Args:
        name: Name of the number.
        variable: The weight that holds it.
        schedule: Function of the step, such as one of `keras_vae.schedules`.

    Example:
        >>> import keras_vae as kv
        >>> beta = keras.Variable(1.0)
        >>> ScheduledValue("beta", beta, kv.schedules.Linear(0.0, 1.0, steps=4)).before_step(1)
        >>> float(beta)
        0.25
    """

    def __init__(self, name: str, variable: keras.Variable, schedule: Any):
        super().__init__(name, variable)
        self.schedule = schedule

    @property
    def key(self) -> tuple[Any, ...]:
        return self.name, id(self.variable), id(self.schedule)

    def before_step(self, step: tf.Tensor) -> None:
        # Calling a schedule of the package rounds to `floatx`, but the weight may be float64.
        value = getattr(self.schedule, "exactly_at", self.schedule)(step)
        self.variable.assign(to_dtype(value, self.variable.dtype))
