"""Constants, step functions, and a warm-up before another schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.schedules.base import Schedule
from keras_vae.schedules.curves import between, linear


@serializable
class Piecewise(Schedule):
    """A piecewise constant value that changes at each boundary.

    value(t) = values[number of boundaries <= t]

    The new value already applies at the boundary: `boundaries=[100]` gives `values[0]` for the
    first 100 steps, 0 to 99. Keras's `PiecewiseConstantDecay` changes one step later.

    Args:
        boundaries: Steps at which the value changes, increasing, >= 1.
        values: The values, one more than there are boundaries.

    Example:
        >>> [float(Piecewise([2, 4], [1.0, 0.5, 0.25])(t)) for t in (0, 1, 2, 3, 4, 100)]
        [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    """

    def __init__(self, boundaries: Sequence[int], values: Sequence[float]):
        for name, value in (("boundaries", boundaries), ("values", values)):
            if not isinstance(value, (list, tuple)) or not value:
                raise checks.invalid(name, "must be a list that is not empty", value)
        steps = [checks.integer("boundaries", step) for step in boundaries]
        if steps != sorted(set(steps)):
            raise checks.invalid("boundaries", "must be increasing", boundaries)
        if len(values) != len(steps) + 1:
            rule = f"must have one entry more than the {len(steps)} boundaries"
            raise checks.invalid("values", rule, values)
        self.boundaries = steps
        self.values = [checks.number("values", value) for value in values]

    def value_at(self, t: tf.Tensor) -> tf.Tensor:
        passed = t[..., tf.newaxis] >= tf.constant(self.boundaries, t.dtype)
        piece = tf.reduce_sum(tf.cast(passed, tf.int32), axis=-1)
        return tf.gather(tf.constant(self.values, t.dtype), piece)

    def get_config(self) -> dict[str, Any]:
        own = {"boundaries": list(self.boundaries), "values": list(self.values)}
        return {**super().get_config(), **own}


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


@serializable
class WarmupThen(Schedule):
    """A straight line up to the first value of another schedule, which then takes over.

    value(t) = start + (schedule(0) - start) * t / steps    for t < steps
               schedule(t - steps)                          from then on

    Args:
        schedule: The other schedule, of this package or of Keras.
        steps: Number of steps of the warm-up, >= 1.
        start: Value at step 0.

    Example:
        >>> from keras_vae.schedules import Cosine
        >>> schedule = WarmupThen(Cosine(1.0, 0.0, steps=8), steps=4)
        >>> [round(float(schedule(t)), 3) for t in (0, 1, 4, 6, 8, 12)]
        [0.0, 0.25, 1.0, 0.854, 0.5, 0.0]

    References:
        Goyal et al., 2017, section 2.2, arXiv:1706.02677 (gradual warm-up).
    """

    def __init__(
        self,
        schedule: keras.optimizers.schedules.LearningRateSchedule,
        steps: int,
        start: float = 0.0,
    ):
        if not isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
            rule = "must be a schedule, such as keras_vae.schedules.Constant(1e-3)"
            raise checks.invalid("schedule", rule, schedule)
        self.schedule = schedule
        self.steps = checks.integer("steps", steps)
        self.start = checks.number("start", start)

    def value_at(self, t: tf.Tensor) -> tf.Tensor:
        then = self._then(tf.maximum(t - self.steps, 0.0))  # schedule(0) during the warm-up
        return between(self.start, then, t, self.steps, linear)

    def _then(self, t: tf.Tensor) -> tf.Tensor:
        if isinstance(self.schedule, Schedule):
            return self.schedule.value_at(t)
        steps = tf.cast(t, tf.int64)
        if not steps.shape.rank:
            return self._of_keras(steps)
        # Schedules of Keras take one step at a time; a graph makes a loop over thousands fast.
        values = tf.function(self._of_each, autograph=False)(tf.reshape(steps, [-1]))
        return tf.reshape(values, tf.shape(t))

    def _of_each(self, steps: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(self._of_keras, steps, fn_output_signature=tf.float64)

    def _of_keras(self, step: tf.Tensor) -> tf.Tensor:
        return tf.cast(self.schedule(step), tf.float64)

    def get_config(self) -> dict[str, Any]:
        schedule = keras.saving.serialize_keras_object(self.schedule)
        own = {"schedule": schedule, "steps": self.steps, "start": self.start}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WarmupThen:
        schedule = keras.saving.deserialize_keras_object(config["schedule"])
        return cls(**{**config, "schedule": schedule})
