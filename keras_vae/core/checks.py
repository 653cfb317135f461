"""Checks of arguments, with an error that names the argument, the rule and the value."""

from __future__ import annotations

import math
import numbers
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any

import keras
import numpy as np


def invalid(argument: str, rule: str, value: Any) -> ValueError:
    """Returns the error for an `argument` with a `value` that breaks `rule`.

    Example:
        >>> print(invalid("beta", "must be >= 0", -1.0))
        Argument `beta` must be >= 0. Received: beta=-1.0
    """
    return ValueError(f"Argument `{argument}` {rule}. Received: {argument}={value!r}")


# More than any count, seed or size, and the largest integer in a tensor.
_LARGEST = 2**63 - 1
# Draws: TensorFlow keeps the sizes of a tensor in 32 bits, and more of them come out as none.
_LARGEST_COUNT = 2**31 - 1
# Units of a layer: a file that asks for more is damaged, and would exhaust the memory.
_LARGEST_SIZE = 2**24
# Numbers in one example: a gibibyte in float32.
_LARGEST_SHAPE = 2**28


def integer(argument: str, value: Any, minimum: int = 1, maximum: int = _LARGEST) -> int:
    """Returns `value` as an int; raises unless it is a whole number within the bounds."""
    if not _is_integer(value) or int(value) < minimum:
        raise invalid(argument, f"must be an integer >= {minimum}", value)
    if int(value) > maximum:
        raise invalid(argument, f"must be an integer <= {maximum}", value)
    return int(value)


def size(argument: str, value: Any, minimum: int = 1) -> int:
    """Returns `value` as an int; raises unless a layer can have this many units."""
    return integer(argument, value, minimum, _LARGEST_SIZE)


def count(argument: str, value: Any, minimum: int = 1) -> int:
    """Returns `value` as an int; raises unless a tensor can have this many rows."""
    return integer(argument, value, minimum, _LARGEST_COUNT)


def number(
    argument: str,
    value: Any,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    exclusive: bool = False,
) -> float:
    """Returns `value` as a float; raises unless it is finite and within the bounds.

    With `exclusive=True`, the bounds themselves are rejected.
    """
    less, more = ("<", ">") if exclusive else ("<=", ">=")
    bounds = [f"{more} {minimum:g}"] if minimum > -math.inf else []
    bounds += [f"{less} {maximum:g}"] if maximum < math.inf else []
    rule = " and ".join(["must be a finite number", *bounds]).replace("number and", "number")
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not minimum <= value <= maximum:
        raise invalid(argument, rule, value)
    if exclusive and value in (minimum, maximum):
        raise invalid(argument, rule, value)
    return float(value)


def interval(
    argument: str, value: Any, minimum: float = -math.inf, exclusive: bool = False
) -> tuple[float, float]:
    """Returns two finite numbers (low, high); raises unless they are in this order.

    With `exclusive=True`, the minimum itself is rejected.
    """
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise invalid(argument, "must be a pair of numbers (low, high)", value)
    low, high = (number(argument, one, minimum, exclusive=exclusive) for one in value)
    if low > high:
        raise invalid(argument, "must have low <= high", value)
    return low, high


def sizes(argument: str, value: Any) -> tuple[int, ...]:
    """Returns `value` as a tuple with the number of units of each of several layers, or raises."""
    entries = _positive_integers(argument, value)
    for entry in entries:
        size(argument, entry)
    return entries


def shape(argument: str, value: Any) -> tuple[int, ...]:
    """Returns `value` as the shape of an example, which is a tuple of positive ints, or raises."""
    entries = _positive_integers(argument, value)
    if math.prod(entries) > _LARGEST_SHAPE:
        raise invalid(argument, f"must be of at most {_LARGEST_SHAPE} numbers", value)
    return entries


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _positive_integers(argument: str, value: Any) -> tuple[int, ...]:
    in_order = isinstance(value, Iterable) and not isinstance(value, (str, Mapping, Set))
    entries = tuple(value) if in_order else ()
    valid = entries and all(_is_integer(n) and int(n) > 0 for n in entries)
    if not valid:
        raise invalid(argument, "must be a non-empty tuple of positive integers", value)
    return tuple(int(n) for n in entries)


def array(argument: str, value: Any, shape: str = "") -> np.ndarray:
    """Returns `value` as an array of real numbers, or raises.

    Args:
        argument: The name of the argument.
        value: Anything from which NumPy can make an array.
        shape: The required shape, as text for the error.
    """
    rule = "must be an array of numbers" + (f" of shape {shape}" if shape else "")
    try:
        found = np.asarray(value)
    except (TypeError, ValueError):  # Such as for rows of different lengths.
        raise invalid(argument, rule, value) from None
    if not is_real(found.dtype):
        raise invalid(argument, rule, value)
    return found


def is_real(dtype: np.dtype) -> bool:
    """Returns whether an array of this dtype holds real numbers."""
    return dtype.kind not in "OSUcMm"


def path(argument: str, value: Any, rule: str = "must be a path") -> pathlib.Path:
    """Returns `value` as a path; raises unless it is a non-empty path."""
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise invalid(argument, rule, value)
    return pathlib.Path(value)


def text(argument: str, value: Any) -> str:
    """Returns `value`; raises unless it is a non-empty string."""
    if not isinstance(value, str) or not value:
        raise invalid(argument, "must be a non-empty string", value)
    return value


def instance(argument: str, value: Any, kind: type | tuple[type, ...]) -> Any:
    """Returns `value`; raises unless it is an instance of this kind."""
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        names = " or ".join(_public_name(one) for one in kinds)
        raise invalid(argument, f"must be an instance of {names}", value)
    return value


def _public_name(kind: type) -> str:
    """Returns the shortest path by which a class can be imported."""
    parts = kind.__module__.split(".")
    modules = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
    holds = (one for one in modules if getattr(sys.modules.get(one), kind.__name__, None) is kind)
    return f"{next(holds, kind.__module__)}.{kind.__name__}".removeprefix("builtins.")


def output_of(
    argument: str, network: keras.layers.Layer, shape: tuple[int | None, ...], kind: str = "inputs"
) -> Any:
    """Builds a network for inputs of this shape and returns its symbolic outputs, or raises."""
    try:
        return network(keras.KerasTensor(shape, dtype=network.compute_dtype))
    except Exception as error:
        told = invalid(argument, f"must take {kind} of shape {shape}", network)
        raise ValueError(f"{told}, which fails with: {error}") from error


def activation(argument: str, value: Any) -> Callable[[Any], Any]:
    """Returns the Keras activation for anything that Keras accepts as one, or raises."""
    try:
        return keras.activations.get(value)
    except (TypeError, ValueError):
        rule = "must be a Keras activation, its name or configuration, a function, or None"
        raise invalid(argument, rule, value) from None


def regularizer(argument: str, value: Any) -> Any:
    """Returns the Keras regularizer for anything that Keras accepts as one, or raises."""
    try:
        return keras.regularizers.get(value)
    except (TypeError, ValueError):
        rule = "must be a Keras regularizer, its name or configuration, or None"
        raise invalid(argument, rule, value) from None


def optimizer(argument: str, value: Any) -> Any:
    """Returns the Keras optimizer for anything that Keras accepts as one, or raises."""
    try:
        found = keras.optimizers.get(value)
    except (TypeError, ValueError):
        found = None
    if found is None:
        raise invalid(argument, "must be a Keras optimizer, its name or configuration", value)
    return found


def option(argument: str, value: Any, known: Iterable[Any]) -> Any:
    """Returns `value`; raises unless it is one of the `known` options."""
    known = list(known)
    # A value that cannot be compared as a whole, such as an array, is not an option.
    if not any(np.ndim(same := value == one) == 0 and bool(same) for one in known):
        raise invalid(argument, f"must be one of {known}", value)
    return value


def flag(argument: str, value: Any) -> bool:
    """Returns `value` as a bool; raises unless it is True or False."""
    return bool(option(argument, value, (False, True)))
