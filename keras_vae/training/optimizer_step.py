"""The optimizer's step, which leaves no trace if what it writes is not finite."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_vae.optimizers import RAdam
from keras_vae.training import optimization
from keras_vae.training.non_finite import first_bad

# Optimizers whose step is bounded by the gradient over `epsilon`, or by the rate alone.
_BOUNDED = {
    *(keras.optimizers.SGD, keras.optimizers.Lion, keras.optimizers.RMSprop),
    *(keras.optimizers.Adam, keras.optimizers.AdamW, keras.optimizers.Adamax),
    *(keras.optimizers.Nadam, keras.optimizers.Adagrad, RAdam),
}
_DECAYS = ("momentum", "beta_1", "beta_2", "rho", "ema_momentum")


def apply_if_finite(
    optimizer: Any,
    gradients: Sequence[Any],
    variables: Sequence[Any],
    moves: Mapping[str, tf.Tensor],
    good: tf.Tensor,
    calm: tf.Tensor,
) -> tf.Tensor:
    """Applies gradients, unless the step must not be made or would write non-finite values.

    What an optimizer makes of finite gradients may be infinite: squares overflow, and so do steps.
    The step is therefore judged by what it has written, and undone if that is bad. If the result is
    known to be finite in advance, the old values are not kept, which would cost a tenth of a small
    model's step.

    Args:
        optimizer: Keras optimizer, possibly with others inside.
        gradients: Gradients of this replica, or None for variables that have none.
        variables: The variables that the gradients belong to.
        moves: Whether a part of the model moves, for each part that may stand still.
        good: Whether the step is to be made, the same on every replica.
        calm: Whether `non_finite.are_calm` holds on every replica.

    Returns:
        Number of the first of `written_by` that would not be finite, the same on every replica; -1
        if there is none, or if the step is not to be made.
    """
    safe = good & calm & _moderate(optimizer) if _is_bounded(optimizer, variables) else False
    written = written_by(optimizer, variables)

    def make(own: Sequence[Any], its_moves: Mapping[str, tf.Tensor]) -> None:
        optimization.apply(optimizer, own, variables, its_moves)

    if not tf.distribute.has_strategy():
        access = _Access(lambda: make(gradients, moves), tf.convert_to_tensor, _assign)
        return _make_or_try(access, written, good, safe)

    # Optimizers merge the replicas, which they cannot do within a branch of one replica.
    def merge(strategy: Any, own: Any, its_moves: Any, good: Any, safe: Any) -> tf.Tensor:
        good, safe = (strategy.experimental_local_results(one)[0] for one in (good, safe))
        access = _merged(strategy, make, (own, its_moves))
        return _make_or_try(access, written, good, safe)

    context = tf.distribute.get_replica_context()
    return context.merge_call(merge, args=(gradients, dict(moves), good, safe))


def written_by(optimizer: Any, variables: Sequence[Any]) -> list[keras.Variable]:
    """Returns what a step of an optimizer may write: variables and its own state."""
    return [*variables, *optimizer.variables]


def after(done: Sequence[tf.Tensor], value: tf.Tensor) -> tf.Tensor:
    """Returns a value that nothing can use before the given tensors are there."""
    with tf.control_dependencies(done):
        return tf.identity(value)


class _Access(NamedTuple):
    """How a step is made and variables are read and written, on one device or on replicas."""

    make: Callable[[], Any]
    read: Callable[[keras.Variable], tf.Tensor]
    write: Callable[[keras.Variable, tf.Tensor], Any]


def _merged(strategy: Any, make: Callable[..., None], args: Sequence[Any]) -> _Access:
    """Returns the access to all replicas at once, which have the same variables."""

    def read(variable: keras.Variable) -> tf.Tensor:
        return tf.convert_to_tensor(strategy.experimental_local_results(variable.value)[0])

    def write(variable: keras.Variable, value: tf.Tensor) -> None:
        if isinstance(variable.value, tf.distribute.DistributedValues):
            strategy.extended.update(variable.value, _assign, args=(value,))
        else:  # Of an optimizer that was made outside of the strategy.
            variable.assign(value)

    return _Access(lambda: strategy.extended.call_for_each_replica(make, args=args), read, write)


def _assign(variable: Any, value: tf.Tensor) -> None:
    variable.assign(value)


def _make_or_try(
    access: _Access, written: Sequence[keras.Variable], good: tf.Tensor, safe: tf.Tensor | bool
) -> tf.Tensor:
    """Makes a step that is known to be safe; tries any other, and undoes it if it was bad."""

    def make() -> tf.Tensor:
        access.make()
        return tf.constant(-1)

    def attempt() -> tf.Tensor:
        before = [access.read(variable) for variable in written]
        access.make()
        bad = tf.where(good, first_bad([access.read(variable) for variable in written]), -1)
        keep = good & (bad < 0)
        return tf.cond(keep, lambda: tf.identity(bad), lambda: restore(before, bad))

    def restore(before: Sequence[tf.Tensor], bad: tf.Tensor) -> tf.Tensor:
        for variable, value in zip(written, before, strict=True):
            access.write(variable, value)
        # An error raised because of it must not interrupt what restores the rest.
        return after([access.read(variable) for variable in written], bad)

    return attempt() if safe is False else tf.cond(safe, make, attempt)


def _is_bounded(optimizer: Any, variables: Sequence[keras.Variable]) -> bool:
    """Returns whether a calm gradient and a moderate rate always make a finite step."""
    plain = all(v.constraint is None and v.dtype in ("float32", "float64") for v in variables)
    return plain and all(_is_bounded_alone(one) for one in optimization.leaves(optimizer))


def _is_bounded_alone(one: Any) -> bool:
    """Returns whether an optimizer is of a known kind, with settings that bound its steps."""
    decays = [getattr(one, name) for name in _DECAYS if hasattr(one, name)]
    usual = all(isinstance(d, (int, float)) and 0.0 <= d <= 0.9999 for d in decays)
    divides = isinstance(getattr(one, "epsilon", 1.0), float) and _epsilon(one) >= 1e-12
    whole = not getattr(one, "centered", False) and not one.loss_scale_factor
    return type(one) in _BOUNDED and usual and divides and whole


def _epsilon(one: Any) -> float:
    return float(getattr(one, "epsilon", 1.0))


def _moderate(optimizer: Any) -> tf.Tensor:
    """Returns whether rates are so low that weights would need 2^40 steps to overflow."""
    flags = [optimization.loss_scale(optimizer) >= 1.0]
    for one in optimization.leaves(optimizer):
        rate = tf.abs(tf.cast(tf.convert_to_tensor(one.learning_rate), tf.float32))
        decay = float(one.weight_decay or 0.0)
        flags.append((rate <= 2.0**30 * _epsilon(one)) & (rate * decay <= 1.0))
    return tf.reduce_all(tf.stack(flags))
