"""One loss for the whole model, or one for each part of it, and their gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from keras_vae.core import checks


def by_part(
    loss: Any, parts: Sequence[str], penalty: tf.Tensor | None = None
) -> dict[str, tf.Tensor]:
    """Returns the losses by the part that minimizes them, each `[B]`.

    Args:
        loss: Tensor `[B]`, or a mapping from parts to such tensors; the one for `""` is minimized
            by all parts that have none of their own.
        parts: The parts that have a loss of their own, according to the objective.
        penalty: What is added to each of them, `[B]`, or None.

    Raises:
        ValueError: If the losses are for other parts.
    """
    found = dict(loss) if isinstance(loss, Mapping) else {"": loss}
    expected = ["", *parts]
    if sorted(found) != sorted(expected):
        rule = f"must return a loss for each of {expected}, as `loss_parts` says"
        raise checks.invalid("objective", rule, list(found))
    return {part: found[part] if penalty is None else found[part] + penalty for part in expected}


def gradients(tape: tf.GradientTape, totals: Mapping[str, tf.Tensor], model: Any) -> list[Any]:
    """Returns the gradient of each trainable variable, from the loss of its own part alone.

    Each loss after the first costs one more backward pass.

    Args:
        tape: The tape that recorded the losses; a persistent one if there are several.
        totals: The losses by part, scalars.
        model: The model whose `trainable_parts` say which variable is in which part.
    """
    variables = model.trainable_variables
    if len(totals) == 1:
        return tape.gradient(totals[""], variables)
    owner = {id(v): part for part, own in model.trainable_parts.items() for v in own}
    found: dict[int, Any] = {}
    for part, total in totals.items():
        own = [v for v in variables if _loss_of(owner.get(id(v), ""), totals) == part]
        found |= zip(map(id, own), tape.gradient(total, own), strict=True)
    return [found[id(variable)] for variable in variables]


def own_losses(
    added: Sequence[tf.Tensor], part: str, layers: Mapping[str, Sequence[Any]]
) -> list[tf.Tensor]:
    """Returns those of the losses added by layers themselves that a part minimizes.

    What a discriminator adds for its activities, for instance, depends on the images it is shown,
    but does not concern the part that makes them.

    Args:
        added: `losses` of the model.
        part: The part.
        layers: The layers of the objective, by parts that have a loss of their own.
    """
    found = {name: [loss for one in own for loss in one.losses] for name, own in layers.items()}
    if part in found:
        return found[part]
    foreign = {id(loss) for own in found.values() for loss in own}
    return [loss for loss in added if id(loss) not in foreign]


def total(added: Sequence[tf.Tensor], dtype: tf.DType) -> tf.Tensor:
    """Returns the sum of losses that layers added by themselves, a scalar."""
    return tf.add_n([tf.zeros((), dtype), *(tf.cast(loss, dtype) for loss in added)])


def check_parts(objective: Any, model: Any) -> None:
    """Raises a `ValueError` unless an objective's parts are built and the model has the others."""
    unbuilt = [one.name for own in objective.parts.values() for one in own if not one.built]
    if unbuilt:
        rule = "must build the layers of its parts in `build_for`, or be given layers with an Input"
        raise checks.invalid("objective", rule, unbuilt)
    parts = list(objective.loss_parts)
    if not parts:
        return
    known = list(model.trainable_parts)
    if len(set(parts)) < len(parts) or not set(parts) <= set(known):
        rule = f"must have one loss each for parts of the model, which are {known}"
        raise checks.invalid("objective", rule, parts)


def _loss_of(part: str, totals: Mapping[str, tf.Tensor]) -> str:
    return part if part in totals else ""
