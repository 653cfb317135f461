"""What a training step does when one of its quantities is not finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_vae.terms import QUANTITIES
from keras_vae.training import errors
from keras_vae.training.replicas import sum_over_replicas

# Squares of this can be summed over all the weights of any model in float32.
LARGE = 2.0**50

_REMEDIES = "Usual remedies: a lower learning rate, gradient clipping, a warm-up."


class Raise:
    """Ends the training with an `ArithmeticError` that names the first bad quantity.

    A policy decides whether a step is made; it does not make the step itself.

    Attributes:
        raises: Whether a bad quantity is an error, instead of a reason to skip the step.
        key: What a traced step depends on: policies with equal keys do the same.
        logged: The numbers that go to the logs, by name.
    """

    raises = True
    key: tuple[Any, ...] = ("raise",)
    logged: Mapping[str, keras.Variable] = {}

    def admit(self, first_bad: tf.Tensor) -> tf.Tensor:
        """Returns whether a step is made; asked after its computation, then after its writing.

        Args:
            first_bad: Number of the first bad quantity, or -1, the same on every replica.
        """
        return first_bad < 0


class Skip(Raise):
    """Skips such a step: no weight of the model or the optimizer changes, and it is counted.

    On replicas, a step that is bad on one is skipped by all.

    Args:
        skipped: Holds the number of skipped steps: an integer variable.
        first: Holds the number, as in `first_bad`, of what was bad at the last of them.
    """

    raises = False

    def __init__(self, skipped: keras.Variable, first: keras.Variable):
        self.skipped = skipped
        self.first = first
        self.key = ("skip", str(id(skipped)), str(id(first)))
        self.logged = {"skipped_steps": skipped}

    def admit(self, first_bad: tf.Tensor) -> tf.Tensor:
        bad = first_bad >= 0
        self.skipped.assign_add(tf.cast(bad, self.skipped.dtype))
        self.first.assign(tf.where(bad, first_bad, self.first))
        return ~self._leaves_out(bad)

    def _leaves_out(self, bad: tf.Tensor) -> tf.Tensor:
        """Returns whether a step is left out, given whether something in it was bad."""
        return bad


class Stop(Skip):
    """Skips the first such step and all after it, until the training has been stopped.

    The weights thus stay as they were before it, however many steps are left in an execution.

    Args:
        skipped: Holds the number of steps with something bad: an integer variable.
        first: Holds the number, as in `first_bad`, of what was bad at the last of them.
    """

    def __init__(self, skipped: keras.Variable, first: keras.Variable):
        super().__init__(skipped, first)
        self.key = ("stop", *self.key[1:])

    def _leaves_out(self, bad: tf.Tensor) -> tf.Tensor:
        return self.skipped > 0


class Agreed(NamedTuple):
    """The joint verdict of all replicas on a step: the least `first_bad`, and if all are calm."""

    first_bad: tf.Tensor
    calm: tf.Tensor


def are_calm(gradients: Sequence[Any]) -> tf.Tensor:
    """Returns whether gradients are finite, and their squares summable in float32.

    This costs no more than checking whether they are finite.
    """
    flags = [tf.reduce_all(tf.abs(values(g)) <= LARGE) for g in gradients if g is not None]
    return tf.reduce_all(tf.stack([tf.constant(True), *flags]))


def first_bad_of(quantities: Sequence[Any], gradients: Sequence[Any], calm: tf.Tensor) -> tf.Tensor:
    """Returns the number of the first of quantities, then gradients, with NaN or infinities, or -1.

    Args:
        quantities: Tensors.
        gradients: Tensors, or None for variables that have none.
        calm: What `are_calm` says about the gradients; it saves a second look at them.
    """
    first = first_bad(quantities)
    found = tf.cond(calm, lambda: tf.constant(-1), lambda: first_bad(gradients))
    gradient = tf.where(found < 0, found, found + len(quantities))
    return tf.where(first < 0, gradient, first)


def first_bad(quantities: Sequence[Any]) -> tf.Tensor:
    """Returns the number of the first quantity with NaN or infinities, or -1."""
    if not quantities:
        return tf.constant(-1)
    bad = tf.stack([_has_bad(quantity) for quantity in quantities])
    first = tf.argmax(tf.cast(bad, tf.int32), output_type=tf.int32)
    return tf.where(tf.reduce_any(bad), first, -1)


def require_finite(values: Any, first_bad: tf.Tensor, names: Sequence[str]) -> Any:
    """Returns `values`; using them raises an `ArithmeticError` if something was bad.

    Args:
        values: Tensors, nested or not.
        first_bad: What the function `first_bad` found.
        names: Names of the quantities that were passed to it.
    """

    def message() -> tf.Tensor:
        told = tf.strings.join([tf.gather(names, tf.maximum(first_bad, 0)), " is not finite"])
        return tf.strings.join([told, "; all weights are as before this step. ", _REMEDIES])

    return errors.require(first_bad < 0, message, values, kind=ArithmeticError)


def names_of_quantities(
    parts: Sequence[str],
    variables: Sequence[keras.Variable],
    written: Sequence[keras.Variable] = (),
) -> list[str]:
    """Returns the names of the quantities that a step checks, in the order of computation.

    Args:
        parts: The parts of the model with a loss of their own.
        variables: The trainable variables.
        written: What the optimizer writes.
    """
    losses = [f"the loss of the {part}" for part in parts]
    gradients = [f"the gradient of {variable.path}" for variable in variables]
    updates = [f"the new value of {variable.path}" for variable in written]
    return [*QUANTITIES, "the loss", *losses, *gradients, "the statistics of the batch", *updates]


def agree(first: tf.Tensor, calm: tf.Tensor, count: int) -> Agreed:
    """Returns what the replicas have found together.

    Args:
        first: Number of the first bad quantity on this replica, of `count`, or -1.
        calm: Whether its gradients are calm.
        count: How many quantities there are.
    """
    if tf.distribute.get_replica_context().num_replicas_in_sync == 1:
        return Agreed(first, calm)
    flags = tf.concat([tf.one_hot(first, count, dtype=tf.int32), [tf.cast(~calm, tf.int32)]], 0)
    *found, restless = tf.split(sum_over_replicas(flags) > 0, [count, 1])
    least = tf.argmax(tf.cast(found[0], tf.int32), output_type=tf.int32)
    return Agreed(tf.where(tf.reduce_any(found[0]), least, -1), ~restless[0])


def values(gradient: Any) -> tf.Tensor:
    """Returns the entries of a gradient; for slices, only those that are there."""
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient


def _has_bad(value: Any) -> tf.Tensor:
    # A variable that the loss does not depend on has no gradient; counts are always finite.
    if value is None or not values(value).dtype.is_floating:
        return tf.constant(False)
    return ~tf.reduce_all(tf.math.is_finite(values(value)))
