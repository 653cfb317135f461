"""What callbacks put into the training step of a model, and the numbers that they can drive."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_vae.controllers import Controller, StepHook
from keras_vae.core import checks
from keras_vae.core.hyperparameters import Steerable
from keras_vae.training.optimization import numbers_of
from keras_vae.training.replicas import sum_over_replicas

# Keras callbacks that set the learning rate between steps.
RATE_CALLBACKS = (
    keras.callbacks.LearningRateScheduler,
    keras.callbacks.ReduceLROnPlateau,
)


class Hooks:
    """The hooks that are attached to a training step, in the order of attachment."""

    def __init__(self) -> None:
        self._attached: dict[str, StepHook] = {}
        self._drivers: dict[str, str] = {}

    def __iter__(self) -> Iterator[StepHook]:
        return iter(self._attached.values())

    @property
    def by_name(self) -> dict[str, StepHook]:
        """What is attached now, by name."""
        return dict(self._attached)

    @property
    def logged(self) -> dict[str, keras.Variable]:
        """The numbers that the hooks add to the logs, by name."""
        logged: dict[str, keras.Variable] = {}
        for hook in self:
            logged |= hook.logged
        return logged

    def attach(self, hook: StepHook, by: str = "") -> None:
        """Adds a hook for the callback `by`; see `LatentVariableModel.attach`."""
        if not isinstance(hook, StepHook):
            raise checks.invalid("hook", "must be a keras_vae.controllers.StepHook", hook)
        by = by or type(hook).__name__
        variable = getattr(hook, "variable", None)
        for name, other in self._attached.items():
            # Compare the weights, too, as one weight may have several names.
            same = variable is not None and getattr(other, "variable", None) is variable
            if name == hook.name or same:
                already = f"{self._drivers[name]} drives it already, {by} would be the second"
                rule = f"must not be driven by another callback: {already}"
                raise checks.invalid("name", rule, hook.name)
        self._attached = {**self._attached, hook.name: hook}
        self._drivers = {**self._drivers, hook.name: by}

    def detach(self, hook: StepHook) -> None:
        """Removes a hook, if it is attached; a number keeps its last value."""
        attached = self._attached.items()
        if any(one is hook for _, one in attached):
            self._attached = {name: one for name, one in attached if one is not hook}
            hook.detached()

    def attach_stand_ins(self, callbacks: Iterable[Any], optimizer: Any) -> None:
        """Marks the learning rate as driven if a Keras callback sets it between steps.

        A callback that drives it at every step is then refused rather than silently overruled.
        """
        setting = {type(one).__name__: None for one in callbacks if isinstance(one, RATE_CALLBACKS)}
        for name, rate in numbers_of(optimizer).items() if setting else ():
            self.attach(_SetBetweenSteps(name, rate), by=" and ".join(setting))

    @contextlib.contextmanager
    def detached_after(self) -> Iterator[None]:
        """Removes at the end what was attached within by callbacks whose training broke off."""
        before = self.by_name
        try:
            yield
        finally:
            for name, hook in self.by_name.items():
                if before.get(name) is not hook:
                    self.detach(hook)


class _SetBetweenSteps(Controller):
    """Stands in for a Keras callback that sets a number itself: the steps are always the same."""

    @property
    def key(self) -> tuple[Any, ...]:
        return self.name, id(self.variable)


def hyperparameters_of(model: keras.Model) -> dict[str, keras.Variable]:
    """Returns the numbers that a controller can drive, by name; see `hyperparameters` of models."""
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, Steerable)]
    found = [(layer, *item) for layer in layers for item in layer.hyperparameters.items()]
    times = Counter(name for _, name, _ in found)
    numbers = {
        name if times[name] == 1 else f"{layer.name}.{name}": variable
        for layer, name, variable in found
    }
    return numbers | numbers_of(getattr(model, "optimizer", None))


def weighted_means(
    hooks: Sequence[StepHook], measures: Mapping[str, tf.Tensor], weights: tf.Tensor
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Returns the means, over the batch of all replicas, of the measures that the hooks need.

    Also returns whether the batch has any weight: otherwise it says nothing.

    Args:
        hooks: The hooks whose `feedback` names the measures.
        measures: Values of the examples, each `[B]`.
        weights: Weights of the examples, `[B]`.
    """
    if not hooks:
        return {}, tf.constant(False)
    # Sorted: every replica must reduce in the same order.
    names = sorted({name for hook in hooks for name in hook.feedback})
    sums = [tf.reduce_sum(weights * measures[name]) for name in names]
    *sums, total = tf.unstack(sum_over_replicas(tf.stack([*sums, tf.reduce_sum(weights)])))
    means = {n: tf.math.divide_no_nan(s, total) for n, s in zip(names, sums, strict=True)}
    return means, total > 0.0
