"""Convolutional encoder and decoder between images and smaller maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.networks.chain import Chain
from keras_vae.networks.image import Layers, double_layers, stage_sizes
from keras_vae.networks.output_bias import OutputBias
from keras_vae.networks.residual_block import ResidualBlock


class MapNetwork(Chain):
    """Base of the networks of maps, which checks and stores their common arguments."""

    def __init__(
        self,
        filters: Sequence[int],
        blocks: int,
        block_filters: int,
        kernel_size: int,
        activation: str | Callable,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = checks.sizes("filters", filters)
        self.blocks = checks.integer("blocks", blocks, minimum=0)
        self.block_filters = checks.integer("block_filters", block_filters)
        self.kernel_size = checks.integer("kernel_size", kernel_size, minimum=2)
        self.activation = checks.activation("activation", activation)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "blocks": self.blocks,
            "block_filters": self.block_filters,
            "kernel_size": self.kernel_size,
            "activation": keras.activations.serialize(self.activation),
        }

    def body(self, filters: int) -> Layers:
        """Returns the layers at the smallest size: a convolution, then residual blocks."""
        policy, width = self.dtype_policy, self.block_filters
        blocks = [
            ResidualBlock(filters, self.activation, bottleneck=width, dtype=policy)
            for _ in range(self.blocks)
        ]
        first = keras.layers.Conv2D(filters, 3, padding="same", dtype=policy)
        return [first, *blocks, keras.layers.Activation(self.activation, dtype=policy)]


@serializable
class MapEncoder(MapNetwork):
    """Convolutions of stride 2, then residual blocks; the features remain a map.

    h_0 = x, h_i = activation(conv(h_{i-1}, stride 2)), features = activation(blocks(conv(h)))

    Args:
        filters: Number of filters of each strided convolution; the last is also that of the map.
        blocks: Number of residual blocks.
        block_filters: Channels between the two convolutions of a block.
        kernel_size: Side of the kernels of the strided convolutions, at least 2.
        activation: Name of a Keras activation, or a function.
        **kwargs: Passed on to `keras.Model`.

    Returns:
        Tensor `[B, h, w, filters[-1]]` for images `[B, H, W, C]`; h and w are H and W, halved once
        for each of the filters and rounded up.

    Raises:
        ValueError: If an argument, or the shape of x, is not as above.

    Example:
        >>> MapEncoder().compute_output_shape((None, 32, 32, 3))
        (None, 8, 8, 128)

    References:
        van den Oord et al., 2017, section 4.1, arXiv:1711.00937.
    """

    def __init__(
        self,
        filters: Sequence[int] = (64, 128),
        blocks: int = 2,
        block_filters: int = 32,
        kernel_size: int = 4,
        activation: str | Callable = "relu",
        **kwargs: Any,
    ):
        super().__init__(filters, blocks, block_filters, kernel_size, activation, **kwargs)
        halving = {"strides": 2, "padding": "same", "activation": self.activation}
        halvings = [
            keras.layers.Conv2D(n, self.kernel_size, dtype=self.dtype_policy, **halving)
            for n in self.filters
        ]
        self.set_layers([*halvings, *self.body(self.filters[-1])])


@serializable
class MapDecoder(MapNetwork):
    """The mirror of `MapEncoder`: residual blocks, then transposed convolutions of stride 2.

    h_0 = activation(blocks(conv(z))), h_i = activation(conv_transpose(h_{i-1}, stride 2)),
    parameters = conv_transpose(h, stride 2) + bias

    Where an intermediate image has an odd side, the doubled image is cropped to that side.

    Args:
        shape: Shape of the parameters of one datum, the `params_shape` of the likelihood:
            `(H, W, C)`, or `(H, W, C, K)` made of C * K channels.
        filters: Number of channels of each intermediate map, starting from the smallest.
        blocks: Number of residual blocks.
        block_filters: Channels between the two convolutions of a block.
        kernel_size: Side of the kernels of the transposed convolutions, at least 2.
        activation: Name of a Keras activation, or a function.
        **kwargs: Passed on to `keras.Model`.

    Returns:
        Tensor `[B, *shape]`, unbounded parameters, for maps `[B, h, w, D]`; h and w are H and W,
        halved once for each of the filters and rounded up.

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> MapDecoder((32, 32, 3)).compute_output_shape((None, 8, 8, 64))
        (None, 32, 32, 3)

    References:
        van den Oord et al., 2017, section 4.1, arXiv:1711.00937.
    """

    def __init__(
        self,
        shape: Sequence[int],
        filters: Sequence[int] = (128, 64),
        blocks: int = 2,
        block_filters: int = 32,
        kernel_size: int = 4,
        activation: str | Callable = "relu",
        **kwargs: Any,
    ):
        super().__init__(filters, blocks, block_filters, kernel_size, activation, **kwargs)
        self.shape = checks.shape("shape", shape)
        if len(self.shape) not in (3, 4):
            raise checks.invalid("shape", "must be (H, W, C) or (H, W, C, K)", shape)
        self.set_layers([*self.body(self.filters[0]), *self._doublings()])

    def _doublings(self) -> Layers:
        sizes, policy = stage_sizes(self.shape[:2], len(self.filters))[1:], self.dtype_policy
        layers: Layers = []
        for filters, size in zip(self.filters[1:], sizes[:-1], strict=True):
            layers += double_layers(self, filters, size, use_bias=True)
            layers.append(keras.layers.Activation(self.activation, dtype=policy))
        # OutputBias serves as the bias of the last layer.
        layers += double_layers(self, math.prod(self.shape[2:]), sizes[-1], use_bias=False)
        if len(self.shape) == 4:
            layers.append(keras.layers.Reshape(self.shape, dtype=policy))
        return [*layers, OutputBias(dtype=policy)]

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "shape": self.shape}
