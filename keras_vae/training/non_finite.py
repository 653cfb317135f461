"""What a training step does when a quantity of it is not finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_vae.terms import QUANTITIES
from keras_vae.training import errors
from keras_vae.training.replicas import sum_over_replicas

_REMEDIES = "Usual remedies: a lower learning rate, gradient clipping, a warm-up."


class Raise:
    """Ends the training with an `ArithmeticError` that names the first bad quantity.

    A policy answers whether a step is made; it makes none itself.

    Attributes:
        raises: Whether a bad quantity is an error, in place of a step that is left out.
        key: What a traced step depends on: policies with equal keys do the same.
        logged: The numbers that go to the logs, by name.
    """

    raises = True
    key: tuple[Any, ...] = ("raise",)
    logged: Mapping[str, keras.Variable] = {}

    def remember(self, state: Sequence[keras.Variable]) -> Sequence[tf.Tensor]:
        """Returns the values of what the forward pass may change, if they may be restored."""
        return ()

    def admit(self, first_bad: tf.Tensor | None, count: int) -> tf.Tensor | bool:
        """Returns whether a step is made.

        Args:
            first_bad: Number of the first bad quantity, or -1; None if it is known that none is.
            count: How many quantities there are.
        """
        return True if first_bad is None else first_bad < 0


class Skip(Raise):
    """Leaves such a step out: no weight of the model or the optimizer moves, and it is counted.

    On replicas, a step that is bad on one is skipped by all.

    Args:
        skipped: Holds the number of skipped steps: an integer variable.
        first: Holds the number, as of `first_bad`, of what was bad at the last of them.
    """

    raises = False

    def __init__(self, skipped: keras.Variable, first: keras.Variable):
        self.skipped = skipped
        self.first = first
        self.key = ("skip", str(id(skipped)), str(id(first)))
        self.logged = {"skipped_steps": skipped}

    def remember(self, state: Sequence[keras.Variable]) -> Sequence[tf.Tensor]:
        return [tf.identity(variable) for variable in state]

    def admit(self, first_bad: tf.Tensor | None, count: int) -> tf.Tensor | bool:
        found = _first_on_any_replica(first_bad, count)
        bad = found >= 0
        self.skipped.assign_add(tf.cast(bad, self.skipped.dtype))
        self.first.assign(tf.where(bad, found, self.first))
        return ~self._leaves_out(bad)

    def _leaves_out(self, bad: tf.Tensor) -> tf.Tensor:
        """Returns whether a step is left out, given whether something of it was bad."""
        return bad


class Stop(Skip):
    """Leaves out the first such step and all after it, until the training has been stopped.

    So the weights stay as they were before it, whatever is left of an execution of several steps.

    Args:
        skipped: Holds the number of steps with something bad: an integer variable.
        first: Holds the number, as of `first_bad`, of what was bad at the last of them.
    """

    def __init__(self, skipped: keras.Variable, first: keras.Variable):
        super().__init__(skipped, first)
        self.key = ("stop", *self.key[1:])

    def _leaves_out(self, bad: tf.Tensor) -> tf.Tensor:
        return self.skipped > 0


def first_bad(quantities: Sequence[Any]) -> tf.Tensor:
    """Returns the number of the first quantity with NaN or infinities, or -1."""
    bad = tf.stack([_has_bad(quantity) for quantity in quantities])
    first = tf.argmax(tf.cast(bad, tf.int32), output_type=tf.int32)
    return tf.where(tf.reduce_any(bad), first, -1)


def require_finite(values: Any, first_bad: tf.Tensor, names: Sequence[str]) -> Any:
    """Returns `values`, whose use raises an `ArithmeticError` if something was bad.

    Args:
        values: Tensors, nested or not.
        first_bad: What the function `first_bad` found.
        names: Names of the quantities that it was given.
    """

    def message() -> tf.Tensor:
        told = tf.strings.join([tf.gather(names, tf.maximum(first_bad, 0)), " is not finite"])
        return tf.strings.join(
            [told, "; the trainable weights are as before this step. ", _REMEDIES]
        )

    return errors.require(first_bad < 0, message, values, kind=ArithmeticError)


def names_of_quantities(parts: Sequence[str], variables: Sequence[keras.Variable]) -> list[str]:
    """Returns the names of what a step looks at, in the order of computation.

    Args:
        parts: The parts of the model with a loss of their own.
        variables: The trainable variables.
    """
    losses = [f"the loss of the {part}" for part in parts]
    gradients = [f"the gradient of {variable.path}" for variable in variables]
    return [*QUANTITIES, "the loss", *losses, *gradients]


def _first_on_any_replica(first: tf.Tensor | None, count: int) -> tf.Tensor:
    """Returns the least of the numbers that `first_bad` gave on the replicas, of `count`, or -1."""
    found = sum_over_replicas(tf.one_hot(first, count, dtype=tf.int32)) > 0
    least = tf.argmax(tf.cast(found, tf.int32), output_type=tf.int32)
    return tf.where(tf.reduce_any(found), least, -1)


def _has_bad(value: Any) -> tf.Tensor:
    if value is None:  # A variable that the loss does not depend on has no gradient.
        return tf.constant(False)
    value = value.values if isinstance(value, tf.IndexedSlices) else value
    return ~tf.reduce_all(tf.math.is_finite(value))
