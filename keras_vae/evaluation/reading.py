"""What evaluations work on: a built model, and batches of data that have a density."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.progress import with_progress
from keras_vae.core.seeds import fold, seed_tensor
from keras_vae.models import VAE, LatentVariableModel
from keras_vae.posteriors import Posterior
from keras_vae.training import errors
from keras_vae.training.data import Data, any_number_of


def checked_model(model: Any, kind: type[keras.Model] = LatentVariableModel) -> Any:
    """Returns the model, or raises unless it is of the given kind and all its layers are built."""
    if not isinstance(model, kind):
        raise checks.invalid("model", f"must be a {kind.__name__}", model)
    layers = model._flatten_layers(include_self=False)
    unbuilt = [layer.name for layer in layers if not layer.built]
    if unbuilt:
        rule = "must be built: train it, load it, or call model.build(input_shape)"
        raise ValueError(f"Argument `model` {rule}. Received: a model of unbuilt layers {unbuilt}")
    return model


def is_image(model: VAE) -> bool:
    """Returns whether x is an image whose pixels are numbers, not classes, with 1 or 3 channels."""
    head = model.likelihood_head
    return head.event_shape == head.shape and len(head.shape) == 3 and head.shape[-1] in (1, 3)


def checked_vae(model: Any) -> VAE:
    """Returns the model, or raises unless it is a `VAE`."""
    return checked_model(model, VAE)


def has_parameters(model: VAE) -> bool:
    """Returns whether the posterior head separates the parameters of q(z|x) from the distribution.

    A point mass has no parameters that could be fitted or compared.
    """
    return type(model.posterior_head).call is Posterior.call and not model.is_point_mass


def checked_with_parameters(model: Any) -> VAE:
    """Returns the model, or raises unless it is a `VAE` whose q(z|x) has separate parameters."""
    model = checked_vae(model)
    check_noise(model, "densities of a point mass are zero at the z of all other data")
    if not has_parameters(model):
        rule = "must have a posterior that overrides `parameters` and `distribution`, not `call`"
        raise checks.invalid("model", rule, type(model.posterior_head).__name__)
    return model


def check_vectors(model: VAE, why: str) -> None:
    """Raises a `ValueError` that explains `why` if latent variables are maps."""
    if has_maps(model):
        rule = f"must have latent variables that are vectors: {why}"
        raise checks.invalid("model", rule, dict(model.latents))


def check_noise(model: Any, why: str) -> None:
    """Raises a `ValueError` that explains `why` if q(z|x) is a point mass."""
    if model.is_point_mass:
        rule = f"must have a posterior with noise: {why}"
        raise checks.invalid("model", rule, type(model).__name__)


def has_maps(model: VAE) -> bool:
    """Returns whether z is made of groups of latent variables that are maps."""
    maps = [shape for shape in model.latents.values() if len(shape) > 1]
    return bool(maps) and len(model.posterior_head.event_shape) == 1


def standardized(
    model: LatentVariableModel, data: Any, batch_size: int = 128
) -> Iterator[tuple[tf.Tensor, Any]]:
    """Yields `(x, y)` for every batch, in the form that the model's densities take.

    Raises:
        ValueError: If there are no examples, or one of them has no density.
    """
    batch_size = checks.integer("batch_size", batch_size)
    yield from Data.of("data", data).checked_batches(model._checked, batch_size)


def map_batches(
    function: Callable[[tf.Tensor, Any, tf.Tensor], Any],
    model: LatentVariableModel,
    data: Any,
    batch_size: int = 128,
    seed: Any = 0,
    verbose: bool = True,
) -> Iterator[Any]:
    """Yields what the graph function `function(x, y, seed)` returns for every batch, as arrays."""
    data = Data.of("data", data)
    data.check_ends()
    batch_size = checks.integer("batch_size", batch_size)
    work = standardized(model, data, batch_size)
    yield from run_batches(function, work, data.num_batches(batch_size), seed, verbose)


def run_batches(
    function: Callable[[tf.Tensor, Any, tf.Tensor], Any],
    work: Iterable[tuple[tf.Tensor, Any]],
    total: int | None,
    seed: Any = 0,
    verbose: bool = True,
) -> Iterator[Any]:
    """Yields what `function(x, y, seed)` returns for every `(x, y)`, as arrays.

    The function is traced once, for batches of any size, and every batch has its own noise.
    """
    seed, traced = seed_tensor(seed), None
    for number, (x, y) in enumerate(with_progress(work, total, verbose)):
        inputs = [x] if y is None else [x, y]
        traced = traced or _traced(function, inputs)
        yield tf.nest.map_structure(np.asarray, traced(inputs, fold(seed, number)))


def _traced(function: Callable[..., Any], inputs: list[tf.Tensor]) -> Callable[..., Any]:
    """Returns a graph function of a seed and `[x]` or `[x, y]` with any number of rows."""
    spec = [any_number_of(value) for value in inputs]

    @tf.function(autograph=False, input_signature=[spec, tf.TensorSpec([2], tf.int32)])
    def run(inputs: list[tf.Tensor], seed: tf.Tensor) -> Any:
        x, y = (*inputs, None)[:2]
        return function(x, y, seed)

    return errors.as_python_errors(run)
