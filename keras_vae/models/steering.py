"""What moves the numbers of a model while it is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_vae.controllers import Controller
from keras_vae.core import checks
from keras_vae.core.hyperparameters import Steerable
from keras_vae.core.replicas import sum_over_replicas


class SteeredModel(keras.Model):
    """A Keras model whose numbers controllers move at every optimizer step.

    Args:
        **kwargs: Of `keras.Model`.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._controllers: dict[str, Controller] = {}

    @property
    def hyperparameters(self) -> dict[str, keras.Variable]:
        """The numbers that a controller can drive, by name.

        Where several layers have a number of one name, the layer's name comes before it.
        """
        layers = [layer for layer in self._flatten_layers() if isinstance(layer, Steerable)]
        found = [(layer, *item) for layer in layers for item in layer.hyperparameters.items()]
        times = Counter(name for _, name, _ in found)
        numbers = {
            name if times[name] == 1 else f"{layer.name}.{name}": variable
            for layer, name, variable in found
        }
        learning_rate = _learning_rate_variable(getattr(self, "optimizer", None))
        if learning_rate is not None:
            numbers["learning_rate"] = learning_rate
        return numbers

    def attach(self, controller: Controller) -> None:
        """Lets a controller run inside the train step, around every optimizer step.

        Raises:
            ValueError: If another controller drives the same number.
        """
        # By the weight, too, which may go by several names.
        driven = any(c.variable is controller.variable for c in self._controllers.values())
        if driven or controller.name in self._controllers:
            rule = f"must not be driven by another callback already, as {sorted(self._controllers)}"
            raise checks.invalid("name", f"{rule} are", controller.name)
        self._controllers = {**self._controllers, controller.name: controller}

    def detach(self, controller: Controller) -> None:
        """Takes a controller out of the train step; its number keeps the last value."""
        attached = self._controllers.items()
        self._controllers = {name: c for name, c in attached if c is not controller}

    def _detach_new(self, before: Mapping[str, Controller]) -> None:
        """Detaches what was attached since, as callbacks have not if the training broke off."""
        attached = self._controllers.items()
        self._controllers = {name: c for name, c in attached if before.get(name) is c}

    def _driven_numbers(self) -> dict[str, tf.Tensor]:
        """Returns the numbers that the attached controllers drive: their values now."""
        logged: dict[str, Any] = {}
        for controller in self._controllers.values():
            logged |= controller.logged
        return {name: tf.identity(variable) for name, variable in logged.items()}


def weighted_means(
    controllers: Iterable[Controller], measures: Mapping[str, tf.Tensor], weights: tf.Tensor
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Returns the means over the batch of all replicas of what the controllers want to know.

    And whether there are any: without weight, a batch says nothing.

    Args:
        controllers: Whose `feedback` counts.
        measures: Values of the examples, each `[B]`.
        weights: Weights of the examples, `[B]`.
    """
    # Sorted: every replica must reduce in the same order.
    names = sorted({name for controller in controllers for name in controller.feedback})
    if not names:
        return {}, tf.constant(False)
    sums = [tf.reduce_sum(weights * measures[name]) for name in names]
    *sums, total = tf.unstack(sum_over_replicas(tf.stack([*sums, tf.reduce_sum(weights)])))
    means = {n: tf.math.divide_no_nan(s, total) for n, s in zip(names, sums, strict=True)}
    return means, total > 0.0


def _learning_rate_variable(optimizer: Any) -> keras.Variable | None:
    """Returns the weight that holds the learning rate, None where a schedule computes it."""
    learning_rate = getattr(optimizer, "learning_rate", None)
    return learning_rate if isinstance(learning_rate, keras.Variable) else None
