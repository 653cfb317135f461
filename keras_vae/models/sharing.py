"""A model made from the parts of another."""

from __future__ import annotations

from typing import Any

import keras

from keras_vae.core import checks
from keras_vae.models.parts import part_of
from keras_vae.objectives import Objective


def with_prior(model: Any, prior: Any, kind: Any = None) -> Any:
    """Returns a model with the same parts but with this prior; see `VAE.with_prior`.

    Args:
        model: The model.
        prior: The new prior.
        kind: Class of the new model, a base class of the model's own; by default the model's own.
    """
    kind = type(model) if kind is None else kind
    config = kind.get_config(model)
    if "prior" not in config:
        raise _unfit(model, "its get_config has no `prior`")
    parts = {name: part_of(model, name) for name in config}
    shared = {name: part for name, part in parts.items() if _is_shared(part)}
    with model.distribute_strategy.scope():
        # `from_config` deserializes configurations, and takes live parts as they are.
        other = kind.from_config({**config, **shared, "prior": prior})
    _check_shares_weights(other, model)
    # The configuration holds the initial values of beta and the like, the weights the current ones.
    for mine, theirs in zip(other.objective.weights, model.objective.weights, strict=True):
        mine.assign(theirs)
    return other


def check_apart(model: Any) -> None:
    """Raises a `ValueError` if arguments of a model share layers, which a file could not say.

    Args:
        model: A model whose `get_config` returns its parts by the names of the arguments.
    """
    owners: dict[int, str] = {}
    for name in [*(name for name in model.get_config() if name != "objective"), "objective"]:
        part = part_of(model, name)
        for layer in part._flatten_layers() if isinstance(part, keras.layers.Layer) else ():
            owner = owners.setdefault(id(layer), name)
            if owner != name:
                rule = f"must share no layer with `{owner}` in a model that is saved"
                raise checks.invalid(name, f"{rule}, as it would be read back as two", layer.name)


def _is_shared(part: Any) -> bool:
    # Two models that shared one objective would drive each other's hyperparameters.
    return isinstance(part, keras.layers.Layer) and not isinstance(part, Objective)


def _check_shares_weights(other: Any, model: Any) -> None:
    own = [*model.prior_head.weights, *model.objective.weights, model.trained_batches]
    known = {id(weight) for weight in [*own, *other.weights]}
    lost = [weight.path for weight in model.weights if id(weight) not in known]
    if lost:
        raise _unfit(model, f"the weights {lost} belong to none of them")


def _unfit(model: Any, why: str) -> ValueError:
    return ValueError(
        "`with_prior` needs a model whose layers are arguments of its constructor, kept as "
        "attributes of the same names and returned by `get_config`. "
        f"Received: {type(model).__name__}, of which {why}"
    )
