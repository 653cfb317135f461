"""Frozen layers, whatever was made inside them since."""

from __future__ import annotations

import keras


def freeze(layer: keras.layers.Layer) -> None:
    """Makes a layer and all layers inside it untrainable.

    Keras passes `trainable` on to the layers inside only if the value changes, so those that were
    made afterwards, by a constructor or by building, would stay trainable.
    """
    layer.trainable = True
    layer.trainable = False


def freeze_inside(model: keras.layers.Layer) -> None:
    """Makes everything inside the frozen layers of a model untrainable, too."""
    for layer in model._flatten_layers(include_self=False):
        if not layer.trainable:
            freeze(layer)
