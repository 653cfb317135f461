"""Causal layers over maps: their output at a position depends only on earlier positions.

Each layer has a vertical and a horizontal stream. The vertical stream of a row depends on the rows
above it, the horizontal stream also on the codes to the left. A layer computes the streams of whole
maps, or of the next row and the next position, given what it remembers of those before. It is the
same function in both cases; what the layer remembers takes the place of the padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_vae.core.empty_batches import of_any_batch

# What a layer remembers of a stream: tensors, nested or not; None for whole maps.
Memory = Any


def gate(inputs: tf.Tensor) -> tf.Tensor:
    """Returns tanh(a) sigmoid(b) for inputs `[..., 2C]`, which are a and b side by side."""
    a, b = tf.split(inputs, 2, axis=-1)
    return tf.tanh(a) * tf.sigmoid(b)


def _extended(inputs: tf.Tensor, memory: Memory, length: int, axis: int) -> tf.Tensor:
    """Returns the inputs, preceded by the last `length` inputs before them, or by zeros."""
    if memory is None:
        before = [[0, 0] for _ in inputs.shape]
        before[axis][0] = length
        return tf.pad(inputs, before)
    return tf.concat([memory, inputs], axis=axis)


class GatedLayer(keras.layers.Layer):
    """A layer of a gated PixelCNN: a convolution and a gate for each stream.

    v' = v + W_v gate(conv_v(v)),  h' = h + W_h gate(conv_h(h) + W v'),
    gate(a, b) = tanh(a) sigmoid(b)

    The convolution of v covers the rows from `kernel_size // 2` above to the row itself, and that
    of h covers as many columns to the left. The condition is added to both before the gates.

    Args:
        filters: Number C of channels of each stream.
        kernel_size: Side of a square, odd and >= 3; a convolution covers its earlier half.
        **kwargs: Passed on to `keras.layers.Layer`.

    References:
        van den Oord et al., 2016, figure 2 and eq. 4, arXiv:1606.05328.
    """

    def __init__(self, filters: int, kernel_size: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.filters, self.reach = filters, kernel_size // 2
        wide, policy = 2 * filters, self.dtype_policy
        self.rows_conv = keras.layers.Conv2D(wide, (self.reach + 1, kernel_size), dtype=policy)
        self.columns_conv = keras.layers.Conv2D(wide, (1, self.reach + 1), dtype=policy)
        self.link = keras.layers.Dense(wide, use_bias=False, dtype=policy)
        self.rows_out = keras.layers.Dense(self.filters, dtype=policy)
        self.columns_out = keras.layers.Dense(self.filters, dtype=policy)

    def build(self, input_shape: Sequence[int | None], condition_dim: int | None = None) -> None:
        """Creates the weights, given the number of features of the condition, if there is one."""
        for layer in (self.rows_conv, self.columns_conv):
            layer.build((None, None, None, self.filters))
        for layer in (self.rows_out, self.columns_out, self.link):
            layer.build((None, self.filters))
        if condition_dim is not None:
            size, policy = 4 * self.filters, self.dtype_policy
            self.condition = keras.layers.Dense(size, use_bias=False, dtype=policy)
            self.condition.build((None, condition_dim))
        self.built = True

    def shifts(self, condition: tf.Tensor | None, maps: tuple[int, int]) -> tf.Tensor | None:
        """Returns what a condition `[R, h, w, F]` adds to both streams, `[R, H, W, 4C]`."""
        if condition is None:
            return None
        each = self.condition(condition)
        return tf.broadcast_to(each, [tf.shape(each)[0], *maps, 4 * self.filters])

    def remember(self, rows: Any, maps: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the memories of both streams before the first position, for R maps."""
        above = tf.zeros([rows, self.reach, maps[1], self.filters], self.compute_dtype)
        return above, tf.zeros([rows, 1, self.reach, self.filters], self.compute_dtype)

    def no_across(self, rows: Any, width: int) -> tf.Tensor:
        """Returns zeros in the shape of what `vertical` gives the horizontal stream in one row."""
        return tf.zeros([rows, 1, width, 2 * self.filters], self.compute_dtype)

    def begin_row(self, memory: tf.Tensor) -> tf.Tensor:
        """Returns the memory of the horizontal stream at the start of a new row."""
        return tf.zeros_like(memory)

    def vertical(
        self, v: tf.Tensor, memory: Memory = None, shifts: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the next v, the input for the horizontal stream, and the memory.

        Args:
            v: Rows `[R, h, W, C]`.
            memory: The rows before, `[R, reach, W, C]`; None if these are the first.
            shifts: What the condition adds in these rows, `[R, h, W, 4C]`.
        """
        seen = _extended(v, memory, self.reach, axis=1)
        sides = [[0, 0], [0, 0], [self.reach, self.reach], [0, 0]]
        found = of_any_batch(self.rows_conv, tf.pad(seen, sides))  # [R, h, W, 2C]
        for_v, for_h = (0.0, 0.0) if shifts is None else tf.split(shifts, 2, axis=-1)
        v += self.rows_out(gate(found + for_v))
        return v, self.link(v) + for_h, seen[:, -self.reach :]

    def horizontal(
        self, h: tf.Tensor, across: tf.Tensor, memory: Memory = None, position: Any = 0
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the next h and the memory.

        Args:
            h: Positions of one or more rows, `[R, h, w, C]`.
            across: What `vertical` returned for them, `[R, h, w, 2C]`.
            memory: The positions to the left, `[R, h, reach, C]`; None at the start of the rows.
            position: Number of the first position; not used here.
        """
        seen = _extended(h, memory, self.reach, axis=2)
        found = of_any_batch(self.columns_conv, seen) + across
        return h + self.columns_out(gate(found)), seen[:, :, -self.reach :]


class CausalAttention(keras.layers.Layer):
    """Self-attention of the horizontal stream: every position sees itself and all before it.

    h' = h + W concat_i softmax(q_i k_i^T / sqrt(d)) v_i,  over the positions up to that of q

    Because h depends only on earlier codes, so does h'.

    Args:
        filters: Number C of channels.
        num_heads: Number of heads.
        head_dim: Number d of dimensions of the queries, keys and values of a head.
        **kwargs: Passed on to `keras.layers.Layer`.

    References:
        Chen et al., 2018, section 3, arXiv:1712.09763; Vaswani et al., 2017, arXiv:1706.03762.
    """

    def __init__(self, filters: int, num_heads: int, head_dim: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.filters, self.num_heads, self.head_dim = filters, num_heads, head_dim
        policy, width = self.dtype_policy, num_heads * head_dim
        # Keys have no bias, because it would not change the softmax.
        self.queries = keras.layers.Dense(width, dtype=policy)
        self.keys = keras.layers.Dense(width, use_bias=False, dtype=policy)
        self.values = keras.layers.Dense(width, dtype=policy)
        self.out = keras.layers.Dense(self.filters, use_bias=False, dtype=policy)

    def build(self, input_shape: Sequence[int | None], condition_dim: int | None = None) -> None:
        """Creates the weights; the condition is already in the stream."""
        for layer in (self.queries, self.keys, self.values):
            layer.build((None, self.filters))
        self.out.build((None, self.num_heads * self.head_dim))
        self.built = True

    def shifts(self, condition: tf.Tensor | None, maps: tuple[int, int]) -> None:
        """Returns None: the condition adds nothing here."""

    def remember(self, rows: Any, maps: tuple[int, int]) -> tuple[tuple, tuple[tf.Tensor, ...]]:
        """Returns the memories of both streams: none, and the keys and values of all positions."""
        shape = [rows, maps[0] * maps[1], self.num_heads, self.head_dim]
        return (), (tf.zeros(shape, self.compute_dtype), tf.zeros(shape, self.compute_dtype))

    def no_across(self, rows: Any, width: int) -> tuple:
        """Returns what `vertical` gives to the horizontal stream: nothing."""
        return ()

    def begin_row(self, memory: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        """Returns the memory unchanged: other rows are seen as well."""
        return memory

    def vertical(
        self, v: tf.Tensor, memory: Memory = None, shifts: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tuple, tuple]:
        """Returns v unchanged, and nothing else."""
        return v, (), ()

    def horizontal(
        self, h: tf.Tensor, across: tuple, memory: Memory = None, position: Any = 0
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
        """Returns the next h and the memory.

        Args:
            h: All positions `[R, H, W, C]`, or the next one, `[R, 1, 1, C]`.
            across: What `vertical` returned for them: nothing.
            memory: Keys and values of all positions, with 0 for later ones; None for whole maps.
            position: Number of the first position of h.
        """
        queries, *new = (self._heads(layer(h)) for layer in (self.queries, self.keys, self.values))
        if memory is None:
            keys, values = new
        else:
            # Adding is the same as writing, because later positions are 0.
            here = tf.one_hot(position, memory[0].shape[1], dtype=h.dtype)[:, None, None]
            keys, values = (old + here * one for old, one in zip(memory, new, strict=True))
        seen = self._attend(queries, keys, values, position)  # [R, M, heads * d]
        return h + tf.reshape(self.out(seen), tf.shape(h)), (keys, values)

    def _heads(self, values: tf.Tensor) -> tf.Tensor:
        """Returns values `[R, h, w, heads * d]` as `[R, M, heads, d]`."""
        positions = values.shape[1] * values.shape[2]
        return tf.reshape(values, [-1, positions, self.num_heads, self.head_dim])

    def _attend(
        self, queries: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, first: Any
    ) -> tf.Tensor:
        scores = tf.einsum("rmhd,rnhd->rhmn", queries, keys) / self.head_dim**0.5
        number = first + tf.range(queries.shape[1])
        allowed = tf.range(keys.shape[1]) <= number[:, tf.newaxis]  # [M, N]
        weights = tf.nn.softmax(tf.where(allowed, scores, scores.dtype.min))
        seen = tf.einsum("rhmn,rnhd->rmhd", weights, values)
        return tf.reshape(seen, [-1, queries.shape[1], self.num_heads * self.head_dim])
