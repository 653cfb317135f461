"""The same value at every step."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.schedules.base import Schedule


@serializable
class Constant(Schedule):
    """The same value at every step.

    value(t) = value

    Args:
        value: The value.

    Example:
        >>> float(Constant(0.5)(100))
        0.5
    """

    def __init__(self, value: float):
        self.value = checks.number("value", value)

    def value_at(self, t: tf.Tensor) -> tf.Tensor:
        return tf.fill(tf.shape(t), tf.constant(self.value, t.dtype))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "value": self.value}
