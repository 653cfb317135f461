"""Watches the gradients of a training."""

from __future__ import annotations

import math
import os
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_vae.callbacks.monitors.clipping import groups_of
from keras_vae.callbacks.monitors.summaries import SummaryWriter, check_log_dir
from keras_vae.controllers import Step, StepHook
from keras_vae.core import checks
from keras_vae.core.numerics import density_dtype
from keras_vae.models import LatentVariableModel
from keras_vae.training.non_finite import LARGE
from keras_vae.training.replicas import sum_over_replicas


class GradientMonitor(keras.callbacks.Callback):
    """Measures the norms of the gradients over all steps of an epoch, and how much is clipped.

    norm = sqrt(sum_i g_i^2),  g = d loss / d theta as the optimizer gets it

    This is the gradient over the whole batch of all replicas, without the factor of loss scaling,
    measured before clipping. If the optimizer accumulates gradients, it is their mean, measured at
    the steps that apply it. Steps that are not made, because they overflowed under loss scaling or
    were skipped, do not count. The training itself is not changed.

    The logs hold, over the epoch:

    - `gradient_norm` and `gradient_norm_max`, the mean and the largest norm of the whole gradient;
    - `gradient_norm_encoder` and so on, the mean norm for each of `model.trainable_parts`;
    - `gradient_clipped`, if the optimizer clips: the fraction of steps for `global_clipnorm`, of
      variables and steps for `clipnorm`, of elements and steps for `clipvalue`. With several
      optimizers (`optimizers.by_part`), it is the mean over those that clip.

    Callbacks receive the logs in order, so put this one before those that read them.

    Args:
        log_dir: TensorBoard folder for the same numbers, or None. It needs the extra
            `keras_vae[tensorboard]`.

    Raises:
        ValueError: If `log_dir` cannot be written to; at the start of `fit`, if the model is not a
            `LatentVariableModel`.
        ImportError: If `log_dir` is given, but TensorBoard is not installed.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> model.compile(keras.optimizers.Adam(1e-3, global_clipnorm=5.0))
        >>> monitor = GradientMonitor()
        >>> logs = model.fit(tf.zeros([64, 8, 8, 1]), verbose=0, callbacks=[monitor]).history
        >>> [name for name in logs if name.startswith("gradient_norm_")]
        ['gradient_norm_max', 'gradient_norm_encoder', 'gradient_norm_decoder']
        >>> logs["gradient_clipped"]
        [1.0]

    References:
        Pascanu et al., 2013, section 3.2, arXiv:1211.5063 (norms and clipping).
    """

    def __init__(self, *, log_dir: str | os.PathLike[str] | None = None):
        super().__init__()
        check_log_dir(log_dir)
        self.log_dir = log_dir
        self._writer = SummaryWriter(None)
        self._hook: GradientNorms | None = None

    def set_model(self, model: Any) -> None:
        """Attaches what watches the steps; Keras calls this before it makes the train function."""
        super().set_model(model)
        if not isinstance(model, LatentVariableModel):
            rule = "must be a LatentVariableModel for GradientMonitor"
            raise checks.invalid("model", rule, model)
        if self._hook is None or not self._hook.fits(model):
            self._hook = GradientNorms(model)
        model.attach(self._hook, by=type(self).__name__)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Opens the folder, before the first step."""
        self._writer.close()  # It may be left over from a training that broke off.
        self._writer = SummaryWriter(self.log_dir)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts measuring the epoch."""
        assert self._hook is not None  # set_model comes first.
        self._hook.reset()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds what was measured to the logs."""
        assert self._hook is not None
        found = self._hook.read()
        if logs is not None:
            logs.update({f"gradient_{name}": value for name, value in found.items()})
        self._writer.scalars({f"gradient/{name}": value for name, value in found.items()}, epoch)
        self._writer.flush()

    def get_state(self) -> dict[str, Any]:
        """Returns what `Resume` keeps: the sums over part of an epoch."""
        assert self._hook is not None
        return {"sums": [np.asarray(variable) for variable in self._hook.variables]}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores the sums, to continue within an epoch."""
        assert self._hook is not None
        for variable, value in zip(self._hook.variables, state["sums"], strict=True):
            variable.assign(value)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Detaches the hook, and closes the folder."""
        self.model.detach(self._hook)
        self._writer.close()


class GradientNorms(StepHook):
    """Adds up the norms of gradients inside the train step.

    Args:
        model: A compiled `LatentVariableModel`.
    """

    def __init__(self, model: Any):
        super().__init__("gradient_norms")
        self._model = model
        self._optimizer = model.optimizer
        self._variables = list(model.trainable_variables)
        self._groups = groups_of(model)
        parts = {name: own for name, own in model.trainable_parts.items() if own}
        self._parts = list(parts) if len(parts) > 1 else []
        names = ["norm", *(f"norm_{part}" for part in self._parts)]
        clips = any(group.clips for group in self._groups)
        self._names = [*names, "clipped"] if clips else names
        kinds = {density_dtype(v.dtype) for v in model.trainable_variables}
        self._dtype = "float64" if "float64" in kinds else "float32"
        with model.distribute_strategy.scope():
            self._sums = self._zeros((len(self._names),))
            self._steps, self._maximum = self._zeros(()), self._zeros(())

    def fits(self, model: Any) -> bool:
        """Whether it can be reused for `model`, so that no step has to be traced again."""
        same = model is self._model and model.optimizer is self._optimizer
        now, then = ({id(v) for v in vs} for vs in (model.trainable_variables, self._variables))
        return same and now == then

    def _zeros(self, shape: tuple[int, ...]) -> keras.Variable:
        return keras.Variable(
            tf.zeros(shape, self._dtype), trainable=False, aggregation="only_first_replica"
        )

    def observe(self, step: Step) -> None:
        """Adds the norms of a step that the optimizer is going to make."""
        variables = self._model.trainable_variables
        own = [self._true(gradient, step.loss_scale) for gradient in step.gradients]
        due: Any = True
        for group in self._groups:
            own, due = group.applied(own, variables)  # The groups agree on when.
        whole = _summed(own)
        unit = _unit(whole, self._dtype)
        squares = {
            id(variable): tf.reduce_sum(tf.square(gradient / unit))
            for variable, gradient in zip(variables, whole, strict=True)
            if gradient is not None
        }
        values = [unit * _norm(list(squares.values()), self._dtype)]
        parts = self._model.trainable_parts
        for part in self._parts:
            held = [squares[id(v)] for v in parts[part] if id(v) in squares]
            values.append(unit * _norm(held, self._dtype))
        if self._names[-1] == "clipped":
            values.append(self._clipped(whole))
        self._add(tf.stack(values), due & _is_made(step, whole))

    def _true(self, gradient: Any, loss_scale: tf.Tensor) -> tf.Tensor | None:
        """Returns the dense gradient of this replica, without the factor of loss scaling."""
        if gradient is None:
            return None
        # In slices, values for the same row add up.
        dense = tf.cast(tf.convert_to_tensor(gradient), self._dtype)
        return dense / tf.cast(loss_scale, self._dtype)

    def _clipped(self, whole: list[Any]) -> tf.Tensor:
        fractions = [group.clipped(whole) for group in self._groups if group.clips]
        return tf.cast(tf.add_n(fractions) / len(fractions), self._dtype)

    def _add(self, values: tf.Tensor, counts: tf.Tensor) -> None:
        # Multiplying by 0 would leave NaN as it is.
        counted = tf.where(counts, values, tf.zeros_like(values))
        self._sums.assign_add(counted)
        self._steps.assign_add(tf.cast(counts, self._dtype))
        self._maximum.assign(tf.maximum(tf.convert_to_tensor(self._maximum), counted[0]))

    @property
    def variables(self) -> list[keras.Variable]:
        """The sums, the number of steps and the largest norm."""
        return [self._sums, self._steps, self._maximum]

    def reset(self) -> None:
        """Forgets what was added up."""
        for variable in self.variables:
            variable.assign(tf.zeros_like(variable))

    def read(self) -> dict[str, float]:
        """Returns the means over the steps and the largest norm, or NaN if there were no steps."""
        steps = float(np.asarray(self._steps))
        sums = np.asarray(self._sums, np.float64)
        means = [float(total / steps) if steps else math.nan for total in sums]
        found = dict(zip(self._names, means, strict=True))
        largest = float(np.asarray(self._maximum)) if steps else math.nan
        return {"norm": found.pop("norm"), "norm_max": largest, **found}


def _summed(gradients: list[Any]) -> list[Any]:
    """Returns the sums over the replicas."""
    sums = iter(sum_over_replicas([gradient for gradient in gradients if gradient is not None]))
    return [None if gradient is None else next(sums) for gradient in gradients]


def _unit(gradients: list[Any], dtype: str) -> tf.Tensor:
    """Returns a unit in which the squares of gradients are finite: 1, unless they are huge."""
    largest = [tf.reduce_max(tf.abs(gradient)) for gradient in gradients if gradient is not None]
    return tf.maximum(tf.reduce_max(tf.stack([tf.zeros((), dtype), *largest])) / LARGE, 1.0)


def _norm(squares: list[tf.Tensor], dtype: str) -> tf.Tensor:
    return tf.sqrt(tf.add_n([tf.zeros((), dtype), *squares]))


def _is_made(step: Step, gradients: list[Any]) -> tf.Tensor:
    """Returns whether the optimizer makes the step, that is, it is not skipped or overflowed."""
    finite = [tf.reduce_all(tf.math.is_finite(one)) for one in gradients if one is not None]
    weight = sum_over_replicas(tf.reduce_sum(step.weights))
    return tf.reduce_all(tf.stack([tf.constant(True), *finite])) & (weight > 0.0)
