"""Convolutional encoder and decoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.networks.chain import Chain
from keras_vae.networks.image import image_size, output_layers, stage_sizes, start_layers


@serializable
class ConvEncoder(Chain):
    """Convolutions of stride 2, each halving the image, then a dense layer.

    h_0 = x, h_i = activation(conv(h_{i-1}, stride 2)), features = activation(W flatten(h) + b)

    Args:
        filters: Number of filters of each convolution.
        kernel_size: Side of the kernels, at least 2 so that no pixel is skipped.
        dense_units: Number F of features.
        activation: Name of a Keras activation, or a function.
        **kwargs: Of `keras.Model`.

    Returns:
        Tensor `[B, F]`, features, for images `[B, H, W, C]` of any size.

    Raises:
        ValueError: If an argument, or the shape of x, is not as above.

    Example:
        >>> ConvEncoder()(keras.ops.zeros([2, 28, 28, 1])).shape
        TensorShape([2, 256])
    """

    def __init__(
        self,
        filters: Sequence[int] = (32, 64),
        kernel_size: int = 4,
        dense_units: int = 256,
        activation: str | Callable = "relu",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        _set_arguments(self, filters, kernel_size, dense_units, activation)
        policy = self.dtype_policy
        convolutions = [
            keras.layers.Conv2D(n, kernel_size, 2, "same", activation=self.activation, dtype=policy)
            for n in self.filters
        ]
        dense = keras.layers.Dense(dense_units, activation=self.activation, dtype=policy)
        self.set_layers([*convolutions, keras.layers.Flatten(dtype=policy), dense])

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), **_conv_config(self)}


@serializable
class ConvDecoder(Chain):
    """The mirror of `ConvEncoder`: dense layers, then transposed convolutions of stride 2.

    h_0 = reshape(dense(dense(z))), h_i = activation(conv_transpose(h_{i-1}, stride 2)),
    parameters = conv_transpose(h, stride 2) + bias

    Where the encoder's image had an odd side, the doubled one is cropped to it.

    Args:
        shape: Shape of the parameters of one datum, the `params_shape` of the likelihood:
            `(H, W, C)`, or `(H, W, C, K)` made of C * K channels.
        filters: Number of channels of each image on the way, from the smallest image.
        kernel_size: Side of the kernels, at least 2.
        dense_units: Width of the first dense layer.
        activation: Name of a Keras activation, or a function.
        **kwargs: Of `keras.Model`.

    Returns:
        Tensor `[B, *shape]`, unbounded parameters, for z `[B, D]`.

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> ConvDecoder((28, 28, 1))(keras.ops.zeros([2, 16])).shape
        TensorShape([2, 28, 28, 1])
    """

    def __init__(
        self,
        shape: Sequence[int],
        filters: Sequence[int] = (64, 32),
        kernel_size: int = 4,
        dense_units: int = 256,
        activation: str | Callable = "relu",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.shape = checks.shape("shape", shape)
        height, width, channels = image_size(self.shape)
        _set_arguments(self, filters, kernel_size, dense_units, activation)
        sizes = stage_sizes((height, width), len(self.filters))
        layers = start_layers(self, (*sizes[0], self.filters[0]))
        for size, units in zip(sizes[1:-1], self.filters[1:], strict=True):
            layers += self._double(units, size, activation=self.activation)
        layers += self._double(channels, sizes[-1], use_bias=False)
        self.set_layers([*layers, *output_layers(self)])

    def _double(self, channels: int, size: tuple[int, int], **kwargs: Any) -> list:
        """Returns the layers that double an image and crop it to `size`."""
        policy = self.dtype_policy
        layer = keras.layers.Conv2DTranspose(
            channels, self.kernel_size, 2, "same", dtype=policy, **kwargs
        )
        crop = tuple((0, side % 2) for side in size)
        return [layer, keras.layers.Cropping2D(crop, dtype=policy)] if any(crop) else [layer]

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "shape": self.shape, **_conv_config(self)}


def _set_arguments(network, filters, kernel_size, dense_units, activation) -> None:
    network.filters = checks.shape("filters", filters)
    network.kernel_size = checks.integer("kernel_size", kernel_size, minimum=2)
    network.dense_units = checks.integer("dense_units", dense_units)
    network.activation = keras.activations.get(activation)


def _conv_config(network: ConvEncoder | ConvDecoder) -> dict[str, Any]:
    return {
        "filters": network.filters,
        "kernel_size": network.kernel_size,
        "dense_units": network.dense_units,
        "activation": keras.activations.serialize(network.activation),
    }
