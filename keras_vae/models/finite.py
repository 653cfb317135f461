"""Finds the first quantity of a step that is not finite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_vae.core.terms import Terms

_REMEDIES = "Usual remedies: a lower learning rate, gradient clipping, a warm-up."


def first_bad(terms: Terms, loss: tf.Tensor, gradients: Sequence[Any]) -> tf.Tensor:
    """Returns the number, in order of computation, of the first with NaN or infinities, or -1."""
    quantities = [terms.log_p_x, terms.kl, loss, *gradients]
    bad = tf.stack([_has_bad(quantity) for quantity in quantities])
    first = tf.argmax(tf.cast(bad, tf.int32), output_type=tf.int32)
    return tf.where(tf.reduce_any(bad), first, -1)


def message(first: tf.Tensor, variables: Sequence[Any]) -> tf.Tensor:
    """Returns the sentence that names the quantity with the number that `first_bad` gave."""
    names = ["log p(x|z)", "KL(q(z|x) || p(z))", "the loss"]
    names += [f"the gradient of {variable.path}" for variable in variables]
    told = tf.strings.join([tf.gather(names, tf.maximum(first, 0)), " is not finite"])
    return tf.strings.join([told, "; the trainable weights are as before this step. ", _REMEDIES])


def _has_bad(value: Any) -> tf.Tensor:
    if value is None:  # A variable that the loss does not depend on has no gradient.
        return tf.constant(False)
    value = value.values if isinstance(value, tf.IndexedSlices) else value
    return ~tf.reduce_all(tf.math.is_finite(value))
