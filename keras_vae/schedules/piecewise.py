"""Constant pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.schedules.base import Schedule


@serializable
class Piecewise(Schedule):
    """Constant pieces: a new value from each boundary on.

    value(t) = values[number of boundaries <= t]

    At a boundary the new value holds already: `boundaries=[100]` gives `values[0]` at the first 100
    steps, 0 to 99. Keras's `PiecewiseConstantDecay` changes one step later.

    Args:
        boundaries: Steps at which the value changes, increasing, >= 1.
        values: The values, one more than boundaries.

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
