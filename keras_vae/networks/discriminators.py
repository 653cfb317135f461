"""Discriminators: logits that tell whether an image is one of the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.empty_batches import of_any_batch
from keras_vae.core.head import serializable
from keras_vae.networks.chain import Chain, apply_in_turn
from keras_vae.networks.spectral import SpectralNormalization

NORMALIZATIONS = ("none", "group", "spectral")

# Channels are normalized in groups of about this many.
_GROUP_SIZE = 8


class Discriminator(Chain):
    """Base of the discriminators: strided convolutions, followed by a head.

    There is no batch normalization: it would couple the real and fake images of a batch, and also
    the replicas.
    """

    def __init__(
        self,
        filters: Sequence[int],
        kernel_size: int,
        normalization: str,
        activation: str | Callable,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = checks.sizes("filters", filters)
        self.kernel_size = checks.integer("kernel_size", kernel_size, minimum=2)
        self.normalization = checks.option("normalization", normalization, NORMALIZATIONS)
        self.activation = checks.activation("activation", activation)

    @property
    def works_once_per_call(self) -> bool:
        """Whether a call does work that does not depend on the number of images."""
        return self.normalization == "spectral"

    def judge(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the logits and the features of the last strided convolution, `[B, ...]`."""
        return of_any_batch(self._judge, images)

    def _judge(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features = apply_in_turn(self.chain[: self._depth], images)
        return apply_in_turn(self.chain[self._depth :], features), features

    def _set_stages(self, head: Sequence[keras.layers.Layer]) -> None:
        """Sets the layers: halving stages, which end in the features, and a head."""
        stages = [layer for i, _ in enumerate(self.filters) for layer in self._stage(i)]
        self._depth = len(stages)
        self.set_layers([*stages, *head])

    def _stage(self, index: int) -> list[keras.layers.Layer]:
        filters, policy = self.filters[index], self.dtype_policy
        activation = keras.layers.Activation(self.activation, dtype=policy)
        # No group normalization after the first convolution, which sees the brightness itself.
        if self.normalization != "group" or index == 0:
            return [self._convolution(filters, strides=2), activation]
        groups = math.gcd(filters, max(1, filters // _GROUP_SIZE))
        normalize = keras.layers.GroupNormalization(groups, dtype=policy)
        return [self._convolution(filters, strides=2, use_bias=False), normalize, activation]

    def _convolution(self, filters: int, strides: int, use_bias: bool = True) -> Any:
        arguments = (filters, self.kernel_size, strides, "same")
        return self._linear(keras.layers.Conv2D, *arguments, use_bias=use_bias)

    def _dense(self, units: int, activation: Any = None) -> Any:
        return self._linear(keras.layers.Dense, units, activation=activation)

    def _linear(
        self, kind: Any, *arguments: Any, use_bias: bool = True, activation: Any = None
    ) -> keras.layers.Layer:
        policy = self.dtype_policy
        if self.normalization != "spectral":
            return kind(*arguments, use_bias=use_bias, activation=activation, dtype=policy)
        layer = kind(*arguments, use_bias=False, dtype=policy)
        return SpectralNormalization(layer, use_bias, activation, dtype=policy)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "normalization": self.normalization,
            "activation": keras.activations.serialize(self.activation),
        }


@serializable
class ConvDiscriminator(Discriminator):
    """One logit per image: convolutions of stride 2, each halving the image, then dense layers.

    h_0 = x, h_i = activation(normalize(conv(h_{i-1}, stride 2))),
    D(x) = w activation(W flatten(h) + b) + c

    Args:
        filters: Number of filters of each convolution.
        kernel_size: Side of the kernels, at least 2.
        dense_units: Width of the dense layer before the logit.
        normalization: `"spectral"` divides every kernel by its largest singular value
            (`SpectralNormalization`), which keeps the discriminator from overpowering the decoder;
            `"group"` normalizes the outputs of all convolutions except the first in groups of
            channels, image by image; `"none"` does neither.
        activation: Name of a Keras activation, or a function.
        **kwargs: Passed on to `keras.Model`.

    Returns:
        Tensor `[B, 1]`, logits for images `[B, H, W, C]`, positive where an image is judged to be
        one of the data.

    Raises:
        ValueError: If an argument, or the shape of x, is not as above.

    Example:
        >>> discriminator = ConvDiscriminator()
        >>> discriminator.compute_output_shape((None, 28, 28, 1))
        (None, 1)

    References:
        Larsen et al., 2016, table 1, arXiv:1512.09300; Wu and He, 2018, arXiv:1803.08494 (group
        normalization); Miyato et al., 2018, arXiv:1802.05957 (spectral normalization).
    """

    def __init__(
        self,
        filters: Sequence[int] = (32, 64),
        kernel_size: int = 4,
        dense_units: int = 256,
        normalization: str = "spectral",
        activation: str | Callable = "leaky_relu",
        **kwargs: Any,
    ):
        super().__init__(filters, kernel_size, normalization, activation, **kwargs)
        self.dense_units = checks.integer("dense_units", dense_units)
        flatten = keras.layers.Flatten(dtype=self.dtype_policy)
        self._set_stages([flatten, self._dense(dense_units, self.activation), self._dense(1)])

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "dense_units": self.dense_units}


@serializable
class PatchDiscriminator(Discriminator):
    """A map of logits, one for each patch of the image, from convolutions only.

    h_0 = x, h_i = activation(normalize(conv(h_{i-1}, stride 2))),  D(x) = conv(h, stride 1)

    Apart from the statistics of a group normalization, a logit sees only its receptive field; with
    n strided convolutions of size k, this is a square with a side of 1 + (k - 1) (2^(n + 1) - 1)
    pixels. Hence it judges texture, and leaves the overall structure to the reconstruction. Losses
    take the mean over the patches.

    Args:
        filters: Number of filters of each strided convolution.
        kernel_size: Side of the kernels, at least 2.
        normalization: `"group"`, `"spectral"` or `"none"`, as for `ConvDiscriminator`.
        activation: Name of a Keras activation, or a function.
        **kwargs: Passed on to `keras.Model`.

    Returns:
        Tensor `[B, H / 2^n, W / 2^n, 1]`, logits for images `[B, H, W, C]`; sides are rounded up.

    Raises:
        ValueError: If an argument, or the shape of x, is not as above.

    Example:
        >>> discriminator = PatchDiscriminator((16, 32))
        >>> discriminator.compute_output_shape((None, 28, 28, 1))
        (None, 7, 7, 1)

    References:
        Isola et al., 2017, section 3.2.2, arXiv:1611.07004.
    """

    def __init__(
        self,
        filters: Sequence[int] = (32, 64),
        kernel_size: int = 4,
        normalization: str = "group",
        activation: str | Callable = "leaky_relu",
        **kwargs: Any,
    ):
        super().__init__(filters, kernel_size, normalization, activation, **kwargs)
        self._set_stages([self._convolution(1, strides=1)])
