"""What evaluations read: a model that is built, and batches of data that have a density."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.models import VAE, LatentVariableModel
from keras_vae.models.inputs import batches

# Seconds before a bar appears: short work stays silent.
_PATIENCE = 2.0


def checked_model(model: Any, kind: type = LatentVariableModel) -> Any:
    """Returns the model, or raises unless it is of that kind and its layers have their weights."""
    if not isinstance(model, kind):
        raise checks.invalid("model", f"must be a {kind.__name__}", model)
    layers = model._flatten_layers(include_self=False)
    unbuilt = [layer.name for layer in layers if not layer.built]
    if unbuilt:
        rule = "must be built: train it, load it, or call model.build(input_shape)"
        raise ValueError(f"Argument `model` {rule}. Received: a model of unbuilt layers {unbuilt}")
    return model


def checked_vae(model: Any) -> VAE:
    """Returns the model, or raises unless it is a `VAE`."""
    return checked_model(model, VAE)


def standardized(
    model: LatentVariableModel, data: Any, batch_size: int = 128
) -> Iterator[tuple[tf.Tensor, Any]]:
    """Yields `(x, y)` of every batch, as the model's densities take them.

    Raises:
        ValueError: If there is no example, or one without a density.
    """
    empty = True
    for x, y in batches(data, checks.integer("batch_size", batch_size)):
        if len(x):
            empty = False
            yield model.check_support(*model.standardize(x, y))
    if empty:
        raise checks.invalid("data", "must hold at least one example", data)


def with_progress(
    work: Iterable[Any], total: int | None, verbose: bool, unit: str = "batch"
) -> Iterator[Any]:
    """Yields what `work` yields, under a progress bar once it takes more than some seconds."""
    if not checks.option("verbose", verbose, (False, True)):
        yield from work
        return
    start, number, shown = time.monotonic(), 0, False
    bar = keras.utils.Progbar(total, unit_name=unit)
    for number, item in enumerate(work, start=1):
        yield item
        shown = shown or time.monotonic() - start > _PATIENCE
        if shown:
            bar.update(number, finalize=False)
    if shown:
        bar.update(number, finalize=True)
