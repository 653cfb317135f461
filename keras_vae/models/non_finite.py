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
    """

    gradients: Sequence[Any]
    measures: Mapping[str, tf.Tensor]
    weights: tf.Tensor
    made: tf.Tensor


class Raise:
    """Ends the training with an `ArithmeticError` that names the first bad quantity."""

    key: tuple[Any, ...] = ("raise",)
    logged: Mapping[str, keras.Variable] = {}

    def remember(self, state: Sequence[keras.Variable]) -> Sequence[tf.Tensor]:
        """Returns what `apply` needs to undo what the forward pass did to the model's state."""
        return ()

    def admit(
        self, attempt: Attempt, first: tf.Tensor, variables: Sequence[keras.Variable]
    ) -> Attempt:
        """Returns the step as far as it may go on.

        Args:
            attempt: The step.
            first: What `first_bad` found.
            variables: The trainable variables.
        """
        text = functools.partial(message, first, variables)
        values = (attempt.gradients, attempt.made)
        gradients, made = graph_errors.require(first < 0, text, values, kind=ArithmeticError)
        return attempt._replace(gradients=gradients, made=made)

    def apply(
        self,
        function: Callable[[Sequence[Any]], None],
        attempt: Attempt,
        state: Sequence[keras.Variable],
        remembered: Sequence[tf.Tensor],
    ) -> None:
        """Lets the optimizer make the step, if it may."""
        function(attempt.gradients)


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

    def remember(self, state: Sequence[keras.Variable]) -> Sequence[tf.Tensor]:
        return [tf.identity(variable) for variable in state]

    def admit(
        self, attempt: Attempt, first: tf.Tensor, variables: Sequence[keras.Variable]
    ) -> Attempt:
        # The largest on any replica, as far as sums can tell: each adds its own, one at least.
        bad = sum_over_replicas(tf.cast(first >= 0, tf.int32)) > 0
        self.skipped.assign_add(tf.cast(bad, self.skipped.dtype))
        self.first.assign(tf.where(first >= 0, first, self.first))
        measures = {
            name: tf.where(bad, tf.zeros_like(value), value)
            for name, value in attempt.measures.items()
        }
        made = tf.where(bad, tf.zeros_like(attempt.made), attempt.made)
        return attempt._replace(measures=measures, weights=attempt.weights * made, made=made)

    def apply(
        self,
        function: Callable[[Sequence[Any]], None],
        attempt: Attempt,
        state: Sequence[keras.Variable],
        remembered: Sequence[tf.Tensor],
    ) -> None:
        good = tf.reduce_all(attempt.made > 0)
        for variable, value in zip(state, remembered, strict=True):
            variable.assign(tf.where(good, variable, value))
        _apply_if(good, function, attempt.gradients)


def _apply_if(
    good: tf.Tensor, function: Callable[[Sequence[Any]], None], gradients: Sequence[Any]
) -> None:
    if tf.executing_eagerly():
        if bool(good):
            function(gradients)
        return
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
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
