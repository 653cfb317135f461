"""A learning rate for larger batches."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_vae.callbacks.hyperparameter_schedule import HyperparameterSchedule
from keras_vae.core import checks
from keras_vae.core.numerics import to_dtype


class LinearScaling(HyperparameterSchedule):
    """Drives the learning rate from that of the small batch to `factor` times it, and holds it.

    value at step t = base_lr(t) * (1 + (factor - 1) * min(1, t / warmup_steps))

    Use it when batches are `factor` times larger than those for which a good rate is known, such as
    when training on that many replicas. t is `optimizer.iterations`. The rate appears in the logs
    as `learning_rate`.

    Args:
        factor: How many times larger the batch is, > 0.
        warmup_steps: Number of optimizer steps until the rate is reached; 5 epochs in the paper.
        base_lr: Rate for the small batch: a number, a schedule, or None for that of the optimizer
            before its first step. The callback remembers it, so further trainings with the same
            callback continue from the rate they have reached.

    Raises:
        ValueError: If an argument is out of range; at the start of `fit`, if something else sets
            the learning rate, or `base_lr` is None and the optimizer has made steps that this
            callback has not seen.

    Example:
        >>> callback = LinearScaling(8, warmup_steps=100, base_lr=0.1)
        >>> [round(float(callback.schedule(t)), 4) for t in (0, 50, 100, 1000)]
        [0.1, 0.45, 0.8, 0.8]

    References:
        Goyal et al., 2017, sections 2.1 and 2.2, arXiv:1706.02677.
    """

    def __init__(self, factor: float, warmup_steps: int, base_lr: Any = None):
        super().__init__("learning_rate", self._value)
        self.factor = checks.number("factor", factor, 0.0, exclusive=True)
        self.warmup_steps = checks.integer("warmup_steps", warmup_steps)
        if not (base_lr is None or callable(base_lr)):
            base_lr = checks.number("base_lr", base_lr, 0.0, exclusive=True)
        self.base_lr = base_lr
        self._base = base_lr
        self._optimizer: Any = None  # the one `_base` was taken from, if no rate was given

    def set_model(self, model: Any) -> None:
        """Takes the optimizer's rate if none was given, and attaches the schedule."""
        number = self._number_of(model)
        steps = int(model.optimizer.iterations.numpy())
        if self.base_lr is None and (steps == 0 or self._optimizer is not model.optimizer):
            if steps:
                rule = f"must be given for an optimizer that has made steps already, here {steps}"
                raise checks.invalid("base_lr", rule, None)
            self._base, self._optimizer = float(number.numpy()), model.optimizer
            # A new function, as the one traced before has the old rate baked in.
            self.schedule = lambda step: self._value(step)
        super().set_model(model)

    def _value(self, step: Any) -> tf.Tensor:
        t = tf.minimum(tf.cast(step, tf.float64) / self.warmup_steps, 1.0)
        base = self._base(step) if callable(self._base) else self._base
        return to_dtype(base, tf.float64) * (1.0 + (self.factor - 1.0) * t)
