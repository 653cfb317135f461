"""The residual cell of the hierarchical networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.head import serializable


@serializable
class BottleneckCell(keras.layers.Layer):
    """A pre-activation residual cell: a convolution between two projections, and a shortcut.

    y = x + W3 f(conv(f(W1 f(x) + b1))) + b3

    The convolution sees a fraction of the channels; for maps of one pixel, it is a matrix. There is
    no normalization, because batch statistics would couple the examples of a batch. Instead, W3
    starts small, so that many cells in a row start near the identity.

    Args:
        bottleneck: Channels of the convolution, as a fraction of those of x.
        kernel_size: Side of its kernel.
        activation: f, the name of a Keras activation or a function.
        squeeze_excite: Whether what is added to x is multiplied by gates for its channels, which
            are computed from its mean over the pixels.
        last_scale: Factor of W3 at the start; with 0, the cell starts as the identity. By default
            it is 1, or 1 / sqrt(N) in a network of N cells.
        kernel_regularizer: A Keras regularizer, such as `SpectralRegularizer`.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        Tensor of the input's shape, `[B, H, W, C]`.

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> x = tf.random.stateless_normal([2, 7, 7, 8], seed=[0, 1])
        >>> bool(tf.reduce_all(BottleneckCell(last_scale=0.0)(x) == x))
        True

    References:
        He et al., 2016, arXiv:1603.05027; Child, 2021, section 3, arXiv:2011.10650 (the scale of
        the last kernel); Hu et al., 2018, arXiv:1709.01507 (squeeze and excite).
    """

    def __init__(
        self,
        bottleneck: float = 0.5,
        kernel_size: int = 3,
        activation: str | Callable = "elu",
        squeeze_excite: bool = False,
        last_scale: float | None = None,
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.bottleneck = checks.number("bottleneck", bottleneck, 0.0, exclusive=True)
        self.kernel_size = checks.integer("kernel_size", kernel_size)
        self.activation = checks.activation("activation", activation)
        self.squeeze_excite = checks.flag("squeeze_excite", squeeze_excite)
        if last_scale is not None:
            last_scale = checks.number("last_scale", last_scale, minimum=0.0)
        self.last_scale = last_scale
        self.kernel_regularizer = checks.regularizer("kernel_regularizer", kernel_regularizer)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Creates the layers for maps `[B, H, W, C]`."""
        height, width, channels = (int(size or 0) for size in input_shape[1:])
        inner = max(1, round(self.bottleneck * channels))
        scale = 1.0 if self.last_scale is None else self.last_scale
        self.first = self._dense(inner, self.activation)
        self.middle = self._convolution(inner, is_pixel=height == width == 1)
        self.last = self._dense(channels, kernel_initializer=scaled_initializer(scale))
        self.first.build((None, height, width, channels))
        self.middle.build((None, height, width, inner))
        self.last.build((None, height, width, inner))
        if self.squeeze_excite:
            self.squeeze = self._dense(max(1, channels // 4), self.activation)
            self.excite = self._dense(channels, "sigmoid")
            self.squeeze.build((None, channels))
            self.excite.build((None, self.squeeze.units))

    def _dense(self, units: int, activation: Any = None, **options: Any) -> keras.layers.Dense:
        options = {"kernel_regularizer": self.kernel_regularizer, **options}
        return keras.layers.Dense(units, activation, dtype=self.dtype_policy, **options)

    def _convolution(self, channels: int, is_pixel: bool) -> keras.layers.Layer:
        if is_pixel or self.kernel_size == 1:
            return self._dense(channels, self.activation)
        return keras.layers.Conv2D(
            channels,
            self.kernel_size,
            padding="same",
            activation=self.activation,
            kernel_regularizer=self.kernel_regularizer,
            dtype=self.dtype_policy,
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the input plus the output of the layers."""
        added = self.last(self.middle(self.first(self.activation(inputs))))
        if self.squeeze_excite:
            gates = self.excite(self.squeeze(tf.reduce_mean(added, axis=[1, 2])))
            added *= gates[:, tf.newaxis, tf.newaxis]
        return inputs + added

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Returns the shape of the input."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "bottleneck": self.bottleneck,
            "kernel_size": self.kernel_size,
            "activation": keras.activations.serialize(self.activation),
            "squeeze_excite": self.squeeze_excite,
            "last_scale": self.last_scale,
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }


def scaled_initializer(scale: float) -> keras.initializers.Initializer:
    """Returns Glorot's initializer for kernels that are multiplied by a factor >= 0."""
    if scale == 0.0:
        return keras.initializers.Zeros()
    return keras.initializers.VarianceScaling(scale**2, "fan_avg", "uniform")
