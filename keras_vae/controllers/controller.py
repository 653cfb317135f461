"""Hooks and rules that run inside the train step, once per optimizer step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

Updates = Sequence[tuple[keras.Variable, tf.Tensor]]


class Step(NamedTuple):
    """What is known about a training step before the optimizer updates the weights.

    Attributes:
        number: `optimizer.iterations` before the step, from 0: an int64 scalar.
        x: The examples of this replica, `[B, ...]`.
        y: The condition of conditional models, `[B, ...]`, otherwise None.
        weights: The weights of the examples, `[B]`; zeros if the step is skipped.
        measures: Values of the examples, each `[B]`: `"elbo"`, `"reconstruction"`, `"kl"`, ...
        gradients: The gradients of this replica's loss, times `loss_scale`, one for each trainable
            variable; None if the loss does not depend on it.
        loss_scale: Factor of the loss under loss scaling, otherwise 1: a scalar.

    Example:
        >>> class Darkest(StepHook):
        ...     def __init__(self):
        ...         super().__init__("darkest")
        ...         self.value = keras.Variable(1.0, trainable=False)
        ...     def observe(self, step):
        ...         self.value.assign(tf.reduce_min(step.x))
        >>> hook, one = Darkest(), tf.ones([2])
        >>> hook.observe(Step(tf.constant(0), tf.constant([[0.5], [0.25]]), None, one, {}, [], 1.0))
        >>> float(hook.value)
        0.25
    """

    number: tf.Tensor
    x: tf.Tensor
    y: Any
    weights: tf.Tensor
    measures: Mapping[str, tf.Tensor]
    gradients: Sequence[Any]
    loss_scale: tf.Tensor


class StepHook:
    """Something that runs inside the train step for the duration of a training run.

    A callback attaches it by `LatentVariableModel.attach`. It runs in the graph, once per step, so
    it is exact under `steps_per_execution`, on several replicas and after a resume. Anything it
    must remember beyond the training run has to be stored in weights of the model.

    Args:
        name: A unique name.

    Attributes:
        feedback: Names of the measures whose means `after_step` needs: `"reconstruction"`, `"kl"`,
            `"elbo"`, or one of the objective's own.

    Example:
        >>> import keras_vae as kv
        >>> class BatchCount(StepHook):
        ...     def __init__(self):
        ...         super().__init__("batch_count")
        ...         self.count = keras.Variable(0, dtype="int32", trainable=False)
        ...     def observe(self, step):
        ...         self.count.assign_add(1)
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> model.compile("adam", jit_compile=False)
        >>> hook = BatchCount()
        >>> model.attach(hook)
        >>> history = model.fit(tf.zeros([64, 8, 8, 1]), batch_size=16, verbose=0)
        >>> int(hook.count)
        4
    """

    feedback: tuple[str, ...] = ()

    def __init__(self, name: str):
        self.name = name

    @property
    def key(self) -> tuple[Any, ...]:
        """What a traced step depends on: hooks with equal keys do the same thing."""
        return self.name, id(self)

    @property
    def logged(self) -> dict[str, keras.Variable]:
        """The numbers that appear in the logs, by name."""
        return {}

    @property
    def observes(self) -> bool:
        """Whether it looks at steps, possibly with operations that XLA does not support."""
        return type(self).observe is not StepHook.observe

    def before_step(self, step: tf.Tensor) -> None:
        """Sets numbers before an optimizer step (open loop).

        Args:
            step: `optimizer.iterations` before the step, from 0: an int64 scalar.
        """

    def end_trace(self) -> None:
        """Puts back what `before_step` has changed in Python: the whole step has been traced."""

    def observe(self, step: Step) -> None:
        """Looks at a step and keeps what it needs in its own variables."""

    def after_step(self, step: tf.Tensor, means: Mapping[str, tf.Tensor]) -> Updates:
        """Returns new values of weights for the next step (closed loop).

        Args:
            step: `optimizer.iterations` before the step, from 0: an int64 scalar.
            means: Means of the measures in `feedback` over the batch of all replicas, scalars.

        Returns:
            Pairs of a weight and its new value, which is assigned if the optimizer made the step.
        """
        return ()

    def gate(self, means: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        """Returns which parts of the model may be updated in this step; all others may.

        Args:
            means: Means of the measures in `feedback` over the batch of all replicas, scalars.

        Returns:
            A boolean scalar for each part that it controls, by the part's name.
        """
        return {}

    def loss_shift(self, means: Mapping[str, tf.Tensor]) -> tf.Tensor | float:
        """Returns what is added to the reported loss of a training step, without a gradient."""
        return 0.0

    def detached(self) -> None:
        """Is called when the training has ended or was interrupted."""


class Controller(StepHook):
    """A rule for one number of the model.

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
        super().__init__(name)
        self.variable = variable

    @property
    def key(self) -> tuple[Any, ...]:
        return self.name, id(self.variable), id(self)

    @property
    def logged(self) -> dict[str, keras.Variable]:
        return {self.name: self.variable}
