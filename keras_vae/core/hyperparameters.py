"""Numbers of a layer that can be driven during training."""

from __future__ import annotations

from typing import Any

import keras

from keras_vae.core.initializers import Constant
from keras_vae.core.numerics import density_dtype


class Steerable(keras.layers.Layer):
    """A layer that holds hyperparameters as weights.

    As weights, they are saved, restored, mirrored on replicas, and driven by controllers. A model
    collects the hyperparameters of all its layers in `model.hyperparameters`.

    Args:
        **kwargs: Passed on to `keras.layers.Layer`.

    Attributes:
        hyperparameters: The numbers by name.
        driven: Names of those that a controller drives in the training that is being traced.

    Example:
        >>> layer = Steerable()
        >>> temperature = layer.add_hyperparameter("temperature", 0.5)
        >>> float(layer.hyperparameters["temperature"])
        0.5
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.hyperparameters: dict[str, keras.Variable] = {}
        self.driven: frozenset[str] = frozenset()

    def add_hyperparameter(self, name: str, value: float) -> keras.Variable:
        """Adds a number that is kept as a non-trainable weight and can be driven by name."""
        variable = self.add_state(name, value)
        self.hyperparameters = {**self.hyperparameters, name: variable}
        return variable

    def add_state(self, name: str, value: float = 0.0) -> keras.Variable:
        """Adds a number that is kept as a non-trainable weight and moved only by a controller."""
        return self.add_weight(
            shape=(),
            initializer=Constant(float(value)),
            dtype=density_dtype(self.variable_dtype),
            trainable=False,
            autocast=False,
            # Every replica computes the same value; reading one is enough.
            aggregation="only_first_replica",
            name=name,
        )
