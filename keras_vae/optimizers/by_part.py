"""Separate optimizers for the parts of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_vae.core import checks
from keras_vae.optimizers.part_optimizer import PartOptimizer


def by_part(
    model: Any,
    /,
    *,
    default: Any = None,
    every: Mapping[str, int] | None = None,
    start: Mapping[str, int] | None = None,
    **optimizers: Any,
) -> PartOptimizer:
    """Gives each part of a model its own optimizer, so that rates and step intervals can differ.

    theta_part <- step of the part's optimizer for d loss / d theta_part,
    at batch n = 0, 1, ... if n >= start and n % every == 0

    The parts are those of `model.trainable_parts`: `encoder` (with the posterior's head), `decoder`
    (with the likelihood's) and `prior` of a `VAE`, the `condition` of a `ConditionalVAE` too, and
    the `discriminator` of an adversarial objective. A part without weights needs no optimizer.
    Frozen variables (`layer.trainable = False`) get none, so freeze them before you call this.
    `callbacks.HyperparameterSchedule("encoder.learning_rate", ...)` drives one of the rates.

    Args:
        model: A `LatentVariableModel`.
        default: Optimizer for all parts and variables that are not mentioned.
        every: Number of batches from one step of a part to its next, by the part's name; 1 for
            parts that are not mentioned. A weight of the optimizer counts the batches.
        start: Number of the batch at which a part steps first, by the part's name; 0 for parts that
            are not mentioned.
        **optimizers: A new optimizer for each part, or the name of one.

    Returns:
        `PartOptimizer`, to be passed to `model.compile`.

    Raises:
        ValueError: If there is no such part, a part has no optimizer, the model is not built and
            does not know the shape of its data, or `every` or `start` is not as above.

    Example:
        >>> import keras
        >>> import keras_vae as kv
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> model.compile(by_part(
        ...     model, encoder=keras.optimizers.Adam(1e-3), decoder=keras.optimizers.Adam(3e-4)))
        >>> sorted(model.optimizer.hyperparameters)
        ['decoder.learning_rate', 'encoder.learning_rate']

    References:
        He et al., 2019, algorithm 1, arXiv:1901.05534 (an encoder that is trained ahead of its
        decoder).
    """
    _build(model)
    parts = model.trainable_parts
    for part, optimizer in optimizers.items():
        if part not in parts:
            raise checks.invalid(part, f"must be a part of the model, of {list(parts)}", optimizer)
    part_of = {id(v): part for part in optimizers for v in parts[part]}
    variables = model.trainable_variables
    left = [v for v in variables if id(v) not in part_of]
    if left and default is None:
        owners = {id(v): part for part, own in parts.items() for v in own}
        names = list(dict.fromkeys(owners.get(id(v), v.path) for v in left))
        raise checks.invalid("default", f"must be an optimizer, as {names} have none", default)
    given = optimizers if default is None else {**optimizers, "default": default}
    made = {part: checks.optimizer(part, optimizer) for part, optimizer in given.items()}
    return PartOptimizer(made, [part_of.get(id(v), "default") for v in variables], every, start)


def _build(model: Any) -> None:
    if model.built:
        return
    shape = getattr(getattr(model, "likelihood_head", None), "event_shape", None)
    if shape is None:
        rule = "must be built, as its variables are not known before: call model.build(shape of x)"
        raise checks.invalid("model", rule, model)
    model.build((None, *shape))
