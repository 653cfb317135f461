"""What every objective has in common."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_vae.core.numerics import density_dtype
from keras_vae.core.terms import Terms


class Objective(keras.layers.Layer):
    """Turns log-densities into one loss per example.

    It is a layer so that the numbers it holds (β, free bits, ...) are weights: saved, restored,
    mirrored on replicas, and driven by controllers.

    Args:
        num_samples: Number S of samples of z that it needs for every x.
        **kwargs: Of `keras.layers.Layer`.

    Example:
        >>> class Rate(Objective):
        ...     def loss(self, terms):
        ...         return terms.kl_total
        >>> zeros = tf.zeros([1, 1])
        >>> Rate().loss(Terms(zeros, zeros, zeros, kl=tf.constant([[1.0, 2.0]]))).numpy()
        array([3.], dtype=float32)
    """

    def __init__(self, num_samples: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_samples = num_samples
        self.hyperparameters: dict[str, keras.Variable] = {}
        self.built = True

    def add_hyperparameter(self, name: str, value: float) -> keras.Variable:
        """Adds a number that is kept as a non-trainable weight and can be driven by its name."""
        variable = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(value),
            dtype=density_dtype(self.variable_dtype),
            trainable=False,
            autocast=False,
            # Every replica computes the same value; reading one is enough.
            aggregation="only_first_replica",
            name=name,
        )
        self.hyperparameters = {**self.hyperparameters, name: variable}
        return variable

    def loss(self, terms: Terms) -> tf.Tensor:
        """Returns what the optimizer minimizes, of each example: Tensor `[B]`, nats."""
        raise NotImplementedError
