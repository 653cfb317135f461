"""Rules that move one number of a model inside the train step, once per optimizer step."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

__all__ = ["Controller", "ScheduledValue"]


class Controller:
    """A rule for one number of the model.

    `LatentVariableModel.attach` puts it into the train step; a callback does so for the length of
    a training. The rule runs in the graph, so it is exact under `steps_per_execution`, on several
    replicas and after a resume.

    Args:
        name: Name of the number, as in `model.hyperparameters` and in the logs.
        variable: The weight that holds it.

    Example:
        >>> class Doubling(Controller):
        ...     def before_step(self, step):
        ...         self.variable.assign(2.0 * self.variable)
        >>> beta = keras.Variable(0.5)
        >>> Doubling("beta", beta).before_step(tf.constant(0))
        >>> float(beta)
        1.0
    """

    def __init__(self, name: str, variable: keras.Variable):
        self.name = name
        self.variable = variable

    @property
    def key(self) -> tuple[Any, ...]:
        """What a traced step depends on: controllers with equal keys do the same."""
        return self.name, id(self.variable), id(self)

    def before_step(self, step: tf.Tensor) -> None:
        """Sets the number for an optimizer step.

        Args:
            step: `optimizer.iterations` before the step, from 0: an int64 scalar.
        """
        raise NotImplementedError


class ScheduledValue(Controller):
    """Open loop: at step t the number is `schedule(t)`.

    Args:
        name: Name of the number.
        variable: The weight that holds it.
        schedule: Function of the step, such as one of `keras_vae.schedules`.

    Example:
        >>> import keras_vae as kv
        >>> beta = keras.Variable(1.0)
        >>> ScheduledValue("beta", beta, kv.schedules.Linear(0.0, 1.0, steps=4)).before_step(1)
        >>> float(beta)
        0.25
    """

    def __init__(self, name: str, variable: keras.Variable, schedule: Any):
        super().__init__(name, variable)
        self.schedule = schedule

    @property
    def key(self) -> tuple[Any, ...]:
        return self.name, id(self.variable), id(self.schedule)

    def before_step(self, step: tf.Tensor) -> None:
        self.variable.assign(tf.cast(self.schedule(step), self.variable.dtype))
