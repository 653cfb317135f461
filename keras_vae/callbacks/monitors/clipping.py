"""What optimizers do to gradients before applying them: accumulate them, then clip them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_vae.core.loss_scaling import without_loss_scaling


class Group(NamedTuple):
    """An optimizer and the indices of the trainable variables that it updates.

    Example:
        >>> group = Group(keras.optimizers.SGD(clipvalue=1.0), range(1))
        >>> float(group.clipped([tf.constant([0.5, -2.0, 3.0, 1.0])]))
        0.5
    """

    optimizer: Any
    members: Sequence[int]

    @property
    def clips(self) -> bool:
        """Whether the optimizer clips at all."""
        one = self.optimizer
        return any((one.clipnorm, one.global_clipnorm, one.clipvalue))

    def applied(
        self, gradients: list[Any], variables: Sequence[keras.Variable]
    ) -> tuple[list[Any], Any]:
        """Returns the gradients, this group's as applied, and whether they are applied now.

        Args:
            gradients: A tensor, or None, for each trainable variable.
            variables: The trainable variables.
        """
        steps = self.optimizer.gradient_accumulation_steps
        if not steps:
            return gradients, True
        # Keras exposes neither publicly: its `iterations` only count whole accumulations.
        due = (self.optimizer._iterations + 1) % steps == 0
        held = self.optimizer._accumulated_gradients
        gradients = list(gradients)
        for i in self.members:
            if gradients[i] is not None:
                so_far = held[self.optimizer._get_variable_index(variables[i])]
                gradients[i] = (gradients[i] + tf.cast(so_far, gradients[i].dtype)) / steps
        return gradients, due

    def clipped(self, gradients: Sequence[Any]) -> tf.Tensor:
        """Returns the fraction clipped: of steps (0 or 1), of variables, or of elements."""
        own = [gradients[i] for i in self.members if gradients[i] is not None]
        one = self.optimizer
        if one.clipnorm:
            norms = tf.stack([tf.norm(gradient) for gradient in own])
            return _mean(norms > tf.cast(one.clipnorm, norms.dtype))
        if one.global_clipnorm:
            return _mean(tf.linalg.global_norm(own) > one.global_clipnorm)
        flat = tf.concat([tf.reshape(gradient, [-1]) for gradient in own], axis=0)
        return _mean(tf.abs(flat) > tf.cast(one.clipvalue, flat.dtype))


def groups_of(model: Any) -> list[Group]:
    """Returns the optimizers of a model: a single one, or one for each part."""
    optimizer = without_loss_scaling(model.optimizer)
    parts = getattr(optimizer, "parts", None)
    if parts is None:
        return [Group(optimizer, range(len(model.trainable_variables)))]
    return [
        Group(optimizer[name], [i for i, part in enumerate(parts) if part == name])
        for name in dict.fromkeys(parts)
    ]


def _mean(flags: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.cast(flags, tf.float32))
