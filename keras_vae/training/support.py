"""Data outside the support of a distribution, found and reported in one sentence."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_vae.training import errors


class Facts(NamedTuple):
    """What there is to say about values some of which are outside a support.

    Attributes:
        low: The smallest value that is not NaN.
        high: The largest value that is not NaN.
        outside: Number of values outside.
        bad: Number of values that are NaN or infinite.
        first: Index of the first value outside, `[rank]`.
    """

    low: Any
    high: Any
    outside: Any
    bad: Any
    first: Any

    def after(self, earlier: Facts) -> Facts:
        """Returns the combined facts of two chunks of data, this one being the later."""
        return Facts(
            min(earlier.low, self.low),
            max(earlier.high, self.high),
            earlier.outside + self.outside,
            earlier.bad + self.bad,
            earlier.first,
        )


class OutsideSupport(ValueError):
    """Values outside a support, and where the first of them is.

    Args:
        rule: Which argument breaks which rule.
        facts: What there is to say about the values.
        where: What the row of the first value outside is counted in.
    """

    def __init__(self, rule: str, facts: Facts, where: str = "the batch"):
        super().__init__(_sentence(rule, facts, where).numpy().decode())
        self.rule, self.facts = rule, facts


def inside(support: Any, argument: str, rule: str, values: tf.Tensor) -> tf.Tensor:
    """Returns values `[B, ...]`; using them raises a `ValueError` if one is outside the support."""
    rule = f"Argument `{argument}` {rule}"
    contained = support.contains(values)
    if tf.executing_eagerly():
        if not bool(contained):
            raise OutsideSupport(rule, Facts(*map(np.asarray, _facts(support, values))))
        return values
    return errors.require(
        contained, lambda: _sentence(rule, _facts(support, values), "the batch"), values
    )


def _facts(support: Any, values: tf.Tensor) -> Facts:
    outside = ~support.holds(values)
    # NaN would make min and max NaN: the extremes are those of the other values.
    known = tf.boolean_mask(values, ~tf.math.is_nan(values))
    return Facts(
        tf.reduce_min(known),
        tf.reduce_max(known),
        tf.math.count_nonzero(outside),
        tf.math.count_nonzero(~tf.math.is_finite(values)),
        tf.where(outside)[0],
    )


def _sentence(rule: str, facts: Facts, where: str) -> tf.Tensor:
    low, high, *numbers, first = facts
    nan = tf.constant(math.nan, low.dtype)  # Where no value was a number, the extremes are crossed.
    low, high = (tf.where(low > high, nan, one) for one in (low, high))
    rank = first.shape[0]
    place = {1: "row {}", 2: "row {}, column {}"}.get(rank, "row {}, position {}")
    index = [first[0], first[1:] if rank > 2 else first[-1]][: min(rank, 2)]
    text = (
        f"{rule}. Received: values from {{}} to {{}}, of which {{}} are outside and {{}} are NaN "
        f"or infinite, the first in {place} of {where}"
    )
    return tf.strings.format(text, [low, high, *numbers, *index])
