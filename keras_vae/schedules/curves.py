"""Curves by which a schedule rises from 0 to 1 as x goes from 0 to 1."""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

Curve = Callable[[tf.Tensor], tf.Tensor]


def linear(x: tf.Tensor) -> tf.Tensor:
    """Returns x."""
    return x


def cosine(x: tf.Tensor) -> tf.Tensor:
    """Returns the half cosine (1 - cos(pi x)) / 2, as a square that keeps precision near 0."""
    return tf.sin(0.5 * math.pi * x) ** 2


CURVES: dict[str, Curve] = {"linear": linear, "cosine": cosine}


def between(
    start: float | tf.Tensor, end: float | tf.Tensor, t: tf.Tensor, steps: float, curve: Curve
) -> tf.Tensor:
    """Returns a value that goes from `start` at t = 0 to `end` at t = `steps`, and stays there.

    start * (1 - f(t / steps)) + end * f(t / steps),  with 1 - f(x) = f(1 - x)

    Args:
        start: Value at 0, a number or a tensor of the shape of t.
        end: Value from `steps` on, likewise.
        t: Steps, a float64 tensor.
        steps: The step at which the end is reached.
        curve: f, symmetric as above, so that no precision is lost where the value is close to 0.
    """
    start, end = (tf.convert_to_tensor(value, t.dtype) for value in (start, end))
    t = tf.clip_by_value(t, 0.0, float(steps))
    value = start * curve((steps - t) / steps) + end * curve(t / steps)
    # Because of rounding, the curve may miss its ends.
    return tf.where(t <= 0.0, start, tf.where(t < steps, value, end))
