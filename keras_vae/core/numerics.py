"""Parameterizations that stay finite, and the dtype of densities."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_vae.core import checks

SCALE_FLOOR = 1e-4
SCALE_CEILING = 1e4


def density_dtype(variable_dtype: str) -> str:
    """Returns the dtype of densities and reductions: float64 for float64, float32 otherwise."""
    return "float64" if keras.backend.standardize_dtype(variable_dtype) == "float64" else "float32"


def to_dtype(value: Any, dtype: str | tf.DType) -> tf.Tensor:
    """Returns a number, a list of numbers, an array or a tensor as a tensor in `dtype`.

    `tf.cast` alone would convert Python floats via float32, and integers via int32.

    Example:
        >>> float(to_dtype(0.1, "float64"))
        0.1
    """
    if isinstance(value, (int, float, list, tuple)):
        value = np.asarray(value)
    return tf.cast(value, dtype)


def is_real(dtype: tf.DType) -> bool:
    """Returns whether a tensor of this dtype holds real numbers."""
    return bool(dtype.is_floating or dtype.is_integer or dtype.is_bool)


def checked_tensor(argument: str, value: Any, dtype: str | tf.DType | None = None) -> tf.Tensor:
    """Returns `value` as a tensor of real numbers, or raises.

    Args:
        argument: The name of the argument.
        value: A tensor, or anything from which NumPy can make an array.
        dtype: That of the tensor; by default, what TensorFlow makes of the value.
    """
    value = value.value if isinstance(value, keras.Variable) else value
    if not isinstance(value, (tf.Tensor, tf.Variable)):
        checks.array(argument, value)
    elif not is_real(value.dtype):
        raise checks.invalid(argument, "must be an array of numbers", value)
    return tf.convert_to_tensor(value) if dtype is None else to_dtype(value, dtype)


def positive_scale(
    raw: tf.Tensor, floor: float = SCALE_FLOOR, ceiling: float = SCALE_CEILING
) -> tf.Tensor:
    """Maps real numbers to scales: `min(softplus(raw) + floor, ceiling)`.

    `raw=inverse_scale(1.0)` gives a scale of one. A scale at the ceiling has no gradient.
    """
    return tf.minimum(tf.math.softplus(raw) + floor, ceiling)


def inverse_scale(scale: float, floor: float = SCALE_FLOOR) -> float:
    """Returns the raw number that `positive_scale` maps to `scale`.

    Example:
        >>> float(positive_scale(tf.constant(inverse_scale(1.0), tf.float64))).__round__(12)
        1.0
    """
    scale -= floor
    return scale + math.log(-math.expm1(-scale))  # log(exp(scale) - 1) without overflow


@tf.custom_gradient
def softplus(x: tf.Tensor) -> Any:
    """Returns log(1 + exp(x)), precise enough as a term of a sum, and fast under XLA.

    softplus(x) = max(x, 0) + log(1 + exp(-|x|)),  softplus'(x) = 1 / (1 + exp(-x))

    `tf.math.softplus` keeps all digits even where the result is near zero, by a `log1p` that takes
    half as long again under XLA. Here the error is absolute: 6e-8 in float32.

    Example:
        >>> softplus(tf.constant([-100.0, 0.0, 100.0])).numpy().round(4)
        array([  0.    ,   0.6931, 100.    ], dtype=float32)
    """
    value = tf.nn.relu(x) + tf.math.log(1.0 + tf.exp(-tf.abs(x)))
    return value, lambda upstream: upstream * tf.sigmoid(x)


def over_one_axis(
    function: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], a: tf.Tensor, b: tf.Tensor
) -> tf.Tensor:
    """Returns an elementwise `function(a, b)`, computed with the last axes merged into one.

    Loops over short axes, such as the color axis, are slow under XLA. Axes are merged starting from
    the last, as long as they have the same known size in both tensors.

    Example:
        >>> over_one_axis(tf.add, tf.ones([4, 2, 28, 28, 1]), tf.ones([2, 28, 28, 1])).shape
        TensorShape([4, 2, 28, 28, 1])
    """
    merged = 0
    for one, other in zip(reversed(a.shape), reversed(b.shape), strict=False):
        if one is None or one != other:
            break
        merged += 1
    if merged < 2:
        return function(a, b)
    axes = a.shape[-merged:]
    size = [axes.num_elements()]
    flat = [tf.reshape(t, tf.concat([tf.shape(t)[:-merged], size], axis=0)) for t in (a, b)]
    result = function(*flat)
    return tf.reshape(result, tf.concat([tf.shape(result)[:-1], axes], axis=0))
