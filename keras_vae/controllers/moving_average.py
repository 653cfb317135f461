"""The moving average of a measure."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import tensorflow as tf

from keras_vae.controllers.controller import Controller, Updates


class MovingAverage(Controller):
    """The exponential moving average of a measure, starting at the first mean it sees.

    C_ma <- decay * C_ma + (1 - decay) * C

    Args:
        name: Name of the average.
        variable: The weight that holds C_ma.
        seen: The weight that tells whether C_ma has a value yet; 0 at the start.
        measure: Name of the measure C.
        decay: Fraction that is kept in a step, in [0, 1).

    Example:
        >>> average, seen = keras.Variable(0.0), keras.Variable(0.0)
        >>> rule = MovingAverage("kl_average", average, seen, "kl", decay=0.5)
        >>> for mean in (8.0, 4.0):
        ...     for weight, value in rule.after_step(0, {"kl": tf.constant(mean)}):
        ...         _ = weight.assign(value)
        >>> float(average)
        6.0
    """

    def __init__(
        self,
        name: str,
        variable: keras.Variable,
        seen: keras.Variable,
        measure: str,
        decay: float,
    ):
        super().__init__(name, variable)
        self.seen = seen
        self.measure = measure
        self.decay = decay
        self.feedback = (measure,)

    def next(self, means: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns what the average becomes when it sees these means."""
        decay = self.decay * tf.convert_to_tensor(self.seen)
        mean = tf.cast(means[self.measure], self.variable.dtype)
        return mean + decay * (self.variable - mean)

    def after_step(self, step: tf.Tensor, means: Mapping[str, tf.Tensor]) -> Updates:
        return [
            (self.variable, self.next(means)),
            (self.seen, tf.ones((), self.seen.dtype)),
        ]
