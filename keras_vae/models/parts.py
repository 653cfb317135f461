"""The parts and arguments of a model, and checks of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from keras_vae.core import checks

Shape = tuple[int | None, ...]

# Arguments of models that are stored under a different name.
_ATTRIBUTES = {
    "posterior": "posterior_head",
    "likelihood": "likelihood_head",
    "prior": "prior_head",
}


def output_shape(argument: str, network: keras.layers.Layer, input_shape: Shape) -> Shape:
    """Builds a network and returns the shape of its output."""
    output = checks.output_of(argument, network, input_shape)
    shape = getattr(output, "shape", None)
    if shape is None or len(shape) < 2 or 0 in shape:
        raise ValueError(
            f"Argument `{argument}` must return one tensor [batch, ...] with at least one feature. "
            f"Received: {argument}={network!r}, which returns {output}"
        )
    return tuple(shape)


def part_of(model: Any, argument: str) -> Any:
    """Returns what was passed to a model as this argument, or None if it was not kept."""
    return getattr(model, _ATTRIBUTES.get(argument, argument), None)


def serialized(model: Any, *arguments: str) -> dict[str, Any]:
    """Returns the configurations of the layers that were passed to a model as these arguments."""
    parts = {name: part_of(model, name) for name in arguments}
    return {name: keras.saving.serialize_keras_object(part) for name, part in parts.items()}


def check_latent(posterior: Any, prior: Any) -> None:
    """Raises a `ValueError` unless prior and posterior are over the same z."""
    if prior.event_shape != posterior.event_shape or prior.discrete != posterior.discrete:
        raise ValueError(
            f"Argument `prior` must be over the same z as the posterior, "
            f"{_latent(posterior)}. Received: a prior over {_latent(prior)}"
        )
    # A head with a single group fits any z of its size.
    several = len(prior.latents) > 1 and len(posterior.latents) > 1
    if several and prior.latents != posterior.latents:
        raise ValueError(
            f"Argument `prior` must have the groups of the posterior, {posterior.latents}. "
            f"Received: a prior over {prior.latents}"
        )


def _latent(head: Any) -> str:
    kind = "discrete" if head.discrete else "continuous"
    return f"{kind} z of shape {head.event_shape}"


def check_noise(posterior: Any) -> None:
    """Raises a `ValueError` if the posterior is a point mass, which carries no gradient."""
    if posterior.is_point_mass:
        rule = "must have noise: a quantizer, which has none, is trained by keras_vae.VQVAE"
        raise checks.invalid("posterior", rule, type(posterior).__name__)


def check_gradients(objective: Any, posterior: Any) -> None:
    """Raises a `ValueError` unless the posterior gives the gradients that the objective needs."""
    if objective.pathwise and not posterior.reparameterized:
        raise ValueError(
            "Argument `objective` must not need gradients through samples of z, which "
            f"{type(posterior).__name__} does not give: use estimator='score_function', or a "
            f"temperature in the posterior. Received: {type(objective).__name__}"
        )
    if not objective.pathwise and posterior.discrete and posterior.reparameterized:
        raise ValueError(
            "Argument `posterior` must be without a temperature, which relaxes its draws, if "
            "the objective takes no gradient through them. Received: "
            f"{type(posterior).__name__} with {type(objective).__name__}"
        )


def trainable_of(**parts: Iterable[keras.layers.Layer]) -> dict[str, list[keras.Variable]]:
    """Returns the trainable variables of the layers of each part, each only in its first part."""
    seen: set[int] = set()
    found: dict[str, list[keras.Variable]] = {}
    for name, layers in parts.items():
        # By id, because Keras variables are compared element by element.
        all_of_them = {id(v): v for layer in layers for v in layer.trainable_variables}
        found[name] = [v for key, v in all_of_them.items() if key not in seen]
        seen |= set(all_of_them)
    return found
