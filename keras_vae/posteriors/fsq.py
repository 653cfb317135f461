"""Quantization by rounding, without a codebook."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.posteriors.base import serializable
from keras_vae.posteriors.codebook import Batch
from keras_vae.posteriors.quantizer import MapQuantizer, Quantized
from keras_vae.posteriors.straight_through import straight_through

# How far the bounded values reach beyond the outer levels; rounding brings them back.
_MARGIN = 1e-3


@serializable
class FSQ(MapQuantizer):
    """Finite scalar quantization: every dimension of a vector is rounded to one of few levels.

    f_i(z) = h_i tanh(z + s_i) - o_i,  q_i = round(f_i(z_i)) / floor(L_i / 2)

    with h_i = (L_i - 1)(1 + 0.001) / 2, but 0.999 for L_i = 2, o_i = 1/2 for an even number of
    levels L_i and 0 for an odd one, and s_i = artanh(o_i / h_i), so that f_i(0) = 0. The code of a
    position is the number of its combination of levels, the first dimension running fastest; there
    are prod_i L_i of them. There is no codebook that could collapse and no commitment loss, and
    gradients pass through the rounding unchanged.

    Args:
        maps: Shape of the map of codes, such as `(8, 8)`.
        levels: Number of levels of each dimension, at least 2.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.Distribution`, a point mass over int32 codes, batch [B], event [N], row by row.

    Raises:
        ValueError: If an argument is not as above, there are more than 2^31 - 1 codes, or the
            features are a map of another size.

    Example:
        >>> head = FSQ(maps=(2,), levels=(3, 2))
        >>> head.num_codes
        (6,)
        >>> head.embed(tf.constant([0, 5])).numpy().tolist()
        [[-1.0, -1.0], [1.0, 0.0]]

    References:
        Mentzer et al., 2023, section 3.1 and appendix A.1, arXiv:2309.15505.
    """

    def __init__(self, maps: Sequence[int], levels: Sequence[int] = (8, 5, 5, 5), **kwargs: Any):
        self.levels = checks.sizes("levels", levels)
        if min(self.levels) < 2 or math.prod(self.levels) >= 2**31:
            raise checks.invalid("levels", "must be >= 2 with a product below 2^31", levels)
        super().__init__(maps, len(self.levels), [math.prod(self.levels)], **kwargs)

    @property
    def _strides(self) -> np.ndarray:
        return np.cumprod([1, *self.levels[:-1]]).astype(np.int32)

    @property
    def _halves(self) -> np.ndarray:
        """The number of levels below zero."""
        return np.asarray(self.levels, np.int32) // 2

    def bound(self, z: tf.Tensor) -> tf.Tensor:
        """Returns f(z) `[..., D]`, whose rounded values are the levels."""
        levels = np.asarray(self.levels, np.float64)
        half = (levels - 1.0) * (1.0 + _MARGIN) / 2.0
        # Otherwise 0 would be near the end of the range of two levels, where tanh has no slope.
        half = np.where(levels == 2.0, 1.0 - _MARGIN, half)
        offset = np.where(levels % 2 == 0, 0.5, 0.0)
        half, offset, shift = map(self.to_density, (half, offset, np.arctanh(offset / half)))
        return half * tf.tanh(z + shift) - offset

    def quantize_features(self, features: tf.Tensor, batch: Batch | None = None) -> Quantized:
        bounded = self.bound(self.project(features))  # [B, P, D]
        digits = tf.cast(tf.round(bounded), tf.int32) + self._halves
        # The margin of many levels is wider than half a level.
        digits = tf.clip_by_value(digits, 0, np.asarray(self.levels, np.int32) - 1)
        codes = tf.reduce_sum(digits * self._strides, axis=-1)  # [B, P]
        halves = self.to_density(self._halves)
        embedded = straight_through(bounded / halves, self._values(codes))
        zeros = tf.zeros(tf.shape(bounded)[:1], bounded.dtype)
        return Quantized(codes, self.as_map(embedded), zeros, zeros, {})

    def _values(self, codes: tf.Tensor) -> tf.Tensor:
        """Returns the values `[..., D]`, between -1 and 1, of codes `[...]`."""
        digits = codes[..., tf.newaxis] // self._strides % np.asarray(self.levels, np.int32)
        return self.to_density(digits - self._halves) / self.to_density(self._halves)

    def embed(self, codes: tf.Tensor) -> tf.Tensor:
        return self.as_map(self._values(codes))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "levels": self.levels}
