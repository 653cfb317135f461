"""Steps whose gradient is far larger than those of the steps before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.training.non_finite import LARGE
from keras_vae.training.replicas import sum_over_replicas

# Number of steps whose norms make the median, and how many there must be before it is used.
WINDOW, LEAST = 128, 16


class SkipSpikes:
    """Skips steps whose gradient norm is above a multiple of the running median.

    |g_t| > factor * median(|g_{t-128}|, ..., |g_{t-1}|)

    The norm is that of the gradient of all replicas, before any clipping. The norms of skipped
    steps count towards the median, too: if gradients stay larger, the median follows them, so that
    no training skips steps forever because of a limit that no longer fits.

    Args:
        factor: The multiple of the median above which a norm is a spike, > 1.

    Attributes:
        key: What a traced step depends on.
        skipped: Number of skipped steps, an integer variable.
        logged: The numbers that go to the logs, by name.
        state: What must outlast an interruption of the training, by name.

    Example:
        >>> guard = SkipSpikes(10.0)
        >>> quiet, loud = [tf.constant([1.0])], [tf.constant([30.0])]
        >>> one, true = tf.constant(1.0), tf.constant(True)
        >>> [bool(guard.admit(g, true, one, true)) for g in [*[quiet] * 20, loud, quiet]][-3:]
        [True, False, True]
        >>> int(guard.skipped)
        1

    References:
        Child, 2021, arXiv:2011.10650 (skipped steps, with a fixed limit).
    """

    def __init__(self, factor: float):
        self.factor = checks.number("factor", factor, 1.0, exclusive=True)
        self.skipped = _variable(0, "int32")
        self._norms = _variable([0.0] * WINDOW, "float32")
        self._seen = _variable(0, "int32")
        self.key = ("spikes", str(id(self)))
        self.logged = {"skipped_spikes": self.skipped}
        self.state = {"gradient_norms": self._norms, "gradients_seen": self._seen}

    def get_state(self) -> dict[str, Any]:
        """Returns numbers and lists of numbers, from which `set_state` restores everything."""
        variables = {**self.logged, **self.state}
        return {name: np.asarray(variable).tolist() for name, variable in variables.items()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restores whatever a state contains."""
        for name, variable in {**self.logged, **self.state}.items():
            if name in state:
                variable.assign(state[name])

    @property
    def median(self) -> tf.Tensor:
        """The median of the last norms, a scalar; infinite if there are too few or it is 0."""
        filled = tf.minimum(self._seen, WINDOW)
        known = tf.range(WINDOW) < filled
        ordered = tf.sort(tf.where(known, self._norms, tf.float32.max))
        median = tf.gather(ordered, tf.maximum(filled - 1, 0) // 2)
        return tf.where((filled < LEAST) | (median == 0.0), float("inf"), median)

    def admit(
        self, gradients: Sequence[Any], calm: tf.Tensor, scale: tf.Tensor, good: tf.Tensor
    ) -> tf.Tensor:
        """Returns whether a step is made, the same on every replica.

        Args:
            gradients: The gradients of this replica, or None for variables that have none.
            calm: Whether `non_finite.are_calm` holds on every replica.
            scale: By how much loss scaling has multiplied them.
            good: Whether the step is to be made in all other respects.
        """
        norm = tf.where(calm, global_norm(gradients) / tf.cast(scale, tf.float32), LARGE)
        # Gradients that overflow under loss scaling are left to the optimizer, which skips them.
        judged = good & (calm | tf.equal(scale, tf.ones_like(scale)))
        spike = judged & (norm > self.factor * self.median)
        here = tf.equal(tf.range(WINDOW), tf.math.floormod(self._seen, WINDOW))
        self._norms.assign(tf.where(judged & here, norm, self._norms))
        self._seen.assign_add(tf.cast(judged, tf.int32))
        self.skipped.assign_add(tf.cast(spike, tf.int32))
        return good & ~spike


def global_norm(gradients: Sequence[Any]) -> tf.Tensor:
    """Returns the norm of the gradient that all replicas have together, in float32.

    Args:
        gradients: The gradients of this replica, or None for variables that have none.
    """
    dense = [tf.convert_to_tensor(gradient) for gradient in gradients if gradient is not None]
    squares = [tf.reduce_sum(tf.square(one)) for one in sum_over_replicas(dense)]
    return tf.sqrt(tf.add_n([tf.zeros(()), *(tf.cast(one, tf.float32) for one in squares)]))


def _variable(value: Any, dtype: str) -> keras.Variable:
    return keras.Variable(value, dtype=dtype, trainable=False, aggregation="only_first_replica")
