"""Stateless seeds: draws depend only on the numbers folded into the seed."""

from __future__ import annotations

import numbers
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks


def seed_tensor(seed: Any) -> tf.Tensor:
    """Returns a stateless seed, Tensor `[2]` of int32, for an integer >= 0 or such a tensor.

    Example:
        >>> seed_tensor(3).numpy().tolist()
        [3, 0]
    """
    if isinstance(seed, numbers.Integral):
        seed = checks.integer("seed", seed, minimum=0)
        return tf.constant([seed & 0x7FFFFFFF, (seed >> 31) & 0x7FFFFFFF], tf.int32)
    if isinstance(seed, tf.Tensor) and seed.shape == (2,) and seed.dtype == tf.int32:
        return seed
    raise checks.invalid("seed", "must be an integer >= 0 or an int32 tensor of shape [2]", seed)


def sampling_seed(seed: Any) -> tf.Tensor:
    """Returns a stateless seed for anything that `tfd.Distribution.sample` accepts as a seed.

    TFP turns an integer into a stateful seed, which gives different draws every time; this function
    does not.

    Example:
        >>> sampling_seed(3).numpy().tolist(), sampling_seed([1, 2]).numpy().tolist()
        ([3, 0], [1, 2])
    """
    if isinstance(seed, numbers.Integral):
        return seed_tensor(seed)
    return tfp.random.sanitize_seed(seed)


def fold(seed: tf.Tensor, *data: Any) -> tf.Tensor:
    """Folds integers one after another into a seed `[2]`, with the same result under XLA."""
    for number in data:
        number = tf.cast(number, tf.int32)
        seed = tf.random.experimental.stateless_fold_in(seed, number, alg="philox")
    return seed


def purpose(name: str) -> int:
    """Returns a number for the name of what is drawn; it is the same in every process.

    Example:
        >>> purpose("train") == purpose("train") != purpose("evaluate")
        True
    """
    # FNV-1a, 31 bits: Python's own hash differs between processes.
    value = 2166136261
    for byte in name.encode():
        value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
    return value >> 1
