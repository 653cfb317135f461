"""What the image networks share: their arguments, and the layers that halve and double images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_vae.core import checks
from keras_vae.networks.chain import Chain
from keras_vae.networks.output_bias import OutputBias
from keras_vae.networks.residual_block import ResidualBlock

Layers = list[keras.layers.Layer]


class ImageNetwork(Chain):
    """Base of the image networks, which checks and stores their common arguments."""

    def __init__(
        self,
        filters: Sequence[int],
        kernel_size: int,
        dense_units: int,
        activation: str | Callable,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = checks.sizes("filters", filters)
        self.kernel_size = checks.integer("kernel_size", kernel_size, minimum=2)
        self.dense_units = checks.integer("dense_units", dense_units)
        self.activation = checks.activation("activation", activation)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "dense_units": self.dense_units,
            "activation": keras.activations.serialize(self.activation),
        }


def encoder_layers(network: ImageNetwork, blocks: int = 0) -> Layers:
    """Returns the layers from an image to features, with residual blocks at every size."""
    policy, activation = network.dtype_policy, network.activation
    layers: Layers = []
    for filters in network.filters:
        convolution = keras.layers.Conv2D(filters, network.kernel_size, 2, "same", dtype=policy)
        layers += [convolution, *_stage(network, filters, blocks)]
    flatten = keras.layers.Flatten(dtype=policy)
    return [*layers, flatten, keras.layers.Dense(network.dense_units, activation, dtype=policy)]


def decoder_layers(network: ImageNetwork, shape: tuple[int, ...], blocks: int = 0) -> Layers:
    """Returns the layers from z to parameters of this shape, `(H, W, C)` or `(H, W, C, K)`.

    They mirror `encoder_layers`: the images have the same sizes as in the encoder, where an odd
    side is rounded up when halved.
    """
    if len(shape) not in (3, 4):
        raise checks.invalid("shape", "must be (H, W, C) or (H, W, C, K)", shape)
    policy, activation = network.dtype_policy, network.activation
    sizes = stage_sizes(shape[:2], len(network.filters))
    start = (*sizes[0], network.filters[0])
    layers: Layers = [
        keras.layers.Dense(network.dense_units, activation, dtype=policy),
        keras.layers.Dense(math.prod(start), dtype=policy),
        keras.layers.Reshape(start, dtype=policy),
    ]
    channels = [*network.filters[1:], math.prod(shape[2:])]
    has_bias = [True] * (len(channels) - 1) + [False]  # OutputBias serves as the last bias
    stages = zip(network.filters, channels, sizes[1:], has_bias, strict=True)
    for filters, after, size, use_bias in stages:
        layers += _stage(network, filters, blocks) + double_layers(network, after, size, use_bias)
    if len(shape) == 4:
        layers.append(keras.layers.Reshape(shape, dtype=policy))
    return [*layers, OutputBias(dtype=policy)]


def stage_sizes(size: Sequence[int], doublings: int) -> list[tuple[int, ...]]:
    """Returns the sizes of images that are doubled up to `size`, each half the next, rounded up.

    Example:
        >>> stage_sizes((9, 28), 2)
        [(3, 7), (5, 14), (9, 28)]
    """
    sizes = [tuple(size)]
    for _ in range(doublings):
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    return sizes[::-1]


def _stage(network: ImageNetwork, filters: int, blocks: int) -> Layers:
    """Returns the layers at one size, between two strided convolutions."""
    policy, activation = network.dtype_policy, network.activation
    residual = [ResidualBlock(filters, activation, dtype=policy) for _ in range(blocks)]
    return [*residual, keras.layers.Activation(activation, dtype=policy)]


def double_layers(network: Any, channels: int, size: tuple[int, ...], use_bias: bool) -> Layers:
    """Returns the layers that double an image and crop it to `size`."""
    policy = network.dtype_policy
    double = keras.layers.Conv2DTranspose(
        channels, network.kernel_size, 2, "same", use_bias=use_bias, dtype=policy
    )
    if not any(side % 2 for side in size):
        return [double]
    crop = tuple((0, side % 2) for side in size)
    return [double, keras.layers.Cropping2D(crop, dtype=policy)]
