"""What moves the numbers of a model while it is trained."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_vae.controllers import Controller, StepHook
from keras_vae.core import checks, workers
from keras_vae.core.hyperparameters import Steerable
from keras_vae.core.loss_scaling import without_loss_scaling
from keras_vae.core.replicas import sum_over_replicas
from keras_vae.models import non_finite
from keras_vae.models.saving import SavedByChief

# Callbacks of Keras that set the learning rate between steps.
RATE_CALLBACKS = (
    keras.callbacks.LearningRateScheduler,
    keras.callbacks.ReduceLROnPlateau,
)


class SteeredModel(SavedByChief):
    """A Keras model whose numbers controllers move at every optimizer step.

    Args:
        **kwargs: Passed on to `keras.Model`.

    Attributes:
        non_finite: What a step does when a quantity of it is not finite; reset at the end of `fit`.
        initial_epoch: The `initial_epoch` of the last `fit`, for callbacks.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._hooks: dict[str, StepHook] = {}
        self._drivers: dict[str, str] = {}
        self.non_finite: non_finite.Raise = non_finite.Raise()
        self.initial_epoch = 0

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
        return numbers | _numbers_of(getattr(self, "optimizer", None))

    @property
    def hooks(self) -> dict[str, StepHook]:
        """What is attached to the train step now, by name."""
        return dict(self._hooks)

    def attach(self, hook: StepHook, by: str = "") -> None:
        """Lets a hook run inside the train step: a controller, or what only looks at the step.

        Args:
            hook: The hook.
            by: Name of the callback that attaches it, for errors.

        Raises:
            ValueError: If it is no hook, another controller drives the same number, or a hook has
                the name.
        """
        if not isinstance(hook, StepHook):
            raise checks.invalid("hook", "must be a keras_vae.controllers.StepHook", hook)
        by = by or type(hook).__name__
        variable = getattr(hook, "variable", None)
        for name, other in self._hooks.items():
            # By the weight, too, which may go by several names.
            same = variable is not None and getattr(other, "variable", None) is variable
            if name == hook.name or same:
                already = f"{self._drivers[name]} drives it already, {by} would be the second"
                rule = f"must not be driven by another callback: {already}"
                raise checks.invalid("name", rule, hook.name)
        self._hooks = {**self._hooks, hook.name: hook}
        self._drivers = {**self._drivers, hook.name: by}

    def detach(self, hook: StepHook) -> None:
        """Takes a hook out of the train step; a number keeps the last value."""
        attached = self._hooks.items()
        if any(one is hook for _, one in attached):
            self._hooks = {name: one for name, one in attached if one is not hook}
            hook.detached()

    def _begin(self, callbacks: Any = None, initial_epoch: int = 0) -> None:
        """Takes from the arguments of `fit` what hooks depend on."""
        callbacks = keras.tree.flatten(callbacks or [])
        if any(isinstance(one, keras.callbacks.CallbackList) for one in callbacks):
            rule = "must be a list of callbacks: Keras tells a CallbackList of no further training"
            raise checks.invalid("callbacks", rule, callbacks)
        backs_up = any(isinstance(one, keras.callbacks.BackupAndRestore) for one in callbacks)
        if backs_up and workers.several(self.distribute_strategy):
            rule = "must hold keras_vae.callbacks.Resume, not BackupAndRestore, on several workers"
            raise checks.invalid("callbacks", f"{rule}: all would write to one file", callbacks)
        self.initial_epoch = initial_epoch
        setting = {type(one).__name__: None for one in callbacks if isinstance(one, RATE_CALLBACKS)}
        rates = _numbers_of(getattr(self, "optimizer", None)) if setting else {}
        for name, rate in rates.items():
            # So that a callback which drives it at every step is refused, not overruled unseen.
            self.attach(_SetBetweenSteps(name, rate), by=" and ".join(setting))

    @contextlib.contextmanager
    def _given_back(self) -> Iterator[None]:
        """Takes out what callbacks put in and left: no training ended, or it broke off.

        And says so plainly where it broke off because a worker is gone.
        """
        before, rule = self.hooks, self.non_finite
        try:
            with workers.loss_told(self.distribute_strategy):
                yield
        finally:
            self.non_finite = rule
            for name, hook in self.hooks.items():
                if before.get(name) is not hook:
                    self.detach(hook)

    def _driven_numbers(self) -> dict[str, tf.Tensor]:
        """Returns the numbers that the attached hooks log: their values now."""
        logged: dict[str, Any] = {}
        for logging in (*(hook.logged for hook in self._hooks.values()), self.non_finite.logged):
            logged |= logging
        return {name: tf.identity(variable) for name, variable in logged.items()}


class _SetBetweenSteps(Controller):
    """Stands for a callback of Keras that sets a number itself: the steps are always the same."""

    @property
    def key(self) -> tuple[Any, ...]:
        return self.name, id(self.variable)


def weighted_means(
    hooks: Iterable[StepHook], measures: Mapping[str, tf.Tensor], weights: tf.Tensor
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Returns the means over the batch of all replicas of what the hooks want to know.

    And whether there are any: without weight, a batch says nothing.

    Args:
        hooks: Whose `feedback` counts.
        measures: Values of the examples, each `[B]`.
        weights: Weights of the examples, `[B]`.
    """
    # Sorted: every replica must reduce in the same order.
    names = sorted({name for hook in hooks for name in hook.feedback})
    if not names:
        return {}, tf.constant(False)
    sums = [tf.reduce_sum(weights * measures[name]) for name in names]
    *sums, total = tf.unstack(sum_over_replicas(tf.stack([*sums, tf.reduce_sum(weights)])))
    means = {n: tf.math.divide_no_nan(s, total) for n, s in zip(names, sums, strict=True)}
    return means, total > 0.0


def _numbers_of(optimizer: Any) -> dict[str, keras.Variable]:
    """Returns the numbers of an optimizer: the rates of its parts, or the learning rate.

    A learning rate that a schedule of Keras computes is none.
    """
    optimizer = without_loss_scaling(optimizer)
    if hasattr(optimizer, "hyperparameters"):
        return dict(optimizer.hyperparameters)
    learning_rate = getattr(optimizer, "learning_rate", None)
    held = isinstance(learning_rate, keras.Variable)
    return {"learning_rate": learning_rate} if held else {}
