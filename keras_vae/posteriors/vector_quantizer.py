"""Vector quantization by one codebook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from keras_vae.core import checks
from keras_vae.posteriors.base import serializable
from keras_vae.posteriors.codebook import Batch, Codebook, k_means
from keras_vae.posteriors.quantizer import MapQuantizer, Quantized, squared_distances
from keras_vae.posteriors.straight_through import GRADIENTS


@serializable
class VectorQuantizer(MapQuantizer):
    """Replaces each vector of a map by the nearest one of a codebook.

    z_p = W h_p + b,  k_p = argmin_j |z_p - e_j|^2,  q(k|x) = 1 for these codes

    The features h are projected to `code_dim` dimensions, position by position if they are a map of
    this size. The decoder gets the vectors e_k themselves, as a map `[B, *maps, code_dim]`.

    The codebook follows the vectors assigned to it, either by moving averages (`learning="ema"`) or
    by the gradient of sum_p |stop_gradient(z_p) - e_k|^2 (`"gradient"`). Codes that are hardly used
    restart at vectors of the batch (`restart_below`). `model.initialize_codebook(data)` sets the
    codebook by k-means, best after a first epoch. All of this is computed in float32 or higher
    precision. Every example of a step that is actually made counts equally, whatever its weight.
    While gradients are accumulated over several batches, the moving averages advance with each
    batch.

    Args:
        maps: Shape of the map of codes, such as `(8, 8)`.
        codebook_size: Number K of codes.
        code_dim: Number D of dimensions of their vectors; a small number, such as 8, works well
            with cosine distances and large codebooks.
        learning: `"ema"` or `"gradient"`.
        distance: `"euclidean"`, or `"cosine"`, for which vectors have length one.
        decay: Decay of the moving averages, in [0, 1).
        restart_below: Fraction of the mean usage below which a code restarts; 0 for never.
        gradient: How gradients pass back through the quantizer: `"straight_through"` leaves them
            unchanged, `"rotation"` rotates them back from e_k to z, keeping their angle to it.
        entropy_weight: Weight w >= 0 of the penalty w (mean_p H(p(k|z_p)) - H(mean p(k|z_p))) with
            p(k|z) = softmax(-|z - e_k|^2), the last mean being over the batch. The penalty favors
            confident choices and an even use of all codes.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.Distribution`, a point mass over int32 codes, batch [B], event [N], row by row.

    Raises:
        ValueError: If an argument is not as above, or the features are a map of another size.

    Example:
        >>> head = VectorQuantizer(maps=(4, 4), codebook_size=16, code_dim=3)
        >>> q = head(tf.zeros([2, 4, 4, 8]))
        >>> q.sample().shape, head.embed(q.sample()).shape
        (TensorShape([2, 16]), TensorShape([2, 4, 4, 3]))

    References:
        van den Oord et al., 2017, eq. 1 to 3 and appendix A.1 (moving averages), arXiv:1711.00937;
        Dhariwal et al., 2020, section 3.1 (restarts), arXiv:2005.00341; Yu et al., 2022, section
        3.2 (low-dimensional, cosine), arXiv:2110.04627; Yu et al., 2024, eq. 4 (entropy),
        arXiv:2310.05737; Fifty et al., 2024 (rotation), arXiv:2410.06424.
    """

    def __init__(
        self,
        maps: Sequence[int],
        codebook_size: int = 512,
        code_dim: int = 64,
        *,
        learning: str = "ema",
        distance: str = "euclidean",
        decay: float = 0.99,
        restart_below: float = 0.05,
        gradient: str = "straight_through",
        entropy_weight: float = 0.0,
        **kwargs: Any,
    ):
        size = checks.size("codebook_size", codebook_size, minimum=2)
        super().__init__(maps, code_dim, [size], **kwargs)
        self.gradient = checks.option("gradient", gradient, GRADIENTS)
        self.entropy_weight = checks.number("entropy_weight", entropy_weight, 0.0)
        self.codebook = Codebook(
            size, code_dim, learning, distance, decay, restart_below, dtype=self.dtype_policy
        )

    def build_codebooks(self) -> None:
        self.codebook.build()

    @property
    def codebooks(self) -> list[Codebook]:
        """The codebook in a list, as for other quantizers."""
        return [self.codebook]

    def quantize_features(self, features: tf.Tensor, batch: Batch | None = None) -> Quantized:
        z = self.codebook.normalize(self.project(features))  # [B, P, D]
        rows = tf.reshape(z, [-1, self.code_dim])
        codes = self.codebook.assign(rows)  # [B P]
        embedded = self.codebook.lookup(tf.reshape(codes, tf.shape(z)[:2]))  # [B, P, D]
        penalty = tf.zeros(tf.shape(z)[:1], z.dtype)
        if self.codebook.learning == "gradient":
            penalty += squared_distances(tf.stop_gradient(z), embedded)
        if self.entropy_weight:
            penalty += self.entropy_weight * self._entropy(z, batch)
        fixed = tf.stop_gradient(embedded)
        return Quantized(
            codes=tf.reshape(codes, [-1, self.latent_dim]),
            embedded=self.as_map(GRADIENTS[self.gradient](z, fixed)),
            commitment=squared_distances(z, fixed),
            penalty=penalty,
            statistics=self.codebook.measure(rows, codes, batch),
        )

    def _entropy(self, z: tf.Tensor, batch: Batch | None) -> tf.Tensor:
        """Returns the mean entropy of choices minus that of their mean over the batch: `[B]`."""
        mean = Batch(seed=None).mean if batch is None else batch.mean
        rows = tf.reshape(z, [-1, self.code_dim])
        log_p = tf.nn.log_softmax(-self.codebook.scores(rows))
        log_p = tf.reshape(log_p, [-1, self.latent_dim, self.codebook.codebook_size])  # [B, P, K]
        p = tf.exp(log_p)
        each = -tf.reduce_mean(tf.reduce_sum(p * log_p, axis=-1), axis=-1)  # [B]
        marginal = mean(tf.reduce_mean(p, axis=1))  # [K]
        return each + tf.reduce_sum(tf.math.xlogy(marginal, marginal))

    def embed(self, codes: tf.Tensor) -> tf.Tensor:
        return self.as_map(self.codebook.lookup(codes))

    def state_updates(self, sums: Mapping[str, tf.Tensor]) -> Iterable[tuple[Any, tf.Tensor]]:
        return self.codebook.updates(sums)

    def initialize(self, features: tf.Tensor, seed: int) -> None:
        z = self.codebook.normalize(self.project(features))
        rows = tf.reshape(z, [-1, self.code_dim]).numpy()
        self.codebook.set_vectors(k_means(rows, self.codebook.codebook_size, seed))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        own = {"gradient": self.gradient, "entropy_weight": self.entropy_weight}
        return {**super().get_config(), **self.codebook.arguments, **own}
