"""What the image decoders share: sizes on the way up, their first and their last layers."""

from __future__ import annotations

import math
from typing import Any

import keras

from keras_vae.core import checks
from keras_vae.networks.output_bias import OutputBias


def image_size(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Returns height, width and number of channels of parameters `(H, W, C)` or `(H, W, C, K)`."""
    if len(shape) not in (3, 4):
        raise checks.invalid("shape", "must be (H, W, C) or (H, W, C, K)", shape)
    return shape[0], shape[1], math.prod(shape[2:])


def stage_sizes(size: tuple[int, int], doublings: int) -> list[tuple[int, int]]:
    """Returns the sizes on the way up to `size`, each half of the next, rounded up.

    Example:
        >>> stage_sizes((9, 28), 2)
        [(3, 7), (5, 14), (9, 28)]
    """
    sizes = [size]
    for _ in range(doublings):
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes[::-1]


def start_layers(network: Any, shape: tuple[int, int, int]) -> list[keras.layers.Layer]:
    """Returns the dense layers from z to the smallest image."""
    policy, activation = network.dtype_policy, network.activation
    return [
        keras.layers.Dense(network.dense_units, activation=activation, dtype=policy),
        keras.layers.Dense(math.prod(shape), activation=activation, dtype=policy),
        keras.layers.Reshape(shape, dtype=policy),
    ]


def output_layers(network: Any) -> list[keras.layers.Layer]:
    """Returns the layers from the last convolution to the parameters of p(x|z)."""
    policy = network.dtype_policy
    reshape = [keras.layers.Reshape(network.shape, dtype=policy)] if len(network.shape) > 3 else []
    return [*reshape, OutputBias(dtype=policy)]
