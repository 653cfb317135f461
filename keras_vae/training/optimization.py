"""What an optimizer makes of gradients: on replicas as on one device, without overflow."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.loss_scaling import without_loss_scaling
from keras_vae.optimizers import PartOptimizer
from keras_vae.training.non_finite import LARGE, values
from keras_vae.training.replicas import sum_over_replicas


def apply(
    optimizer: Any,
    gradients: Sequence[Any],
    variables: Sequence[Any],
    moves: Mapping[str, tf.Tensor],
) -> None:
    """Applies the sum of gradients of which every replica holds a part.

    Before it sums them up, Keras clips the part of each replica, and looks for overflows only in
    that of the first. If an optimizer clips or scales the loss, the first replica is therefore
    given the sum here, and the others zeros.

    Args:
        optimizer: Keras optimizer, possibly with others inside.
        gradients: Gradients, or None for variables that have none.
        variables: The variables that the gradients belong to.
        moves: Whether a part of the model moves, for each part that may stand still.
    """
    context = tf.distribute.get_replica_context()
    alone = context is None or context.num_replicas_in_sync == 1
    if not alone and _needs_sum(optimizer):
        known = [i for i, gradient in enumerate(gradients) if gradient is not None]
        sums = sum_over_replicas([tf.convert_to_tensor(gradients[i]) for i in known])
        first = tf.equal(context.replica_id_in_sync_group, 0)
        gradients = list(gradients)
        for i, total in zip(known, sums, strict=True):
            gradients[i] = tf.where(first, total, tf.zeros_like(total))
    parts = without_loss_scaling(optimizer)
    with parts.moving(moves) if isinstance(parts, PartOptimizer) else contextlib.nullcontext():
        optimizer.apply(_scale_down_huge(optimizer, gradients, variables), variables)


def start_averages(optimizer: Any) -> None:
    """Lets the averages of weights begin at the weights, where no step has been made.

    Keras starts them at zero and overwrites them at the first step. At the end of a training it
    assigns them to the weights, also if there was no step.

    Args:
        optimizer: Keras optimizer that is built, possibly with others inside.
    """
    for one in leaves(optimizer):
        if one.use_ema and int(tf.convert_to_tensor(one._iterations)) == 0:
            averages = one._model_variables_moving_average
            for variable, average in zip(one._trainable_variables, averages, strict=True):
                average.assign(variable)


def moving_parts(
    optimizer: Any, gates: Sequence[Mapping[str, tf.Tensor]], known: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Returns which parts of the model move at this step; any that are not named do.

    A part moves if it is due according to the optimizer and no gate holds it.

    Args:
        optimizer: Keras optimizer, possibly with others inside.
        gates: For each gate, whether it lets a part move, by the part's name.
        known: Whether the batch says anything; otherwise the gates have no effect.
    """
    optimizer = without_loss_scaling(optimizer)
    if not isinstance(optimizer, PartOptimizer):
        if any(gates):
            rule = "must be one of keras_vae.optimizers.by_part, as gates hold single parts"
            raise checks.invalid("optimizer", rule, optimizer)
        return {}
    moves = optimizer.due()
    for gate in gates:
        for part, opens in gate.items():
            moves[part] = (opens | ~known) & moves.get(part, True)
    return moves


def _scale_down_huge(
    optimizer: Any, gradients: Sequence[Any], variables: Sequence[Any]
) -> list[Any]:
    """Returns gradients with finite squares, for which clipping by norm gives the same result.

    Keras computes norms from squares, which overflow in float32 from 1.8e19 on. What is clipped
    keeps only the direction of the gradient, so a common factor does not matter.
    """
    gradients = list(gradients)
    for group in _clipped_together(optimizer, gradients, variables):
        largest = [tf.reduce_max(tf.abs(values(gradients[i]))) for i in group]
        factor = tf.minimum(LARGE / tf.reduce_max(tf.stack(largest)), 1.0)
        for i in group:
            gradients[i] = tf.math.scalar_mul(factor, gradients[i])
    return gradients


def _clipped_together(
    optimizer: Any, gradients: Sequence[Any], variables: Sequence[Any]
) -> list[list[int]]:
    """Returns the numbers of the gradients that are clipped by a common norm, for each norm."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return []  # Half precision overflows long before.
    leaves = [optimizer] * len(gradients)
    if isinstance(optimizer, PartOptimizer):
        leaves = [optimizer[optimizer.part_of(variable)] for variable in variables]
    groups: dict[Any, list[int]] = {}
    for i, (leaf, gradient) in enumerate(zip(leaves, gradients, strict=True)):
        norm, alone = leaf.clipnorm or leaf.global_clipnorm, bool(leaf.clipnorm)
        # What is accumulated before it is clipped must keep its proportions.
        if gradient is not None and norm and norm < LARGE and not leaf.gradient_accumulation_steps:
            groups.setdefault((id(leaf), i if alone else -1), []).append(i)
    return list(groups.values())


def loss_scale(optimizer: Any) -> tf.Tensor:
    """Returns by how much loss scaling multiplies losses and gradients, a float32 scalar."""
    return tf.cast(optimizer.scale_loss(tf.ones(())), tf.float32)


def check_supported(optimizer: Any, run_eagerly: bool) -> None:
    """Raises if Keras cannot run an optimizer on replicas, because of conditions in a graph."""
    if run_eagerly:
        return
    for one in leaves(optimizer):
        if one.gradient_accumulation_steps:
            option, value = "gradient_accumulation_steps", one.gradient_accumulation_steps
        elif one.use_ema and one.ema_overwrite_frequency:
            option, value = "ema_overwrite_frequency", one.ema_overwrite_frequency
        else:
            continue
        rule = f"must have {option}=None on several replicas, unless with run_eagerly=True"
        raise checks.invalid("optimizer", rule, f"{option}={value}")


def numbers_of(optimizer: Any) -> dict[str, keras.Variable]:
    """Returns the numbers of an optimizer: the rates of its parts, or the learning rate.

    A learning rate that a Keras schedule computes is not one of them.
    """
    optimizer = without_loss_scaling(optimizer)
    if hasattr(optimizer, "hyperparameters"):
        return dict(optimizer.hyperparameters)
    learning_rate = getattr(optimizer, "learning_rate", None)
    held = isinstance(learning_rate, keras.Variable)
    return {"learning_rate": learning_rate} if held else {}


def _needs_sum(optimizer: Any) -> bool:
    options = ("clipnorm", "clipvalue", "global_clipnorm")
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    return scaled or any(getattr(one, o) for one in leaves(optimizer) for o in options)


def leaves(optimizer: Any) -> list[Any]:
    """Returns the optimizers that make the steps."""
    optimizer = without_loss_scaling(optimizer)
    made_of = getattr(optimizer, "optimizers", [optimizer])
    return [one for one in made_of if isinstance(one, keras.optimizers.Optimizer)]
