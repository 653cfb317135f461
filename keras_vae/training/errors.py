"""Errors found inside the graph, raised as plain Python errors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

_KINDS = {kind.__name__: kind for kind in (ValueError, ArithmeticError)}
_MARK, _END = "keras_vae error ", " (end of error)"


def require(
    condition: tf.Tensor,
    message: Callable[[], tf.Tensor],
    values: Any,
    kind: type[Exception] = ValueError,
) -> Any:
    """Returns `values`, which can be used only if `condition` holds.

    Args:
        condition: Boolean scalar.
        message: Returns the text as a string tensor; runs only on failure.
        values: Tensors, nested or not. Steps that use the returned values cannot run before the
            check.
        kind: `ValueError` or `ArithmeticError`.

    Returns:
        `values`.

    Raises:
        ValueError: Or `kind`: at once in eager mode; in a graph when it runs, through
            `as_python_errors`.
    """
    if tf.executing_eagerly():
        if not bool(condition):
            raise kind(message().numpy().decode())
        return values

    def fail() -> tf.Operation:
        text = tf.strings.join([_MARK, kind.__name__, ": ", message(), _END])
        return tf.debugging.Assert(False, [text])

    with tf.control_dependencies([tf.cond(condition, tf.no_op, fail)]):
        return tf.nest.map_structure(_identity, values, expand_composites=True)


def _identity(value: tf.Tensor | None) -> tf.Tensor | None:
    return None if value is None else tf.identity(value)


def as_python_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a graph function so that what `require` found is raised as the right kind of error."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except tf.errors.InvalidArgumentError as error:
            _, mark, rest = (error.message or "").partition(_MARK)
            if not mark:
                raise
        kind, _, message = rest.partition(_END)[0].partition(": ")
        raise _KINDS[kind](message)

    return wrapper
