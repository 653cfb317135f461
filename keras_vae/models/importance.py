"""Importance-weighted estimates of log p(x), in chunks of samples that fit into memory."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import tensorflow as tf

from keras_vae.core.seeds import fold, seed_tensor
from keras_vae.training.data import any_number_of

# How many tensors of the largest size are alive at once in a pass without gradients, measured with
# dense and convolutional decoders.
_ALIVE = 6
_MEBIBYTE = 2**20
# Default, in MiB.
MEMORY = 128.0


class ImportanceEstimate(NamedTuple):
    """What the importance weights of K samples say about each example.

    Attributes:
        log_likelihood: L_K, the estimate of log p(x), `[B]`, nats.
        effective_sample_size: (sum w)^2 / sum w^2, between 1 and K, `[B]`.
    """

    log_likelihood: tf.Tensor
    effective_sample_size: tf.Tensor


def importance_estimate(
    model: Any,
    x: tf.Tensor,
    num_samples: int | tf.Tensor,
    seed: int | tf.Tensor = 0,
    y: Any = None,
    chunk_size: int | None = None,
    memory: float = MEMORY,
) -> ImportanceEstimate:
    """Estimates log p(x) by importance sampling from q(z|x), in memory that does not grow with K.

    L_K = logsumexp_k(log p(x, z_k) - log q(z_k|x)) - log K

    Args:
        model: A `LatentVariableModel`.
        x: Standardized data `[B, *E]`, encoded once.
        num_samples: Number K of samples, a Python integer or an integer scalar.
        seed: Integer >= 0 or stateless seed `[2]`.
        y: Standardized condition, or None.
        chunk_size: Number of samples per example that are decoded at once; None for as many as fit.
        memory: Memory that the samples decoded at once may take, in MiB.

    Returns:
        An `ImportanceEstimate`.

    References:
        Burda et al., 2016, eq. 8, arXiv:1509.00519.
    """
    seed, total = seed_tensor(seed), tf.cast(num_samples, tf.int32)
    log_zero = tf.fill(tf.shape(x)[:1], tf.constant(-math.inf, tf.float64))
    log_weights = model.weighting(x, y)
    chunk = chunk_size or chunk_of(model, x, y, memory)

    def add_chunk(done: tf.Tensor, log_sum: tf.Tensor, log_sum_of_squares: tf.Tensor) -> Any:
        size = tf.minimum(chunk, total - done)
        log_w = log_weights(size, fold(seed, done))  # [size, B]
        log_w = tf.cast(log_w, tf.float64)  # In float32, sums near -1e5 would lose the weights.
        return (
            done + size,
            _log_add(log_sum, tf.reduce_logsumexp(log_w, axis=0)),
            _log_add(log_sum_of_squares, tf.reduce_logsumexp(2.0 * log_w, axis=0)),
        )

    _, log_sum, log_sum_of_squares = tf.while_loop(
        lambda done, *_: done < total, add_chunk, (tf.constant(0), log_zero, log_zero)
    )
    log_likelihood = log_sum - tf.math.log(tf.cast(total, tf.float64))
    effective_sample_size = tf.exp(2.0 * log_sum - log_sum_of_squares)
    return ImportanceEstimate(
        tf.cast(log_likelihood, x.dtype), tf.cast(effective_sample_size, x.dtype)
    )


def _log_add(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    return tf.reduce_logsumexp(tf.stack([a, b]), axis=0)


def chunk_of(model: Any, x: tf.Tensor, y: Any, memory: float) -> tf.Tensor:
    """Returns how many samples per example can be decoded at once in the given memory.

    chunk = memory / (6 B * bytes of one draw), at least 1

    The bytes are those of the largest tensor that a single draw of z creates in the graph, of which
    up to six are assumed to be alive at once.

    Args:
        model: A `LatentVariableModel`.
        x: Standardized data `[B, *E]`.
        y: Standardized condition, or None.
        memory: The memory, in MiB.
    """
    spec = (any_number_of(x), None if y is None else any_number_of(y))
    trace = tf.function(lambda x, y: model.compute_terms(x, 1, False, 0, y).log_w, autograph=False)
    operations = trace.get_concrete_function(*spec).graph.get_operations()
    largest = max(_bytes_each(tensor) for one in operations for tensor in one.outputs)
    examples = int(memory * _MEBIBYTE / (_ALIVE * largest))
    return tf.maximum(examples // tf.maximum(tf.shape(x)[0], 1), 1)


def _bytes_each(tensor: tf.Tensor) -> int:
    """Returns the bytes per example; 0 for weights, which have no unknown dimension."""
    shape = tensor.shape
    if shape.rank is None or None not in shape:
        return 0
    return math.prod(size for size in shape if size is not None) * tensor.dtype.size
