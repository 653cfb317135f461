"""Turns examples into batches for `model.fit`."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from keras_vae.data.binarization import binarize
from keras_vae.data.epochs import EpochCounter
from keras_vae.data.sources import Order, Source


@dataclasses.dataclass(frozen=True)
class Finish:
    """How a batch of stored images is finished: its scale, binarization and labels."""

    dtype: str
    rule: str | None
    seed: int
    labels: tuple[str, ...]
    stack_labels: bool


def build(source: Source, order: Order, finish: Finish, initial_epoch: int) -> tf.data.Dataset:
    """Returns batches `x [B, H, W, C]`, or `(x, y)` if `finish` names labels.

    Only a shuffled pipeline moves on to the next epoch, so that evaluation always sees the same
    numbers.
    """
    counter = EpochCounter(initial_epoch)

    def one_pass(epoch: tf.Tensor) -> tf.data.Dataset:
        def finish_batch(index: tf.Tensor, images: tf.Tensor, labels: tf.Tensor) -> Any:
            x = _scale(images, finish.dtype, source.white)
            x = binarize(x, finish.rule, finish.seed, epoch, index)
            return epoch, ((x, _select(labels, finish)) if finish.labels else x)

        return source.batches(epoch, order, finish.labels).map(
            finish_batch, num_parallel_calls=tf.data.AUTOTUNE
        )

    if order.shuffle:
        batches = counter.current().flat_map(one_pass).prefetch(tf.data.AUTOTUNE)
        batches = counter.count(batches, order.num_batches)
    else:
        batches = one_pass(tf.constant(initial_epoch, tf.int64)).prefetch(tf.data.AUTOTUNE)
        batches = batches.map(_without_epoch)
    batches = batches.apply(tf.data.experimental.assert_cardinality(order.num_batches))
    return batches.with_options(options())


def _scale(images: tf.Tensor, dtype: str, white: float) -> tf.Tensor:
    # Divide rather than multiply, so that white is exactly one.
    return images if dtype == "uint8" else tf.cast(images, dtype) / white


def _select(labels: tf.Tensor, finish: Finish) -> tf.Tensor:
    return labels if finish.stack_labels else labels[:, 0]


def _without_epoch(epoch: tf.Tensor, batch: Any) -> Any:
    del epoch
    return batch


def options() -> tf.data.Options:
    """Returns the options for pipelines that count their epochs."""
    found = tf.data.Options()
    found.deterministic = True
    # A prefetch after the epoch counter would count passes that were only begun.
    found.experimental_optimization.inject_prefetch = False
    return found
