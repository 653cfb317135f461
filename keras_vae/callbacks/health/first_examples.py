"""Keeps the first examples of a training, and follows its hyperparameters within epochs."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_vae.controllers import Step, StepHook
from keras_vae.models import VAE


class FirstExamples(StepHook):
    """Keeps the first examples that a training sees, counts its batches, and watches its β.

    It works inside the train step, as callbacks do not see the data. With several replicas, it
    keeps the examples of the first one.

    Args:
        model: The model.
        size: How many examples to keep; 0 for none.

    Attributes:
        idle_parts: Parts of the model that receive no gradient from any loss.
    """

    def __init__(self, model: Any, size: int):
        super().__init__("health")
        self._model = model
        self._size = size if isinstance(model, VAE) else 0
        self.idle_parts: list[str] = []
        numbers = model.hyperparameters.items()
        self._betas = {name: one for name, one in numbers if name.split(".")[-1] == "beta"}
        with model.distribute_strategy.scope():
            self._batches = _local(tf.zeros((), tf.int64))
            self._kept = [_local(rows) for rows in self._empty()]
            self._largest = {name: _local(_lowest(beta)) for name, beta in self._betas.items()}

    def _empty(self) -> list[tf.Tensor]:
        """Returns no examples, `[x]` or `[x, y]`."""
        if not self._size:
            return []
        head = self._model.likelihood_head
        specs = [tf.TensorSpec([None, *head.event_shape], head.density_dtype)]
        specs += self._model.labels.spec.values()
        return [tf.zeros([0, *spec.shape[1:]], head.density_dtype) for spec in specs]

    def observe(self, step: Step) -> None:
        """Counts a batch, and keeps its examples as long as there is room."""
        self._batches.assign_add(1)
        for name, beta in self._betas.items():
            largest = self._largest[name]
            largest.assign(tf.maximum(largest, tf.convert_to_tensor(beta)))
        pairs = zip(self._model.trainable_variables, step.gradients, strict=True)
        # This is known when the step is traced: without a path there is no gradient.
        learning = {id(v) for v, gradient in pairs if gradient is not None}
        self.idle_parts = [
            part
            for part, variables in self._model.trainable_parts.items()
            if variables and not any(id(v) in learning for v in variables)
        ]
        if not self._kept:
            return

        def keep() -> bool:
            # Keep neither padding nor what made a step fail. Select here, as it copies the batch.
            good = step.weights > 0.0
            for held, new in zip(self._kept, (step.x, step.y), strict=False):
                rows = tf.cast(new[good], held.dtype)
                held.assign(tf.concat([held, rows], axis=0)[: self._size])
            return True

        tf.cond(tf.shape(self._kept[0])[0] < self._size, keep, lambda: False)

    def reset(self) -> None:
        """Forgets the examples, and starts counting from zero."""
        self._batches.assign(0)
        for name, beta in self._betas.items():
            self._largest[name].assign(_lowest(beta))
        for held, rows in zip(self._kept, self._empty(), strict=True):
            held.assign(rows)

    def count_from(self, batches: int) -> None:
        """Continues counting from a number of batches."""
        self._batches.assign(batches)

    @property
    def batches(self) -> int:
        """Number of batches since the last reset."""
        return int(np.asarray(self._batches.read_value()))

    @property
    def largest(self) -> dict[str, float]:
        """The largest value that each β has had at any step since the last reset."""
        return {name: float(np.asarray(one.read_value())) for name, one in self._largest.items()}

    def read(self) -> tuple[tf.Tensor, Any]:
        """Returns the examples as x and y, where y may be None."""
        x, y, *_ = *[variable.read_value() for variable in self._kept], None
        return x, y


def _lowest(number: keras.Variable) -> tf.Tensor:
    return tf.constant(-np.inf, number.dtype)


def _local(value: tf.Tensor) -> tf.Variable:
    """Returns a variable each replica writes for itself, even in branches; the first is read."""
    return tf.Variable(
        value,
        shape=[None, *value.shape[1:]] if value.shape.rank else (),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )
