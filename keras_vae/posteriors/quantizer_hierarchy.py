"""Quantizers of several maps, each conditioned on the coarser ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.empty_batches import of_any_batch
from keras_vae.core.seeds import fold
from keras_vae.distributions.codes import CodeGroups
from keras_vae.posteriors.base import serializable
from keras_vae.posteriors.codebook import Batch
from keras_vae.posteriors.quantizer import (
    MapQuantizer,
    Quantized,
    Quantizer,
    of_prefix,
    prefixed,
)


@serializable
class QuantizerHierarchy(Quantizer):
    """A coarse map of codes and a fine map that is chosen given the coarse one.

    top = quantize(down(h)),  bottom = quantize(merge(h, repeat(e_top)))

    The features h are a map of the same size as the bottom. `down` halves them by convolutions
    until they have the size of the top; `merge` is a convolution of h and the vectors of the top,
    which are repeated until they have the size of the bottom. The decoder gets these vectors and
    those of the bottom side by side, `[B, *bottom.maps, D_top + D_bottom]`. If the top is a
    hierarchy itself, there are three maps, and so on. The codes in z are ordered from the coarsest
    map to the finest.

    Args:
        top: Quantizer of the coarse map, or a hierarchy.
        bottom: Quantizer of the fine map, whose sides are those of the top doubled once or more.
        filters: Number of filters of the convolutions.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.Distribution`, a point mass over int32 codes, batch [B], event [N_top + N_bottom].

    Raises:
        ValueError: If an argument is not as above, or the features are not a map of that size.

    Example:
        >>> from keras_vae.posteriors import VectorQuantizer
        >>> head = QuantizerHierarchy(
        ...     top=VectorQuantizer((2, 2), 16, 3), bottom=VectorQuantizer((4, 4), 8, 3), filters=8)
        >>> head.latents
        {'z1': (2, 2), 'z2': (4, 4)}
        >>> head(tf.zeros([5, 4, 4, 6])).event_shape
        TensorShape([20])

    References:
        Razavi et al., 2019, section 3.1 and algorithm 1, arXiv:1906.00446.
    """

    def __init__(self, top: Quantizer, bottom: MapQuantizer, *, filters: int = 128, **kwargs: Any):
        for name, one, kind in (("top", top, Quantizer), ("bottom", bottom, MapQuantizer)):
            if not isinstance(one, kind):
                raise checks.invalid(name, f"must be a quantizer ({kind.__name__})", one)
        maps = (*top.groups.maps, *bottom.groups.maps)
        layout = CodeGroups(maps, (*top.groups.num_codes, *bottom.groups.num_codes))
        super().__init__(layout, **kwargs)
        self.top, self.bottom = top, bottom
        self.filters = checks.size("filters", filters)
        coarse, fine = top.decoder_input_shape[:-1], bottom.maps
        convolution = {"filters": self.filters, "padding": "same", "activation": "relu"}
        self.down = [
            keras.layers.Conv2D(
                kernel_size=4, strides=2, dtype=self.dtype_policy, name=f"down{i}", **convolution
            )
            for i in range(_halvings(fine, coarse))
        ]
        self.merge = keras.layers.Conv2D(
            kernel_size=3, dtype=self.dtype_policy, name="merge", **convolution
        )

    @property
    def decoder_input_shape(self) -> tuple[int, ...]:
        """Shape of what the decoder gets: the map of the bottom with the vectors of both."""
        dims = self.top.decoder_input_shape[-1] + self.bottom.code_dim
        return (*self.bottom.maps, dims)

    @property
    def codebooks(self) -> list[Any]:
        """All codebooks, starting from the top."""
        owners = (self.top, self.bottom)
        return [book for owner in owners for book in owner.codebooks]

    def build(self, features_shape: Sequence[int | None]) -> None:
        """Builds convolutions and quantizers for features of this shape, `[B, H, W, C]`."""
        shape = tuple(features_shape)
        if len(shape) != 4 or shape[1:-1] != self.bottom.maps:
            rule = f"must have the map of the features, which have the shape {shape[1:]}"
            raise checks.invalid("bottom", rule, self.bottom.maps)
        merged = (*shape[:-1], int(shape[-1] or 0) + self.top.decoder_input_shape[-1])
        for convolution in self.down:
            convolution.build(shape)
            shape = convolution.compute_output_shape(shape)
        self.merge.build(merged)
        shapes = (shape, self.merge.compute_output_shape(merged))
        for quantizer, its_shape in zip((self.top, self.bottom), shapes, strict=True):
            if not quantizer.built:  # those from a configuration already are
                quantizer.build(its_shape)
        self.built = True

    def _reduce(self, features: tf.Tensor) -> tf.Tensor:
        for convolution in self.down:
            features = of_any_batch(convolution, features)
        return features

    def _merge(self, features: tf.Tensor, embedded: tf.Tensor) -> tf.Tensor:
        repeated = tf.cast(self._repeat(embedded), features.dtype)
        return of_any_batch(self.merge, tf.concat([features, repeated], axis=-1))

    def _repeat(self, embedded: tf.Tensor) -> tf.Tensor:
        """Returns a map `[..., h, w, D]` at the size of the bottom, with each vector repeated."""
        for axis, (coarse, fine) in enumerate(
            zip(self.top.decoder_input_shape, self.bottom.maps, strict=False)
        ):
            factor = -(-fine // coarse)
            rows = [min(i // factor, coarse - 1) for i in range(fine)]
            embedded = tf.gather(embedded, rows, axis=axis - 3)
        return embedded

    def quantize_features(self, features: tf.Tensor, batch: Batch | None = None) -> Quantized:
        batches = [batch and batch._replace(seed=fold(batch.seed, level)) for level in range(2)]
        top = self.top.quantize_features(self._reduce(features), batches[0])
        bottom = self.bottom.quantize_features(self._merge(features, top.embedded), batches[1])
        return Quantized(
            codes=tf.concat([top.codes, bottom.codes], axis=-1),
            embedded=self._join(top.embedded, bottom.embedded),
            commitment=top.commitment + bottom.commitment,
            penalty=top.penalty + bottom.penalty,
            statistics=prefixed("top", top.statistics) | prefixed("bottom", bottom.statistics),
        )

    def _join(self, top: tf.Tensor, bottom: tf.Tensor) -> tf.Tensor:
        return tf.concat([self._repeat(top), bottom], axis=-1)

    def embed(self, codes: tf.Tensor) -> tf.Tensor:
        top, bottom = tf.split(codes, [self.top.latent_dim, self.bottom.latent_dim], axis=-1)
        return self._join(self.top.embed(top), self.bottom.embed(bottom))

    def state_updates(self, sums: Mapping[str, tf.Tensor]) -> Iterator[tuple[Any, tf.Tensor]]:
        yield from self.top.state_updates(of_prefix("top", sums))
        yield from self.bottom.state_updates(of_prefix("bottom", sums))

    @property
    def sizes_of_codebooks(self) -> list[tuple[int, int]]:
        return [*self.top.sizes_of_codebooks, *self.bottom.sizes_of_codebooks]

    def initialize(self, features: tf.Tensor, seed: int) -> None:
        reduced = self._reduce(features)
        if self.top.codebooks:
            self.top.initialize(reduced, seed)
        if self.bottom.codebooks:
            embedded = self.top.quantize_features(reduced).embedded
            self.bottom.initialize(self._merge(features, embedded), seed)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        parts = {"top": self.top, "bottom": self.bottom}
        serialized = {k: keras.saving.serialize_keras_object(v) for k, v in parts.items()}
        return {**super().get_config(), **serialized, "filters": self.filters}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> QuantizerHierarchy:
        """Returns the hierarchy of a configuration."""
        parts = {name: config[name] for name in ("top", "bottom")}
        revived = {k: keras.saving.deserialize_keras_object(v) for k, v in parts.items()}
        return cls(**{**config, **revived})


def _halvings(fine: tuple[int, ...], coarse: tuple[int, ...]) -> int:
    """Returns how often a map must be halved, rounding odd sides up, to become the coarse one."""
    size, count = fine, 0
    while size != coarse and max(size) > 1:
        size, count = tuple(-(-side // 2) for side in size), count + 1
    if size != coarse or not count or len(fine) != 2:
        raise checks.invalid("bottom", f"must be the map {coarse} of the top, doubled", fine)
    return count
