"""The momentum of an optimizer, or its β1, by a schedule."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_vae.controllers.scheduled_value import ScheduledValue
from keras_vae.core import checks
from keras_vae.core.loss_scaling import without_loss_scaling

# For these, tests compare the steps with those that the same optimizer makes when its number is
# changed by hand between steps.
MOMENTUM = ("SGD", "RMSprop")
BETA_1 = ("Adam", "AdamW", "Adamax", "Nadam", "Lamb", "RAdam")


class OptimizerMomentum(ScheduledValue):
    """An open loop: at step t, the momentum of the optimizer, or its beta_1, is `schedule(t)`.

    Keras's optimizers hold it as a Python float. While a step is traced, an object that reads a
    weight takes its place, so the number can change without a new trace. Between the steps, the
    float is back in place, and so it is the float that is saved.

    Args:
        optimizer: `SGD` or `RMSprop` with a momentum above 0, `Adam`, `AdamW`, `Adamax`, `Nadam`,
            `Lamb` or `RAdam`; or one of them under loss scaling.
        schedule: Function of the step, such as one of `keras_vae.schedules`.

    Raises:
        ValueError: If the optimizer is not one of these.

    Example:
        >>> import keras_vae as kv
        >>> schedule = kv.schedules.Linear(0.95, 0.85, steps=10)
        >>> momentum = OptimizerMomentum(keras.optimizers.Adam(), schedule)
        >>> momentum.name
        'beta_1'
    """

    def __init__(self, optimizer: Any, schedule: Any):
        optimizer = without_loss_scaling(optimizer)
        name = _attribute(optimizer)
        self.optimizer = optimizer
        self.constant = getattr(optimizer, name)
        dtype = optimizer.learning_rate.dtype
        number = {"trainable": False, "aggregation": "only_first_replica", "name": name}
        super().__init__(name, keras.Variable(self.constant, dtype=dtype, **number), schedule)

    @property
    def key(self) -> tuple[Any, ...]:
        return *super().key, id(self.optimizer)

    def before_step(self, step: tf.Tensor) -> None:
        super().before_step(step)
        setattr(self.optimizer, self.name, _Number(self.variable))

    def end_trace(self) -> None:
        self.detached()

    def detached(self) -> None:
        """Puts the float back."""
        setattr(self.optimizer, self.name, self.constant)


class _Number:
    """A stand-in for a momentum above 0 that always has the current value of a weight."""

    def __init__(self, variable: keras.Variable):
        self.variable = variable

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> tf.Tensor:
        # Read it here and not in the constructor, which may have run in another graph.
        value = tf.convert_to_tensor(self.variable)
        return value if dtype is None else tf.cast(value, dtype)

    def __rsub__(self, other: float) -> tf.Tensor:
        return other - tf.convert_to_tensor(self)

    # A graph must not depend on the value: it has a momentum whatever the value is.

    def __gt__(self, other: float) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


def _attribute(optimizer: Any) -> str:
    """Returns the name of the number, or raises."""
    # Compare by name, because this subpackage does not know that of the optimizers.
    kinds = {kind.__name__ for kind in type(optimizer).__mro__}
    if kinds & set(BETA_1):
        return "beta_1"
    if not kinds & set(MOMENTUM):
        rule = f"must be one whose momentum can be driven, {', '.join(MOMENTUM + BETA_1)}"
        raise checks.invalid("optimizer", rule, type(optimizer).__name__)
    if not optimizer.momentum > 0:
        rule = "must have a momentum above 0 for it to be driven, as SGD(momentum=0.9) has"
        raise checks.invalid("optimizer", rule, f"momentum={optimizer.momentum}")
    return "momentum"
