"""Checks of what a model is made of and is given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.models import graph_errors

Shape = tuple[int | None, ...]


def instance(argument: str, value: Any, kind: type) -> Any:
    """Returns `value`, or raises unless it is of that kind."""
    if not isinstance(value, kind):
        rule = f"must be an instance of {kind.__module__}.{kind.__name__}"
        raise checks.invalid(argument, rule, value)
    return value


def output_shape(argument: str, network: keras.layers.Layer, input_shape: Shape) -> Shape:
    """Builds a network and returns the shape of its output."""
    try:
        output = network(keras.KerasTensor(input_shape, dtype=network.compute_dtype))
    except Exception as error:
        raise ValueError(
            f"Argument `{argument}` must take inputs of shape {input_shape}. "
            f"Received: {argument}={network!r}, which fails with: {error}"
        ) from error
    shape = getattr(output, "shape", None)
    if shape is None or len(shape) < 2 or 0 in shape:
        raise ValueError(
            f"Argument `{argument}` must return one tensor [batch, ...] with at least one feature. "
            f"Received: {argument}={network!r}, which returns {output}"
        )
    return tuple(shape)


def inside(support: Any, argument: str, rule: str, values: tf.Tensor) -> tf.Tensor:
    """Returns `values`, whose use raises a `ValueError` if one of them is outside the support."""

    def message() -> tf.Tensor:
        bad = tf.math.count_nonzero(~tf.math.is_finite(values))
        # Of NaN, min and max make NaN: the extremes are those of the other values.
        known = tf.boolean_mask(values, ~tf.math.is_nan(values))
        extremes = (tf.reduce_min(known), tf.reduce_max(known), bad)
        facts = "values from {} to {}, of which {} are NaN or infinite"
        return tf.strings.format(f"Argument `{argument}` {rule}. Received: {facts}", extremes)

    return graph_errors.require(support.contains(values), message, values)


def latent(head: Any) -> str:
    """Says over which z a posterior or a prior is."""
    kind = "discrete" if head.discrete else "continuous"
    return f"{kind} z of shape {head.event_shape}"


def trainable_of(**parts: Iterable[keras.layers.Layer]) -> dict[str, list[keras.Variable]]:
    """Returns the trainable variables of the layers of each part, each in its first part alone."""
    seen: set[int] = set()
    found: dict[str, list[keras.Variable]] = {}
    for name, layers in parts.items():
        # By their ids, as Keras's variables compare element by element.
        all_of_them = {id(v): v for layer in layers for v in layer.trainable_variables}
        found[name] = [v for key, v in all_of_them.items() if key not in seen]
        seen |= set(all_of_them)
    return found
