"""Branches of a graph that update variables, on one device or on replicas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def run_if(condition: tf.Tensor | bool, function: Callable[..., None], *args: Any) -> None:
    """Calls a function that updates variables, if a condition holds.

    The condition may be known only when the graph runs.

    Args:
        condition: Whether to call the function; the same on every replica.
        function: The function; it may merge the replicas, as optimizers do.
        *args: Arguments of the function on this replica.

    Example:
        >>> count = tf.Variable(0)
        >>> run_if(tf.constant(True), lambda n: count.assign_add(n), 2)
        >>> run_if(tf.constant(False), lambda n: count.assign_add(n), 2)
        >>> int(count)
        2
    """
    if condition is True or (tf.executing_eagerly() and bool(condition)):
        function(*args)
    elif tf.executing_eagerly():
        return
    elif not tf.distribute.has_strategy():
        tf.cond(condition, lambda: _return_true(function, args), lambda: True)
    else:
        merge = _merge_if(function)
        tf.distribute.get_replica_context().merge_call(merge, args=(condition, *args))


def _merge_if(function: Callable[..., None]) -> Callable[..., None]:
    # The function merges the replicas, which it cannot do within a branch of one replica.
    def merge(strategy: tf.distribute.Strategy, conditions: Any, *args: Any) -> None:
        def run_on_replicas() -> bool:
            strategy.extended.call_for_each_replica(function, args=args)
            return True

        tf.cond(strategy.experimental_local_results(conditions)[0], run_on_replicas, lambda: True)

    return merge


def _return_true(function: Callable[..., None], args: Any) -> bool:
    function(*args)
    return True  # Both branches of `tf.cond` must return the same structure.
