"""Half a cosine from one value to another."""

from __future__ import annotations

import tensorflow as tf

from keras_vae.core.head import serializable
from keras_vae.schedules import curves
from keras_vae.schedules.transition import Transition


@serializable
class Cosine(Transition):
    """Half a cosine from `start` to `end`, and `end` from then on.

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
