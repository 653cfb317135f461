"""Residual encoder and decoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.networks.image import ImageNetwork, decoder_layers, encoder_layers


@serializable
class ResidualEncoder(ImageNetwork):
    """A `ConvEncoder` with residual blocks after each of its convolutions.

    h_0 = x, h_i = activation(blocks(conv(h_{i-1}, stride 2))),
    features = activation(W flatten(h) + b)

    There is no batch normalization, because it couples the examples of a batch; see
    `ResidualBlock`.

    Args:
        filters: Number of filters at each size of the image.
        blocks_per_stage: Number of residual blocks at each size.
        kernel_size: Side of the kernels of the strided convolutions, at least 2.
        dense_units: Number F of features.
        activation: Name of a Keras activation, or a function.
        **kwargs: Passed on to `keras.Model`.

    Returns:
        Tensor `[B, F]`, features, for images `[B, H, W, C]` of any size.

    Raises:
        ValueError: If an argument, or the shape of x, is not as above.

    Example:
        >>> encoder = ResidualEncoder()
        >>> encoder.compute_output_shape((None, 32, 32, 3))
        (None, 256)

    References:
        He et al., 2016, Identity mappings in deep residual networks, arXiv:1603.05027.
    """

    def __init__(
        self,
        filters: Sequence[int] = (32, 64),
        blocks_per_stage: int = 2,
        kernel_size: int = 4,
        dense_units: int = 256,
        activation: str | Callable = "relu",
        **kwargs: Any,
    ):
        super().__init__(filters, kernel_size, dense_units, activation, **kwargs)
        self.blocks_per_stage = checks.integer("blocks_per_stage", blocks_per_stage)
        self.set_layers(encoder_layers(self, self.blocks_per_stage))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "blocks_per_stage": self.blocks_per_stage}


@serializable
class ResidualDecoder(ImageNetwork):
    """A `ConvDecoder` with residual blocks before each of its transposed convolutions.

    h_0 = activation(blocks(reshape(dense(activation(dense(z)))))),
    h_i = activation(blocks(conv_transpose(h_{i-1}, stride 2))),
    parameters = conv_transpose(h, stride 2) + bias

    Args:
        shape: Shape of the parameters of one datum, the `params_shape` of the likelihood:
            `(H, W, C)`, or `(H, W, C, K)` made of C * K channels.
        filters: Number of channels of each intermediate image, starting from the smallest.
        blocks_per_stage: Number of residual blocks at each size.
        kernel_size: Side of the kernels of the transposed convolutions, at least 2.
        dense_units: Width of the first dense layer.
        activation: Name of a Keras activation, or a function.
        **kwargs: Passed on to `keras.Model`.

    Returns:
        Tensor `[B, *shape]`, unbounded parameters, for z `[B, D]`, or for maps
        `[B, ...]`, which are flattened.

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> decoder = ResidualDecoder((32, 32, 3))
        >>> decoder.compute_output_shape((None, 16))
        (None, 32, 32, 3)

    References:
        He et al., 2016, Identity mappings in deep residual networks, arXiv:1603.05027.
    """

    takes_vectors = True

    def __init__(
        self,
        shape: Sequence[int],
        filters: Sequence[int] = (64, 32),
        blocks_per_stage: int = 2,
        kernel_size: int = 4,
        dense_units: int = 256,
        activation: str | Callable = "relu",
        **kwargs: Any,
    ):
        super().__init__(filters, kernel_size, dense_units, activation, **kwargs)
        self.shape = checks.shape("shape", shape)
        self.blocks_per_stage = checks.integer("blocks_per_stage", blocks_per_stage)
        self.set_layers(decoder_layers(self, self.shape, self.blocks_per_stage))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        config = {"shape": self.shape, "blocks_per_stage": self.blocks_per_stage}
        return {**super().get_config(), **config}
