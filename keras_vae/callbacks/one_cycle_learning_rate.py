"""A learning rate that rises once and falls once over a training."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_vae.callbacks.hyperparameter_schedule import HyperparameterSchedule
from keras_vae.controllers import OptimizerMomentum, StepHook
from keras_vae.core import checks
from keras_vae.core.loss_scaling import without_loss_scaling
from keras_vae.schedules import OneCycle


class OneCycleLearningRate(HyperparameterSchedule):
    """Drives the learning rate, and optionally the momentum, in one cycle over the training.

    value at step t = OneCycle(max_lr, steps)(t - t_0),  so that the last update has the final rate

    t_0 is the step at which epoch 0 began, as far as this can be inferred: `optimizer.iterations`
    at the start, minus the steps of `initial_epoch` epochs. So a second `fit` begins a new cycle,
    while `fit(initial_epoch=5)` continues after the fifth epoch of the cycle, as does a training
    resumed by `keras.callbacks.BackupAndRestore`. `epochs` counts from epoch 0, as always in Keras.

    The rate appears in the logs as `learning_rate`, the momentum as `momentum` or `beta_1`. After
    the training, the learning rate keeps its last value, and the momentum is again that of the
    optimizer.

    Args:
        max_lr: The largest rate, > 0; see `keras_vae.find_learning_rate`.
        steps: Number of optimizer steps in the cycle; by default, that of all epochs of the
            training.
        warmup: Fraction of the steps in which the rate rises, in (0, 1).
        initial_division: What `max_lr` is divided by at the start, >= 1.
        final_division: What the initial rate is divided by at the end, >= 1.
        shape: `"cosine"` or `"linear"`.
        momentum: None, or the smallest and largest momentum, such as `(0.85, 0.95)`; it moves in
            the opposite direction to the rate. It applies to `SGD` and `RMSprop` with momentum and,
            as β1, to `Adam`, `AdamW`, `Adamax`, `Nadam`, `Lamb` and `RAdam`.
        endpoint: Whether the last of the `steps` updates has the final rate. If False, the rate
            gets there one step later; see `keras_vae.schedules.OneCycle`.

    Raises:
        ValueError: If an argument is out of range; at the start of `fit`, if something else sets
            the learning rate, `steps` is None and the length of the dataset is unknown, or the
            optimizer has no momentum that can be driven.

    Example:
        >>> callback = OneCycleLearningRate(1e-2, momentum=(0.85, 0.95))

    References:
        Smith and Topin, 2018, section 2, arXiv:1708.07120; Smith, 2018, section 4,
        arXiv:1803.09820 (cyclical momentum).
    """

    def __init__(
        self,
        max_lr: float,
        steps: int | None = None,
        *,
        warmup: float = 0.3,
        initial_division: float = 25.0,
        final_division: float = 1e4,
        shape: str = "cosine",
        momentum: tuple[float, float] | None = None,
        endpoint: bool = True,
    ):
        super().__init__("learning_rate", self._value)
        self.max_lr = checks.number("max_lr", max_lr, 0.0, exclusive=True)
        self.steps = None if steps is None else checks.integer("steps", steps)
        self._options: dict[str, Any] = {
            "warmup": warmup,
            "initial_division": initial_division,
            "final_division": final_division,
            "shape": shape,
            "momentum": momentum,
            "endpoint": endpoint,
        }
        self._cycle = OneCycle(self.max_lr, self.steps or 1, **self._options)
        self._start = 0  # t_0
        self._started = False
        self._momentum: StepHook | None = None

    def set_model(self, model: Any) -> None:
        """Takes the model; what the cycle needs to know of the training comes in `set_params`."""
        keras.callbacks.Callback.set_model(self, model)
        self._number_of(model)

    def set_params(self, params: dict[str, Any]) -> None:
        """Attaches the cycle; Keras calls this before it makes the train function."""
        super().set_params(params)
        steps = self.steps or self._steps_of(params["epochs"])
        if steps is None:
            rule = "must be the number of optimizer steps, as the length of the data is not known"
            raise checks.invalid("steps", rule, None)
        # A training of no epochs makes no steps.
        self._cycle = OneCycle(self.max_lr, max(steps, 1), **self._options)
        self._started = False
        # A new function, as the one traced for the previous training has that cycle baked in.
        self.schedule = lambda step: self._value(step)
        self._attach()
        momentum = self._cycle.momentum_schedule
        if momentum is not None:
            driven = OptimizerMomentum(self.model.optimizer, lambda t: momentum(t - self._start))
            self.model.attach(driven, by=type(self).__name__)
            self._momentum = driven

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Finds the position in the cycle at the first epoch, when a backup has been restored."""
        if self._started:
            return
        now, before = int(self.model.optimizer.iterations.numpy()), self._steps_of(epoch)
        if before is None:  # A first epoch begins a cycle; a later one continues the first cycle.
            before = 0 if epoch == 0 else now
        self._start, self._started = now - before, True

    def get_state(self) -> dict[str, Any]:
        """Returns what `Resume` keeps: where the cycle began."""
        return {"start": self._start, "started": self._started}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues the cycle, even in the middle of an epoch."""
        self._start, self._started = state["start"], state["started"]

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Detaches the cycle."""
        super().on_train_end(logs)
        if self._momentum is not None:
            self.model.detach(self._momentum)

    def _steps_of(self, epochs: int) -> int | None:
        """Returns the number of optimizer steps in some epochs, or None if it is not known."""
        if self.params["steps"] is None:
            return None
        optimizer = without_loss_scaling(self.model.optimizer)
        batches = optimizer.gradient_accumulation_steps or 1
        return epochs * self.params["steps"] // batches

    def _value(self, step: Any) -> tf.Tensor:
        return self._cycle(step - self._start)
