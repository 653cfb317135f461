"""Maps of several sizes: how networks handle them and go from one size to another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_vae.core import checks

Shape = Sequence[int | None]


def on_maps(function: Callable[[tf.Tensor], tf.Tensor], maps: tf.Tensor) -> tf.Tensor:
    """Applies a function of maps `[N, H, W, C]` to maps `[..., H, W, C]`.

    Example:
        >>> on_maps(keras.layers.Conv2D(5, 3), tf.zeros([2, 3, 7, 7, 4])).shape
        TensorShape([2, 3, 5, 5, 5])
    """
    if maps.shape.rank == 4:
        return function(maps)
    size = maps.shape[-3:]
    result = function(tf.reshape(maps, [-1, *size]))
    made = tf.reshape(result, tf.concat([tf.shape(maps)[:-3], result.shape[1:]], axis=0))
    made.set_shape([*maps.shape[:-3], *result.shape[1:]])
    return made


def as_vectors(maps: tf.Tensor) -> tf.Tensor:
    """Returns maps `[..., H, W, C]` as vectors `[..., H W C]`."""
    size = maps.shape[-3:].num_elements()
    vectors = tf.reshape(maps, tf.concat([tf.shape(maps)[:-3], [size]], axis=0))
    vectors.set_shape([*maps.shape[:-3], size])
    return vectors


def as_maps(vectors: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """Returns vectors `[..., H W C]` as maps `[..., H, W, C]`."""
    maps = tf.reshape(vectors, tf.concat([tf.shape(vectors)[:-1], shape], axis=0))
    maps.set_shape([*vectors.shape[:-1], *shape])
    return maps


def by_scale(argument: str, values: Mapping[Any, Any], rule: str) -> dict[int, Any]:
    """Returns a mapping with sides of maps as int keys, which may be given as text, or raises."""
    if not isinstance(values, Mapping) or not values:
        raise checks.invalid(argument, rule, values)
    if not all(str(scale).isdecimal() and int(scale) > 0 for scale in values):
        raise checks.invalid(argument, rule, dict(values))
    found = {int(scale): value for scale, value in values.items()}
    if len(found) < len(values):
        raise checks.invalid(argument, f"{rule}, each scale once", dict(values))
    return found


def check_divides(argument: str, scale: int, side: int, what: str) -> None:
    """Raises a `ValueError` unless maps with one side can become maps with the other."""
    if side % scale:
        raise checks.invalid(argument, f"must have scales that divide {what}, {side}", scale)


class Reduce(keras.layers.Layer):
    """Makes maps with a fraction of the input's side, turning each patch into a vector.

    y = W patches(x) + b, the patches being `factor` x `factor`

    Args:
        factor: Side of the patches, which divides the side of the input.
        channels: Number of channels of the output.
        kernel_regularizer: A Keras regularizer, or None.
        **kwargs: Passed on to `keras.layers.Layer`.

    Example:
        >>> Reduce(7, 16)(tf.zeros([2, 7, 7, 4])).shape
        TensorShape([2, 1, 1, 16])
    """

    def __init__(self, factor: int, channels: int, kernel_regularizer: Any = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.factor = factor
        self.projection = keras.layers.Dense(
            channels, kernel_regularizer=kernel_regularizer, dtype=self.dtype_policy
        )

    def build(self, input_shape: Shape) -> None:
        """Builds the projection."""
        self.projection.build((None, int(input_shape[-1] or 0) * self.factor**2))

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the smaller maps."""
        if self.factor > 1:
            inputs = tf.nn.space_to_depth(inputs, self.factor)
        return self.projection(inputs)


class Enlarge(keras.layers.Layer):
    """Makes maps with a multiple of the input's side, turning each vector into a patch.

    patches(y) = W x + b, the patches being `factor` x `factor`

    There is no convolution at the larger size, where it would be most expensive.

    Args:
        factor: Side of the patches.
        channels: Number of channels of the output.
        kernel_regularizer: A Keras regularizer, or None.
        use_bias: Whether there is a b.
        **kwargs: Passed on to `keras.layers.Layer`.

    Example:
        >>> Enlarge(7, 4)(tf.zeros([2, 1, 1, 16])).shape
        TensorShape([2, 7, 7, 4])
    """

    def __init__(
        self,
        factor: int,
        channels: int,
        kernel_regularizer: Any = None,
        use_bias: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.factor = factor
        self.projection = keras.layers.Dense(
            channels * factor**2,
            use_bias=use_bias,
            kernel_regularizer=kernel_regularizer,
            dtype=self.dtype_policy,
        )

    def build(self, input_shape: Shape) -> None:
        """Builds the projection."""
        self.projection.build((None, input_shape[-1]))

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the larger maps."""
        outputs = self.projection(inputs)
        return tf.nn.depth_to_space(outputs, self.factor) if self.factor > 1 else outputs
