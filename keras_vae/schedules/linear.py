"""A straight line from one value to another."""

from __future__ import annotations

import tensorflow as tf

from keras_vae.core.head import serializable
from keras_vae.schedules import curves
from keras_vae.schedules.transition import Transition


@serializable
class Linear(Transition):
    """A straight line from `start` to `end`, and `end` from then on.

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
