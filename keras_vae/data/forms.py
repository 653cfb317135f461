"""Transforms stored images: to a smaller size, to grey, or with dark and light exchanged."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from keras_vae.core import checks

# Weights of red, green and blue in grey, from ITU-R BT.601.
_LUMA = (0.299, 0.587, 0.114)


@dataclasses.dataclass(frozen=True)
class Form:
    """How stored images are transformed, once, before they are scaled and binarized.

    Attributes:
        image_shape: (H, W, C), or None for the stored shape.
        invert: Whether dark and light are exchanged.
    """

    image_shape: tuple[int, ...] | None = None
    invert: bool = False

    @property
    def is_as_stored(self) -> bool:
        """Whether nothing changes."""
        return self.image_shape is None and not self.invert

    def shape_of(self, stored: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the new shape of images of shape `stored`, or raises if they cannot have it."""
        if self.image_shape is None:
            return stored
        *size, channels = self.image_shape
        larger = any(wanted > has for wanted, has in zip(size, stored[:2], strict=True))
        if larger or channels != stored[-1] and (channels, stored[-1]) != (1, len(_LUMA)):
            rule = f"must be no larger than the stored {stored}, with its channels or 1 for grey"
            raise checks.invalid("image_shape", rule, self.image_shape)
        return self.image_shape

    def level(self, dtype: Any, white: float) -> float:
        """Returns the new value of a pixel of intensity one, for which `white` is stored."""
        dtype = np.dtype(dtype)
        # In binary images, means over areas lie between zero and one.
        return white if white > 1.0 or dtype.kind == "f" else float(np.iinfo(dtype).max)

    def apply(self, images: Any, white: float) -> tf.Tensor:
        """Returns images `[..., H, W, C]` of the stored dtype, rounded if it is an integer dtype.

        Args:
            images: `[..., H, W, C]`, as stored.
            white: The stored value of a pixel of intensity one.
        """
        images = tf.convert_to_tensor(images)
        dtype, level = images.dtype, self.level(images.dtype.as_numpy_dtype, white)
        x = tf.cast(images, tf.float32) * (level / white)
        if self.image_shape is not None:
            *size, channels = self.image_shape
            if channels == 1 and x.shape[-1] == len(_LUMA):
                x = tf.reduce_sum(x * _LUMA, axis=-1, keepdims=True)
            if tuple(x.shape[-3:-1]) != tuple(size):
                x = tf.image.resize(x, size, method="area")
        x = level - x if self.invert else x
        return tf.cast(tf.round(x) if dtype.is_integer else x, dtype)


AS_STORED = Form()
