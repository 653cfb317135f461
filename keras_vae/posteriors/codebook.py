"""A codebook: its vectors, how the nearest one is found, and how they move."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.head import Head

# Pseudo-count of each code when its mean is computed.
_EPSILON = 1e-5
# Lower bound of the squared length of vectors that are divided by their length.
_TINY = 1e-12
LEARNING = ("ema", "gradient")
DISTANCES = ("euclidean", "cosine")


def vectors_of_length_one(code_dim: int) -> keras.initializers.Initializer:
    """Returns an initializer for vectors of D dimensions with lengths of about 1."""
    limit = math.sqrt(3.0 / code_dim)
    return keras.initializers.RandomUniform(-limit, limit)


def scores(z: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
    """Returns |e_j|^2 - 2 z e_j, `[..., K]`, for z `[..., D]` and vectors e `[K, D]`.

    It is the squared distance without |z|^2, which is the same for all codes.
    """
    squares = tf.reduce_sum(tf.square(vectors), axis=-1)
    return squares - 2.0 * tf.matmul(z, vectors, transpose_b=True)


def _mean_of_local_batch(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(values, axis=0)


class Batch(NamedTuple):
    """The place of a batch among the batches of all replicas.

    Attributes:
        seed: A stateless seed `[2]`, the same on all replicas.
        replica: Number of this replica, from 0.
        replicas: Number of replicas.
        mean: Function from values `[B, ...]` to their mean over the examples of all replicas.
        moves_codebooks: Whether the batch is one of training, which the codebooks follow.
    """

    seed: Any
    replica: Any = 0
    replicas: int = 1
    mean: Callable[[tf.Tensor], tf.Tensor] = _mean_of_local_batch
    moves_codebooks: bool = True


class Codebook(Head):
    """K vectors of D dimensions that follow the vectors they quantize.

    k = argmin_j |e_j|^2 - 2 z e_j

    With `learning="ema"`, the vectors are moving averages of what was assigned to them, over the
    batches of all replicas; they are updated after a batch has been quantized. With n_k the number
    of vectors assigned to code k and s_k their sum,

    N <- decay N + (1 - decay) n,  m <- decay m + (1 - decay) s,
    e = m / N',  N' = (N + eps) / (sum N + K eps) sum N

    starting from N = 1 and m = e. With `"gradient"`, the vectors are weights that the optimizer
    updates, and only N is kept. In both cases, a code whose N is less than `restart_below` times
    the mean of all N restarts at a vector z of the batch, with the mean N.

    Args:
        codebook_size: Number K of codes.
        code_dim: Number D of dimensions.
        learning: `"ema"` or `"gradient"`.
        distance: `"euclidean"`, or `"cosine"` for vectors of length one.
        decay: Decay of the moving averages, in [0, 1).
        restart_below: Fraction of the mean usage below which a code restarts; 0 for never.
        **kwargs: Passed on to `keras.layers.Layer`.

    Attributes:
        embeddings: The vectors e, `[K, D]`.
        usage: N, `[K]`.
        totals: m, `[K, D]`; None unless `learning="ema"`.
    """

    def __init__(
        self,
        codebook_size: int,
        code_dim: int,
        learning: str = "ema",
        distance: str = "euclidean",
        decay: float = 0.99,
        restart_below: float = 0.05,
        **kwargs: Any,
    ):
        super().__init__(autocast=False, **kwargs)
        self.codebook_size = checks.size("codebook_size", codebook_size, minimum=2)
        self.code_dim = checks.size("code_dim", code_dim)
        self.learning = checks.option("learning", learning, LEARNING)
        self.distance = checks.option("distance", distance, DISTANCES)
        self.decay = checks.number("decay", decay, 0.0, 1.0)
        if self.decay == 1.0:
            raise checks.invalid("decay", "must be < 1", decay)
        self.restart_below = checks.number("restart_below", restart_below, 0.0, 1.0)
        self.totals: Any = None

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the constructor, for the configuration of the codebook's owner."""
        names = ("codebook_size", "code_dim", "learning", "distance", "decay", "restart_below")
        return {name: getattr(self, name) for name in names}

    def build(self, input_shape: Any = None) -> None:
        """Creates the vectors and the averages."""
        shape = (self.codebook_size, self.code_dim)
        start = vectors_of_length_one(self.code_dim)
        learned = self.learning == "gradient"
        self.embeddings = self._add("embeddings", shape, start, trainable=learned)
        self.usage = self._add("usage", shape[:1], "ones")
        if not learned:
            self.embeddings.assign(self.normalize(tf.convert_to_tensor(self.embeddings)))
            self.totals = self._add("totals", shape, "zeros")
            self.totals.assign(self.embeddings)
        self.built = True

    def _add(
        self, name: str, shape: tuple[int, ...], initializer: Any, trainable: bool = False
    ) -> keras.Variable:
        return self.add_weight(
            shape=shape,
            initializer=initializer,
            dtype=self.density_dtype,
            trainable=trainable,
            autocast=False,
            # Every replica assigns the same value.
            aggregation="only_first_replica",
            name=name,
        )

    def normalize(self, vectors: tf.Tensor) -> tf.Tensor:
        """Returns vectors `[..., D]` as they are compared: with length one for cosine distance."""
        if self.distance == "euclidean":
            return vectors
        squares = tf.reduce_sum(tf.square(vectors), axis=-1, keepdims=True)
        return vectors * tf.math.rsqrt(tf.maximum(squares, _TINY))

    @property
    def vectors(self) -> tf.Tensor:
        """The vectors that codes stand for, `[K, D]`."""
        vectors = tf.convert_to_tensor(self.embeddings)
        return self.normalize(vectors) if self.learning == "gradient" else vectors

    def lookup(self, codes: tf.Tensor) -> tf.Tensor:
        """Returns the vectors `[..., D]` of codes `[...]`."""
        return _gather(self.vectors, codes)

    def scores(self, z: tf.Tensor) -> tf.Tensor:
        """Returns the scores `[R, K]` of all vectors for z `[R, D]`; the nearest has the lowest."""
        return scores(z, self.vectors)

    def assign(self, z: tf.Tensor) -> tf.Tensor:
        """Returns the codes of the vectors nearest to z `[R, D]`: int32 `[R]`."""
        return tf.argmin(tf.stop_gradient(self.scores(z)), axis=-1, output_type=tf.int32)

    # What moves the codebook.

    def measure(self, z: tf.Tensor, codes: tf.Tensor, batch: Batch | None) -> dict[str, tf.Tensor]:
        """Returns the sums over z `[R, D]` and codes `[R]` of a batch that `updates` needs.

        There are none outside of training, and for a batch that does not move codebooks.
        """
        if batch is None or not batch.moves_codebooks:
            return {}
        z, size = tf.stop_gradient(z), self.codebook_size
        ones = tf.ones(tf.shape(codes), z.dtype)
        found = {"counts": tf.math.unsorted_segment_sum(ones, codes, size)}
        if self.learning == "ema":
            found["sums"] = tf.math.unsorted_segment_sum(z, codes, size)
        if self.restart_below > 0.0:
            found |= self._draw_candidates(z, batch)
        return found

    def _draw_candidates(self, z: tf.Tensor, batch: Batch) -> dict[str, tf.Tensor]:
        """Returns the vectors at which codes would restart, drawn from the rows z of all replicas.

        For each code, a replica and one of its rows are drawn. All other replicas hold zeros in its
        place, so that the sum over the replicas is the candidate. If the batches are of equal size,
        these are the rows that a single device would draw from the whole batch.
        """
        draws = tf.random.stateless_uniform(
            [self.codebook_size], batch.seed, 0, 2**31 - 1, tf.int32, alg="philox"
        )
        # Integers keep this exact: the draw is a fraction of 2^31.
        scaled, rows = tf.cast(draws, tf.int64) * batch.replicas, tf.shape(z)[0]
        row = tf.bitwise.right_shift(
            (scaled % 2**31) * tf.cast(rows, tf.int64), tf.constant(31, tf.int64)
        )
        mine = tf.equal(scaled // 2**31, tf.cast(batch.replica, tf.int64)) & (rows > 0)
        # One extra row, for a replica without data.
        padded = tf.concat([z, tf.zeros([1, self.code_dim], z.dtype)], axis=0)
        candidates = tf.gather(padded, tf.cast(row, tf.int32))
        drawn = tf.cast(mine, z.dtype)
        return {"drawn": drawn, "candidates": candidates * drawn[:, tf.newaxis]}

    def updates(self, sums: Mapping[str, tf.Tensor]) -> Iterator[tuple[Any, tf.Tensor]]:
        """Yields pairs of a variable and its next value, given the sums over all replicas.

        A codebook that is not trainable stays as it is.
        """
        if not self.trainable:
            return
        usage = self._average(self.usage, sums["counts"])
        embeddings, totals = tf.convert_to_tensor(self.embeddings), None
        if self.totals is not None:
            totals = self._average(self.totals, sums["sums"])
            embeddings = self.normalize(totals / _smoothed(usage)[:, tf.newaxis])
        if self.restart_below > 0.0:
            mean = tf.reduce_mean(usage)
            dead = (usage < self.restart_below * mean) & (sums["drawn"] > 0.0)  # [K]
            usage = tf.where(dead, mean, usage)
            dead = dead[:, tf.newaxis]
            embeddings = tf.where(dead, sums["candidates"], embeddings)
            if totals is not None:
                totals = tf.where(dead, mean * sums["candidates"], totals)
        yield self.usage, usage
        yield self.embeddings, embeddings
        if totals is not None:
            yield self.totals, totals

    def _average(self, average: Any, values: tf.Tensor) -> tf.Tensor:
        return self.decay * average + (1.0 - self.decay) * values

    def set_vectors(self, vectors: np.ndarray) -> None:
        """Sets the vectors, `[K, D]`, and restarts the averages."""
        self.embeddings.assign(self.normalize(self.to_density(vectors)))
        self.usage.assign(tf.ones_like(self.usage))
        if self.totals is not None:
            self.totals.assign(self.embeddings)


@tf.custom_gradient
def _gather(vectors: tf.Tensor, codes: tf.Tensor) -> Any:
    """Returns the rows `[..., D]` of vectors `[K, D]`, with a dense gradient for optimizers."""

    def backward(upstream: tf.Tensor) -> tuple[tf.Tensor, None]:
        rows, size = tf.reshape(upstream, [-1, upstream.shape[-1]]), vectors.shape[0]
        return tf.math.unsorted_segment_sum(rows, tf.reshape(codes, [-1]), size), None

    return tf.gather(vectors, codes), backward


def _smoothed(usage: tf.Tensor) -> tf.Tensor:
    """Returns N', whose entries are positive and have the same sum as N."""
    total, size = tf.reduce_sum(usage), tf.cast(tf.shape(usage)[0], usage.dtype)
    return (usage + _EPSILON) / (total + size * _EPSILON) * total


def k_means(vectors: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Returns the centers of `size` clusters of vectors `[R, D]`: array `[size, D]`.

    References:
        Sculley, 2010, "Web-scale k-means clustering".
    """
    from sklearn.cluster import MiniBatchKMeans

    rows = np.asarray(vectors, np.float64)
    _warn_of_equal(rows, size)
    clusters = MiniBatchKMeans(size, batch_size=4096, n_init=1, random_state=seed)
    return clusters.fit(rows).cluster_centers_


def _warn_of_equal(rows: np.ndarray, size: int) -> None:
    """Warns if there are fewer distinct vectors, up to rounding, than codes."""
    largest = max(float(np.abs(rows).max()), _TINY)
    different = len(np.unique(np.round(rows / largest, 5), axis=0))
    if different < size:
        text = (
            f"The number of different vectors, {different}, is less than that of codes, {size}: "
            "several codes begin at the same vector, and all but one of them go unused. Are the "
            "examples all alike, or does the encoder not tell them apart?"
        )
        warnings.warn(text, RuntimeWarning, stacklevel=2)
