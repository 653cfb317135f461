"""Convolutional encoder and decoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.networks.image import ImageNetwork, decoder_layers, encoder_layers


@serializable
class ConvEncoder(ImageNetwork):
    """Convolutions of stride 2, each halving the image, then a dense layer.

    h_0 = x, h_i = activation(conv(h_{i-1}, stride 2)), features = activation(W flatten(h) + b)

    Args:
        filters: Number of filters of each convolution.
        kernel_size: Side of the kernels, at least 2 so that no pixel is skipped.
        dense_units: Number F of features.
        activation: Name of a Keras activation, or a function.
        **kwargs: Passed on to `keras.Model`.

    Returns:
        Tensor `[B, F]`, features, for images `[B, H, W, C]` of any size.

    Raises:
        ValueError: If an argument, or the shape of x, is not as above.

    Example:
        >>> encoder = ConvEncoder()
        >>> encoder.compute_output_shape((None, 28, 28, 1))
        (None, 256)
    """

    def __init__(
        self,
        filters: Sequence[int] = (32, 64),
        kernel_size: int = 4,
        dense_units: int = 256,
        activation: str | Callable = "relu",
        **kwargs: Any,
    ):
        super().__init__(filters, kernel_size, dense_units, activation, **kwargs)
        self.set_layers(encoder_layers(self))


@serializable
class ConvDecoder(ImageNetwork):
    """The mirror of `ConvEncoder`: dense layers, then transposed convolutions of stride 2.

    h_0 = activation(reshape(dense(activation(dense(z))))),
    h_i = activation(conv_transpose(h_{i-1}, stride 2)),
    parameters = conv_transpose(h, stride 2) + bias

    Where the encoder's image had an odd side, the doubled image is cropped to that side. A
    transposed convolution is the fastest way to double an image on a CPU: depth-to-space takes 1.4
    times as long, and resizing before a convolution takes 8 times as long.

    Args:
        shape: Shape of the parameters of one datum, the `params_shape` of the likelihood:
            `(H, W, C)`, or `(H, W, C, K)` made of C * K channels.
        filters: Number of channels of each intermediate image, starting from the smallest.
        kernel_size: Side of the kernels, at least 2.
        dense_units: Width of the first dense layer.
        activation: Name of a Keras activation, or a function.
        **kwargs: Passed on to `keras.Model`.

    Returns:
        Tensor `[B, *shape]`, unbounded parameters, for z `[B, D]`, or for maps
        `[B, ...]`, which are flattened.

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> decoder = ConvDecoder((28, 28, 1))
        >>> decoder.compute_output_shape((None, 16))
        (None, 28, 28, 1)
    """

    takes_vectors = True

    def __init__(
        self,
        shape: Sequence[int],
        filters: Sequence[int] = (64, 32),
        kernel_size: int = 4,
        dense_units: int = 256,
        activation: str | Callable = "relu",
        **kwargs: Any,
    ):
        super().__init__(filters, kernel_size, dense_units, activation, **kwargs)
        self.shape = checks.shape("shape", shape)
        self.set_layers(decoder_layers(self, self.shape))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "shape": self.shape}
