"""Features as a map of vectors, each of which becomes a code."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.posteriors.base import Posterior


class VectorMap(Posterior):
    """A posterior that is computed from a map of vectors, linear in the features.

    Features that are a map of this size, `[B, *maps, C]`, are projected position by position, and
    all others as a whole. The decoder also gets a map of such vectors.

    Attributes:
        maps: Shape of the map.
        code_dim: Number D of dimensions of the vectors.
    """

    maps: tuple[int, ...]
    code_dim: int

    @property
    def decoder_input_shape(self) -> tuple[int, ...]:
        """Shape of what the decoder gets: `(*maps, D)`."""
        return (*self.maps, self.code_dim)

    @property
    def decoder_input_dim(self) -> int:
        """Number of dimensions of what the decoder gets."""
        return math.prod(self.decoder_input_shape)

    def build_projection(self, features_shape: Sequence[int | None]) -> None:
        """Builds the projection of features of this shape, `[B, ...]`.

        Raises:
            ValueError: If the features are a map of another size.
        """
        shape = tuple(features_shape)
        is_map = shape[1:-1] == self.maps
        if not is_map and len(shape) == len(self.maps) + 2:
            rule = f"must be that of the features, which is {shape[1:-1]}"
            raise checks.invalid("maps", rule, self.maps)
        units = self.code_dim if is_map else math.prod(self.decoder_input_shape)
        self.projection = keras.layers.Dense(units, dtype=self.dtype_policy, name="projection")
        self.projection.build(shape if is_map else self.flat_shape(shape))
        self._is_map = is_map

    def project(self, features: tf.Tensor) -> tf.Tensor:
        """Returns the vectors z `[B, P, D]` of features `[B, ...]`, with P positions in the map."""
        z = self.projection(features if self._is_map else self.flatten(features))
        return self.to_density(tf.reshape(z, [-1, math.prod(self.maps), self.code_dim]))

    def as_map(self, vectors: tf.Tensor) -> tf.Tensor:
        """Returns vectors `[..., P, D]` in the shape of the map, `[..., *maps, D]`."""
        shape = tf.concat([tf.shape(vectors)[:-2], self.decoder_input_shape], axis=0)
        as_map = tf.reshape(vectors, shape)
        as_map.set_shape([*vectors.shape[:-2], *self.decoder_input_shape])
        return as_map
