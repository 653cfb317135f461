"""Random numbers that are a function of their coordinates, without any state.

A number depends on (seed, epoch, example index, pixel) and on nothing else: not on the batch that
an example is in, the order of the examples, the number of replicas or what was drawn before. It is
an integer hash of these coordinates. Per-example calls of `tf.random.stateless_uniform` would do
the same, but an order of magnitude too slowly to feed a small model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

# What the numbers are used for; no two purposes share their numbers.
SHUFFLE, BINARIZATION, VALIDATION = 1, 2, 3

# The golden ratio as a 32-bit fraction: an odd number that spreads small integers.
_GOLDEN = 0x9E3779B9


def uniform(seed: int, epoch: tf.Tensor, index: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """Draws one uniform number in [0, 1) per pixel, a multiple of 2^-24.

        u = lowbias32(lowbias32(pixel) ^ a) + b,   (a, b) = hash(seed, epoch, index)

    Args:
        seed: Integer in [0, 2^64).
        epoch: Integer, the number of passes before this one.
        index: Tensor [B] of integers, the positions of the examples in the data set.
        shape: Shape of an example.

    Returns:
        Float32 tensor [B, *shape].

    Example:
        >>> both = uniform(seed=0, epoch=0, index=[3, 5], shape=(28, 28, 1))
        >>> one = uniform(seed=0, epoch=0, index=[5], shape=(28, 28, 1))
        >>> bool(tf.reduce_all(both[1] == one[0]))
        True
    """
    a, b = example_words(seed, epoch, index, BINARIZATION)  # [B], [B]
    pixels = _mix(tf.range(int(np.prod(shape)), dtype=tf.int64))  # [P]
    bits = _mix(tf.bitwise.bitwise_xor(a[:, None], pixels)) + b[:, None]  # [B, P]
    # A float32 holds 24 bits exactly, so 1.0 is never reached: a white pixel is always set.
    fraction = tf.cast(_shift(bits, 8), tf.float32) * 2.0**-24
    return tf.reshape(fraction, [-1, *shape])


def order(seed: int, epoch: tf.Tensor, index: tf.Tensor, purpose: int = SHUFFLE) -> tf.Tensor:
    """Returns a permutation: the positions that sort examples by the hash of their index.

    Args:
        seed: Integer in [0, 2^64).
        epoch: Integer, the number of passes before this one.
        index: Tensor [N] of integers, the positions of the examples in the data set.
        purpose: What the permutation is for.

    Returns:
        Tensor [N] of positions in `index`.

    Example:
        >>> sorted(order(seed=0, epoch=0, index=tf.range(4)).numpy().tolist())
        [0, 1, 2, 3]
    """
    a, b = example_words(seed, epoch, index, purpose)
    keys = tf.cast(a, tf.int64) * 2**31 + tf.cast(_shift(b, 1), tf.int64)  # 63 bits
    return tf.argsort(keys, stable=True)


def example_words(
    seed: int, epoch: tf.Tensor, index: tf.Tensor, purpose: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Hashes each example to 64 bits, as two uint32 tensors [B].

    Within an epoch, the first word is a bijection of the index, so no two examples share it.
    """
    a, b = _epoch_words(seed, epoch, purpose)
    inner = _mix(tf.bitwise.bitwise_xor(_word(index), a))
    return _mix(inner + b), _mix(inner * _word(_GOLDEN) + a)


def _epoch_words(seed: int, epoch: tf.Tensor, purpose: int) -> tuple[tf.Tensor, tf.Tensor]:
    a, b = _mix(purpose), _mix(purpose + _GOLDEN)
    for word in (seed & 0xFFFFFFFF, seed >> 32, epoch):
        a = _mix(tf.bitwise.bitwise_xor(a, _word(word)))
        b = _mix(b * _word(_GOLDEN) + _word(word))
    return a, b


def _mix(value: tf.Tensor | int) -> tf.Tensor:
    """Applies a bijection of the 32-bit integers in which every bit depends on every other.

    The constants are those of `lowbias32` in Chris Wellons' hash-prospector (public domain,
    https://nullprogram.com/blog/2018/07/31/), whose measured avalanche bias is 0.17.
    """
    x = _word(value)
    x = tf.bitwise.bitwise_xor(x, _shift(x, 16)) * _word(0x7FEB352D)
    x = tf.bitwise.bitwise_xor(x, _shift(x, 15)) * _word(0x846CA68B)
    return tf.bitwise.bitwise_xor(x, _shift(x, 16))


def _word(value: tf.Tensor | int) -> tf.Tensor:
    """Casts to uint32, keeping the low 32 bits."""
    if isinstance(value, int):
        return tf.constant(value & 0xFFFFFFFF, tf.uint32)
    return tf.cast(value, tf.uint32)


def _shift(x: tf.Tensor, bits: int) -> tf.Tensor:
    return tf.bitwise.right_shift(x, tf.constant(bits, tf.uint32))
