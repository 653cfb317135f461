"""What a training step does when a quantity of it is not finite."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_vae.core.replicas import sum_over_replicas
from keras_vae.core.terms import Terms
from keras_vae.models import graph_errors

_REMEDIES = "Usual remedies: a lower learning rate, gradient clipping, a warm-up."


class Attempt(NamedTuple):
    """A training step that the optimizer has not made yet.

    Attributes:
        gradients: One for each trainable variable, or None.
        measures: Values of the examples, each `[B]`.
        weights: Weights of the examples, `[B]`.
        made: Ones for a step that counts, zeros for one that is skipped, `[B]`.
        good: Whether the optimizer makes it, the same on every replica, also on one without data.
        counts: Whether its batch counts as one of the training.
    """

    gradients: Sequence[Any]
    measures: Mapping[str, tf.Tensor]
    weights: tf.Tensor
    made: tf.Tensor
    good: tf.Tensor | bool = True
    counts: tf.Tensor | bool = True


class Raise:
    """Ends the training with an `ArithmeticError` that names the first bad quantity."""

    key: tuple[Any, ...] = ("raise",)
    logged: Mapping[str, keras.Variable] = {}

    def remember(self, state: Sequence[keras.Variable]) -> Sequence[tf.Tensor]:
        """Returns what `apply` needs to undo what the forward pass did to the model's state."""
        return ()

    def admit(
        self, attempt: Attempt, first: tf.Tensor | None, variables: Sequence[keras.Variable]
    ) -> Attempt:
        """Returns the step as far as it may go on.

        Args:
            attempt: The step.
            first: What `first_bad` found; None if it is known that nothing is bad.
            variables: The trainable variables.
        """
        good = True if first is None else first < 0
        return attempt._replace(good=good, counts=good)

    def checked(
        self, values: Any, first: tf.Tensor | None, variables: Sequence[keras.Variable]
    ) -> tuple[Any, tf.Tensor | None]:
        """Returns `values`, whose use raises if that is the rule, and what is known thereafter.

        Args:
            values: Tensors, nested or not.
            first: As of `admit`.
            variables: The trainable variables.
        """
        if first is None:
            return values, None
        text = functools.partial(message, first, variables)
        return graph_errors.require(first < 0, text, values, kind=ArithmeticError), None

    def apply(
        self,
        function: Callable[[Sequence[Any]], None],
        attempt: Attempt,
        state: Sequence[keras.Variable],
        remembered: Sequence[tf.Tensor],
    ) -> None:
        """Lets the optimizer make the step, if it may."""
        _apply_if(attempt.good, function, attempt.gradients)


class Skip(Raise):
    """Leaves such a step out: no weight of the model or the optimizer moves, and it is counted.

    On replicas, a step that is bad on one is skipped by all.

    Args:
        skipped: Holds the number of skipped steps: an integer variable.
        first: Holds the number, as of `first_bad`, of what was bad at the last of them.
    """

    def __init__(self, skipped: keras.Variable, first: keras.Variable):
        self.skipped = skipped
        self.first = first
        self.key = ("skip", str(id(skipped)), str(id(first)))
        self.logged = {"skipped_steps": skipped}

    def checked(
        self, values: Any, first: tf.Tensor | None, variables: Sequence[keras.Variable]
    ) -> tuple[Any, tf.Tensor | None]:
        return values, first

    def remember(self, state: Sequence[keras.Variable]) -> Sequence[tf.Tensor]:
        return [tf.identity(variable) for variable in state]

    def admit(
        self, attempt: Attempt, first: tf.Tensor, variables: Sequence[keras.Variable]
    ) -> Attempt:
        found = _first_on_any_replica(first, len(names_of(variables)))
        bad = found >= 0
        self.skipped.assign_add(tf.cast(bad, self.skipped.dtype))
        self.first.assign(tf.where(bad, found, self.first))
        return _left_out(attempt, self._is_left_out(bad))

    def _is_left_out(self, bad: tf.Tensor) -> tf.Tensor:
        """Returns whether a step is left out, given whether something of it was bad."""
        return bad

    def apply(
        self,
        function: Callable[[Sequence[Any]], None],
        attempt: Attempt,
        state: Sequence[keras.Variable],
        remembered: Sequence[tf.Tensor],
    ) -> None:
        good = tf.convert_to_tensor(attempt.good)
        for variable, value in zip(state, remembered, strict=True):
            variable.assign(tf.where(good, variable, value))
        _apply_if(good, function, attempt.gradients)


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

    def _is_left_out(self, bad: tf.Tensor) -> tf.Tensor:
        return self.skipped > 0


def _left_out(attempt: Attempt, left_out: tf.Tensor) -> Attempt:
    """Returns a step without weight and with zeros for measures, if it is left out."""
    measures = {
        name: tf.where(left_out, tf.zeros_like(value), value)
        for name, value in attempt.measures.items()
    }
    made = tf.where(left_out, tf.zeros_like(attempt.made), attempt.made)
    weights = tf.where(left_out, tf.zeros_like(attempt.weights), attempt.weights)
    return attempt._replace(measures=measures, weights=weights, made=made, good=~left_out)


def _first_on_any_replica(first: tf.Tensor, count: int) -> tf.Tensor:
    """Returns the least of the numbers that `first_bad` gave on the replicas, of `count`, or -1."""
    found = sum_over_replicas(tf.one_hot(first, count, dtype=tf.int32)) > 0
    least = tf.argmax(tf.cast(found, tf.int32), output_type=tf.int32)
    return tf.where(tf.reduce_any(found), least, -1)


def _apply_if(
    good: tf.Tensor | bool, function: Callable[[Sequence[Any]], None], gradients: Sequence[Any]
) -> None:
    if good is True:
        function(gradients)
        return
    if tf.executing_eagerly():
        if bool(good):
            function(gradients)
        return
    context = tf.distribute.get_replica_context()
    if not tf.distribute.has_strategy():
        tf.cond(good, lambda: _done(function, gradients), lambda: True)
        return

    # The optimizer merges the replicas, which it cannot within a branch of one replica.
    def merged(strategy: tf.distribute.Strategy, goods: Any, gradients: Sequence[Any]) -> None:
        def on_replicas() -> bool:
            strategy.extended.call_for_each_replica(function, args=(gradients,))
            return True

        tf.cond(strategy.experimental_local_results(goods)[0], on_replicas, lambda: True)

    context.merge_call(merged, args=(good, gradients))


def _done(function: Callable[[Sequence[Any]], None], gradients: Sequence[Any]) -> bool:
    function(gradients)
    return True


def first_bad(terms: Terms, loss: tf.Tensor, gradients: Sequence[Any]) -> tf.Tensor:
    """Returns the number, in order of computation, of the first with NaN or infinities, or -1."""
    quantities = [terms.log_p_x, terms.kl, loss, *gradients]
    bad = tf.stack([_has_bad(quantity) for quantity in quantities])
    first = tf.argmax(tf.cast(bad, tf.int32), output_type=tf.int32)
    return tf.where(tf.reduce_any(bad), first, -1)


def names_of(variables: Sequence[keras.Variable]) -> list[str]:
    """Returns the names of the quantities that `first_bad` numbers."""
    gradients = [f"the gradient of {variable.path}" for variable in variables]
    return ["log p(x|z)", "KL(q(z|x) || p(z))", "the loss", *gradients]


def message(first: tf.Tensor, variables: Sequence[keras.Variable]) -> tf.Tensor:
    """Returns the sentence that names the quantity with the number that `first_bad` gave."""
    name = tf.gather(names_of(variables), tf.maximum(first, 0))
    told = tf.strings.join([name, " is not finite"])
    return tf.strings.join([told, "; the trainable weights are as before this step. ", _REMEDIES])


def _has_bad(value: Any) -> tf.Tensor:
    if value is None:  # A variable that the loss does not depend on has no gradient.
        return tf.constant(False)
    value = value.values if isinstance(value, tf.IndexedSlices) else value
    return ~tf.reduce_all(tf.math.is_finite(value))
