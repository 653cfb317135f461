"""Vector quantization by several codebooks, one after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.seeds import fold
from keras_vae.posteriors.base import serializable
from keras_vae.posteriors.codebook import Batch, Codebook, k_means
from keras_vae.posteriors.quantizer import (
    MapQuantizer,
    Quantized,
    of_prefix,
    prefixed,
    squared_distances,
)
from keras_vae.posteriors.straight_through import GRADIENTS


@serializable
class ResidualQuantizer(MapQuantizer):
    """Replaces each vector of a map by a sum of vectors, each the nearest to what is left.

    r_1 = z,  k_l = argmin_j |r_l - e_lj|^2,  r_{l+1} = r_l - stop_gradient(e_{l, k_l})

    The decoder gets the sum of all e_{l, k_l}. L codebooks of K vectors give K^L sums at the price
    of L searches. The codes are L groups of maps, starting with the coarsest. The commitment is the
    sum over all levels.

    Args:
        maps: Shape of the map of codes, such as `(8, 8)`.
        num_quantizers: Number L of codebooks.
        codebook_size: Number K of codes of each.
        code_dim: Number D of dimensions of their vectors.
        learning: `"ema"` or `"gradient"`, as for `VectorQuantizer`.
        decay: Decay of the moving averages, in [0, 1).
        restart_below: Fraction of the mean usage below which a code restarts; 0 for never.
        gradient: `"straight_through"` or `"rotation"`.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.Distribution`, a point mass over int32 codes, batch [B], event [L P].

    Raises:
        ValueError: If an argument is not as above, or the features are a map of another size.

    Example:
        >>> head = ResidualQuantizer(maps=(4, 4), num_quantizers=2, codebook_size=16, code_dim=3)
        >>> head.latents
        {'z1': (4, 4), 'z2': (4, 4)}
        >>> head(tf.zeros([2, 4, 4, 8])).event_shape
        TensorShape([32])

    References:
        Zeghidour et al., 2021, section III.C, arXiv:2107.03312; Lee et al., 2022, section 3.1,
        arXiv:2203.01941.
    """

    def __init__(
        self,
        maps: Sequence[int],
        num_quantizers: int = 4,
        codebook_size: int = 512,
        code_dim: int = 64,
        *,
        learning: str = "ema",
        decay: float = 0.99,
        restart_below: float = 0.05,
        gradient: str = "straight_through",
        **kwargs: Any,
    ):
        self.num_quantizers = checks.integer("num_quantizers", num_quantizers)
        size = checks.size("codebook_size", codebook_size, minimum=2)
        super().__init__(maps, code_dim, [size] * self.num_quantizers, **kwargs)
        self.gradient = checks.option("gradient", gradient, GRADIENTS)
        self.stages = [
            Codebook(
                size, code_dim, learning, "euclidean", decay, restart_below, dtype=self.dtype_policy
            )
            for _ in range(self.num_quantizers)
        ]

    @property
    def codebooks(self) -> list[Codebook]:
        return list(self.stages)

    def build_codebooks(self) -> None:
        for codebook in self.codebooks:
            codebook.build()

    def quantize_features(self, features: tf.Tensor, batch: Batch | None = None) -> Quantized:
        z = self.project(features)  # [B, P, D]
        residual, all_codes = z, []
        statistics: dict[str, tf.Tensor] = {}
        commitment = penalty = tf.zeros(tf.shape(z)[:1], z.dtype)
        for level, codebook in enumerate(self.codebooks):
            rows = tf.reshape(residual, [-1, self.code_dim])
            codes = codebook.assign(rows)  # [B P]
            all_codes.append(tf.reshape(codes, tf.shape(z)[:2]))
            embedded = codebook.lookup(all_codes[-1])  # [B, P, D]
            fixed = tf.stop_gradient(embedded)
            commitment += squared_distances(residual, fixed)
            if codebook.learning == "gradient":
                penalty += squared_distances(tf.stop_gradient(residual), embedded)
            own = batch and batch._replace(seed=fold(batch.seed, level))
            statistics |= prefixed(str(level), codebook.measure(rows, codes, own))
            residual -= fixed
        codes = tf.reshape(tf.stack(all_codes, axis=1), [-1, self.latent_dim])  # [B, L P]
        fixed = tf.stop_gradient(self._sum(tf.stack(all_codes, axis=1)))
        embedded = self.as_map(GRADIENTS[self.gradient](z, fixed))
        return Quantized(codes, embedded, commitment, penalty, statistics)

    def _sum(self, codes: tf.Tensor) -> tf.Tensor:
        """Returns the sum of the vectors `[..., P, D]` of codes `[..., L, P]`."""
        levels = enumerate(self.codebooks)
        return sum(codebook.lookup(codes[..., level, :]) for level, codebook in levels)

    def embed(self, codes: tf.Tensor) -> tf.Tensor:
        levels = tf.stack(self.groups.split(codes), axis=-2)  # [..., L, P]
        return self.as_map(self._sum(levels))

    def state_updates(self, sums: Mapping[str, tf.Tensor]) -> Iterator[tuple[Any, tf.Tensor]]:
        for level, codebook in enumerate(self.codebooks):
            yield from codebook.updates(of_prefix(str(level), sums))

    def initialize(self, features: tf.Tensor, seed: int) -> None:
        residual = tf.reshape(self.project(features), [-1, self.code_dim])
        for codebook in self.codebooks:
            codebook.set_vectors(k_means(residual.numpy(), codebook.codebook_size, seed))
            residual -= codebook.lookup(codebook.assign(residual))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        arguments = self.codebooks[0].arguments
        del arguments["distance"]
        own = {"num_quantizers": self.num_quantizers, "gradient": self.gradient}
        return {**super().get_config(), **arguments, **own}
