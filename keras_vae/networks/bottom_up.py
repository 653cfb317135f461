"""The deterministic pass from an image to maps of several sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.networks.cells import CellFactory, Pattern
from keras_vae.networks.scales import Reduce, Shape, by_scale, check_divides


@serializable
class BottomUp(keras.Model):
    """Maps of an image at several scales, each computed from the next larger maps.

    h_0 = x,  h_l = cells(W patches(h_{l-1}) + b)

    A scale is the side of the maps. Patches take the image to the first scale, and maps from one
    scale to the next; residual cells follow at each scale. Hence no convolution runs at the full
    size:

        BottomUp({14: 32, 7: 64, 1: 128})               # 28x28x1
        BottomUp({16: 48, 8: 96, 1: 128})               # 32x32x3
        BottomUp({32: 32, 16: 64, 8: 96, 1: 128})       # 64x64x3

    Args:
        channels: Number of channels of the maps by scale. Every scale divides the next larger one,
            and the largest divides the side of the image. Scale 1 holds vectors. By default, the
            image is halved as long as its side is even and the maps keep a side of at least 4, with
            32 more channels at each scale; these are followed by vectors of 128 channels.
        blocks: Number of residual cells at each scale.
        cell: A layer that keeps the shape of maps `[B, H, W, C]`; every cell is a copy of it. By
            default a `BottleneckCell`.
        activation: Activation of the default cells: the name of a Keras activation, or a function.
        recompute: Whether cells are run again in the backward pass, which takes a third more time
            and much less memory (`keras.remat`).
        kernel_regularizer: A Keras regularizer, such as `SpectralRegularizer`, for all kernels
            except those of a given `cell`.
        **kwargs: Passed on to `keras.Model`.

    Returns:
        List of tensors `[B, H, W, C]`, the largest maps first, for images `[B, side, side, C]`.

    Raises:
        ValueError: If an argument is not as above, or the image is not a square with a side that
            the scales divide.

    Example:
        >>> maps = BottomUp({14: 8, 7: 16, 1: 32})(tf.zeros([2, 28, 28, 1]))
        >>> [tuple(one.shape) for one in maps]
        [(2, 14, 14, 8), (2, 7, 7, 16), (2, 1, 1, 32)]

    References:
        Vahdat and Kautz, 2020, section 3, arXiv:2007.03898; Child, 2021, arXiv:2011.10650.
    """

    def __init__(
        self,
        channels: Mapping[int, int] | None = None,
        blocks: int = 2,
        cell: keras.layers.Layer | None = None,
        activation: str | Callable = "elu",
        recompute: bool = False,
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.channels = None if channels is None else checked_channels(channels)
        self.blocks = checks.integer("blocks", blocks, minimum=0)
        self.pattern = Pattern(cell)
        self.activation = checks.activation("activation", activation)
        self.recompute = checks.flag("recompute", recompute)
        self.kernel_regularizer = checks.regularizer("kernel_regularizer", kernel_regularizer)

    def build(self, input_shape: Shape) -> None:
        """Creates the layers for images `[B, side, side, C]`."""
        shape = tuple(input_shape)
        if len(shape) != 4 or None in shape[1:] or shape[1] != shape[2]:
            rule = "must be [batch, side, side, channels], all known but the batch"
            raise checks.invalid("input_shape", rule, shape)
        side = int(shape[1] or 0)
        channels = default_channels(side) if self.channels is None else self.channels
        scales = sorted(channels, reverse=True)
        regularizer, policy = self.kernel_regularizer, self.dtype_policy
        options = {"activation": self.activation, "kernel_regularizer": regularizer}
        count = len(scales) * self.blocks
        factory = CellFactory(self.pattern, count, self.recompute, policy, **options)
        self.reductions, self.rows = [], []
        for scale in scales:
            check_divides("channels", scale, side, "the side of the larger maps")
            reduce = Reduce(side // scale, channels[scale], regularizer, dtype=policy)
            reduce.build(shape)
            side, shape = scale, (None, scale, scale, channels[scale])
            row = factory.make_row(self.blocks)
            row.build(shape)
            self.reductions.append(reduce)
            self.rows.append(row)

    def call(self, inputs: tf.Tensor, training: bool = False) -> list[tf.Tensor]:
        """Returns the maps of each scale, the largest first."""
        maps = []
        for reduce, row in zip(self.reductions, self.rows, strict=True):
            inputs = row(reduce(inputs), training=training)
            maps.append(inputs)
        return maps

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> list[tuple]:
        """Returns the shapes of the maps for images of this shape."""
        channels = self.channels or default_channels(int(input_shape[1] or 0))
        scales = sorted(channels, reverse=True)
        return [(input_shape[0], scale, scale, channels[scale]) for scale in scales]

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        channels = self.channels
        return {
            **super().get_config(),
            "channels": channels and {str(scale): count for scale, count in channels.items()},
            "blocks": self.blocks,
            "cell": self.pattern.get_config(),
            "activation": keras.activations.serialize(self.activation),
            "recompute": self.recompute,
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }


def checked_channels(channels: Mapping[int, int]) -> dict[int, int]:
    """Returns the numbers of channels by scale; raises if they are invalid."""
    rule = "must map sides of maps to numbers of channels, such as {14: 32, 7: 64, 1: 128}"
    found = by_scale("channels", channels, rule)
    return {scale: checks.integer("channels", count) for scale, count in found.items()}


def default_channels(side: int) -> dict[int, int]:
    """Returns the default channels at each scale for an image of this side.

    Example:
        >>> default_channels(28)
        {14: 32, 7: 64, 1: 128}
    """
    channels: dict[int, int] = {}
    while side % 2 == 0 and side >= 8:
        side //= 2
        channels[side] = 32 * (len(channels) + 1)
    return {**channels, 1: 128}
