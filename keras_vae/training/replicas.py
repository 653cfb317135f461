"""Sums over the replicas of a `tf.distribute.Strategy`, and the identity without one."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def sum_over_replicas(value: Any) -> Any:
    """Returns the sums of a tensor, or of a list, over all replicas, the same on each of them."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)


def after_all_replicas(value: tf.Tensor) -> tf.Tensor:
    """Returns a value, the same on all replicas, once all replicas of this process have it."""

    def merge(strategy: tf.distribute.Strategy, values: Any) -> tf.Tensor:
        local = strategy.experimental_local_results(values)
        with tf.control_dependencies(local):
            return tf.identity(local[0])

    return tf.distribute.get_replica_context().merge_call(merge, args=(value,))


def replica_id() -> tf.Tensor | int:
    """Returns the number of the replica that runs this code, from 0."""
    context = tf.distribute.get_replica_context()
    return 0 if context is None else context.replica_id_in_sync_group


def global_batch_size(values: tf.Tensor) -> tf.Tensor:
    """Returns the number of examples on all replicas, in the dtype of `values` `[B, ...]`."""
    return sum_over_replicas(tf.cast(tf.shape(values)[0], values.dtype))


def global_batch_mean(values: tf.Tensor) -> tf.Tensor:
    """Returns the mean of `values` `[B, ...]` over the examples of all replicas.

    Each example counts once, however unevenly a last partial batch is spread.
    """
    return sum_over_replicas(tf.reduce_sum(values, axis=0)) / global_batch_size(values)


def global_batch_covariance(values: tf.Tensor) -> tf.Tensor:
    """Returns the covariance `[D, D]` of `values` `[B, D]` over the examples of all replicas.

    Cov = 1/B sum_i (v_i - mean)(v_i - mean)^T
    """
    # In two passes: a difference of second moments would lose digits if the means are large.
    centered = values - global_batch_mean(values)
    products = tf.matmul(centered, centered, transpose_a=True)
    return sum_over_replicas(products) / global_batch_size(values)


def gather(values: tf.Tensor, axis: int = 0) -> tf.Tensor:
    """Returns the `values` of all replicas, one after the other along an axis, on each of them.

    Gradients go back to the replica that a value came from. Replicas may hold different numbers of
    values.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return values
    gathered = context.all_gather(values, axis=axis)
    # Gathering forgets the sizes that are known.
    gathered.set_shape([None if i == axis else size for i, size in enumerate(values.shape)])
    return gathered


def gathered_rows(size: tf.Tensor) -> tf.Tensor:
    """Returns where the `size` values of this replica are in what `gather` returns: `[size]`."""
    before = gather(size[tf.newaxis])[: replica_id()]
    return tf.reduce_sum(before) + tf.range(size)
