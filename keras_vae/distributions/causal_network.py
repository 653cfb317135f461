"""A network of causal layers from codes to the logits of each code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_vae.core.seeds import fold
from keras_vae.distributions.causal import CausalAttention, GatedLayer

Layers = Sequence[GatedLayer | CausalAttention]


class Progress(NamedTuple):
    """The state while R maps of codes are being drawn.

    Attributes:
        codes: The codes so far, `[W + H W, R]`; codes above the map and later codes are -1.
        rows: What each layer remembers of its vertical stream.
        columns: What each layer remembers of its horizontal stream.
        across: What each vertical stream has given to the horizontal one in the current row.
    """

    codes: tf.Tensor
    rows: list[Any]
    columns: list[Any]
    across: list[Any]


def embed(codes: tf.Tensor, embeddings: Any) -> tf.Tensor:
    """Returns the embeddings `[..., C]` of codes `[...]`; zeros for -1, which is not a code.

    Args:
        codes: Whole numbers >= -1; those beyond the last code get its embedding.
        embeddings: One row for each code, `[K, C]`.

    Example:
        >>> embed(tf.constant([1, -1]), tf.constant([[1.0], [2.0]])).numpy()
        array([[2.],
               [0.]], dtype=float32)
    """
    table = tf.pad(tf.convert_to_tensor(embeddings), [[1, 0], [0, 0]])
    return tf.gather(table, tf.clip_by_value(codes + 1, 0, embeddings.shape[0]))


class CausalNetwork(keras.layers.Layer):
    """Logits of every code given the codes before it, row by row.

    l_n = f(z_1, ..., z_{n-1}; condition)

    The streams start with the embeddings of the row above and of the code before, which may be the
    last one of the row above; a learned embedding of the position is added to each. The logits
    start close to zero.

    Args:
        maps: Height H and width W of a map.
        num_codes: Number K of codes.
        filters: Number of channels of both streams.
        layers: The layers between the embedding and the logits.
        **kwargs: Passed on to `keras.layers.Layer`.

    Example:
        >>> network = CausalNetwork((2, 3), 5, 8, [GatedLayer(8, 3)])
        >>> network.build()
        >>> network(tf.zeros([4, 6], tf.int32)).shape
        TensorShape([4, 6, 5])
    """

    def __init__(
        self, maps: tuple[int, int], num_codes: int, filters: int, layers: Layers, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.maps, self.num_codes, self.filters = maps, num_codes, filters
        self.layers = list(layers)
        self.hidden = keras.layers.Dense(filters, "relu", dtype=self.dtype_policy)
        # A small kernel: every code has nearly the same probability before training.
        small = keras.initializers.VarianceScaling(1e-4)
        self.out = keras.layers.Dense(num_codes, kernel_initializer=small, dtype=self.dtype_policy)
        self._draw_in_a_graph = tf.function(self._draw, autograph=False)

    def build(
        self, input_shape: Sequence[int | None] | None = None, condition_dim: int | None = None
    ) -> None:
        """Creates the weights, given the number of features of the condition, if there is one."""
        normal = keras.initializers.RandomNormal(stddev=0.5)

        def add(name: str, *shape: int) -> keras.Variable:
            return self.add_weight(shape=shape, initializer=normal, name=name)

        self.embeddings = add("embeddings", self.num_codes, self.filters)
        self.row_places = add("row_places", *self.maps, self.filters)
        self.column_places = add("column_places", *self.maps, self.filters)
        for layer in self.layers:
            layer.build((None, *self.maps, self.filters), condition_dim)
        for layer in (self.hidden, self.out):
            layer.build((None, self.filters))
        self.built = True

    def _embedded(self, codes: tf.Tensor) -> tf.Tensor:
        return embed(codes, self.embeddings)

    def _logits(self, h: tf.Tensor) -> tf.Tensor:
        return self.out(self.hidden(tf.nn.relu(h)))

    def shifts(self, condition: tf.Tensor | None) -> list[tf.Tensor | None]:
        """Returns what a condition `[R, h, w, F]` adds to each layer; h and w may be 1."""
        return [layer.shifts(condition, self.maps) for layer in self.layers]

    # All positions at once.

    def call(self, codes: tf.Tensor, condition: tf.Tensor | None = None) -> tf.Tensor:
        """Returns the logits `[R, H W, K]` of codes `[R, H W]`."""
        embedded, width = self._embedded(codes), self.maps[1]  # [R, H W, C]
        v = self._shifted(embedded, width) + self.row_places
        h = self._shifted(embedded, 1) + self.column_places
        for layer, shifts in zip(self.layers, self.shifts(condition), strict=True):
            v, across, _ = layer.vertical(v, shifts=shifts)
            h, _ = layer.horizontal(h, across)
        return tf.reshape(self._logits(h), [-1, self.maps[0] * self.maps[1], self.num_codes])

    def _shifted(self, embedded: tf.Tensor, positions: int) -> tf.Tensor:
        """Returns maps `[R, H, W, C]` of what came this many positions earlier, or of zeros."""
        before = tf.pad(embedded[:, :-positions], [[0, 0], [positions, 0], [0, 0]])
        return tf.reshape(before, [-1, *self.maps, self.filters])

    # One position after another.

    def draw(
        self,
        rows: int | tf.Tensor,
        condition: tf.Tensor | None,
        temperature: float | tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Draws maps of codes.

        Args:
            rows: Number R of maps.
            condition: Features `[R, h, w, F]`, with h and w those of the map or 1; or None.
            temperature: The logits are divided by it; >= 0.
            seed: Stateless seed `[2]`.

        Returns:
            Tensor `[R, H W]` of int32.
        """
        # Outside of a graph, tracing one takes less time than running many small operations.
        draw = self._draw_in_a_graph if tf.executing_eagerly() else self._draw
        temperature = tf.cast(temperature, self.compute_dtype)
        return draw(tf.convert_to_tensor(rows), condition, temperature, seed)

    def _draw(
        self, rows: tf.Tensor, condition: Any, temperature: tf.Tensor, seed: tf.Tensor
    ) -> tf.Tensor:
        shifts, size = self.shifts(condition), self.maps[0] * self.maps[1]

        def body(position: tf.Tensor, progress: Progress) -> tuple[tf.Tensor, Progress]:
            def choose(logits: tf.Tensor) -> tf.Tensor:
                return choose_codes(logits, temperature, fold(seed, position))

            return position + 1, self.advance(progress, position, shifts, choose)

        start = (tf.constant(0), self.begin(rows))
        _, progress = tf.while_loop(lambda n, _: n < size, body, start, maximum_iterations=size)
        return tf.transpose(progress.codes[self.maps[1] :])

    def begin(self, rows: int | tf.Tensor) -> Progress:
        """Returns the progress before the first position of R maps."""
        height, width = self.maps
        memories = [layer.remember(rows, self.maps) for layer in self.layers]
        above, left = (list(memory) for memory in zip(*memories, strict=True))
        across = [layer.no_across(rows, width) for layer in self.layers]
        return Progress(tf.fill([width + height * width, rows], -1), above, left, across)

    def advance(
        self,
        progress: Progress,
        position: tf.Tensor,
        shifts: Sequence[tf.Tensor | None],
        choose: Callable[[tf.Tensor], tf.Tensor],
    ) -> Progress:
        """Chooses the code of the next position.

        Args:
            progress: What has been chosen before.
            position: Number of the position.
            shifts: Output of the method `shifts`.
            choose: Function from the logits `[R, K]` to the code of each map, int32 `[R]`.
        """
        width = self.maps[1]
        row, column = position // width, position % width
        progress = tf.cond(
            column > 0, lambda: progress, lambda: self._begin_row(progress, row, shifts)
        )
        logits, columns = self._step(progress, position)
        chosen = choose(logits)[tf.newaxis]
        codes = tf.tensor_scatter_nd_update(progress.codes, [[width + position]], chosen)
        return progress._replace(codes=codes, columns=columns)

    def _begin_row(
        self, progress: Progress, row: tf.Tensor, shifts: Sequence[tf.Tensor | None]
    ) -> Progress:
        """Runs the vertical streams of a row, which depend only on the rows above."""
        width = self.maps[1]
        above = tf.gather(progress.codes, row * width + tf.range(width))  # [W, R]
        v = self._embedded(tf.transpose(above))[:, tf.newaxis]
        v += tf.gather(self.row_places, row)
        rows, across = [], []
        for layer, memory, shift in zip(self.layers, progress.rows, shifts, strict=True):
            here = None if shift is None else tf.gather(shift, [row], axis=1)
            v, given, memory = layer.vertical(v, memory, here)
            rows.append(memory)
            across.append(given)
        columns = [
            layer.begin_row(memory)
            for layer, memory in zip(self.layers, progress.columns, strict=True)
        ]
        return Progress(progress.codes, rows, columns, across)

    def _step(self, progress: Progress, position: tf.Tensor) -> tuple[tf.Tensor, list[Any]]:
        """Returns the logits `[R, K]` of a position and the memories of the horizontal streams."""
        width = self.maps[1]
        row, column = position // width, position % width
        before = self._embedded(tf.gather(progress.codes, width + position - 1))  # [R, C]
        h = before[:, tf.newaxis, tf.newaxis] + tf.gather_nd(self.column_places, [row, column])
        columns = []
        given = zip(self.layers, progress.across, progress.columns, strict=True)
        for layer, across, memory in given:
            here = tf.nest.map_structure(lambda a: tf.gather(a, [column], axis=2), across)
            h, memory = layer.horizontal(h, here, memory, position)
            columns.append(memory)
        return self._logits(h)[:, 0, 0], columns


def choose_codes(logits: tf.Tensor, temperature: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draws a code for each row of logits.

    argmax_k (l_k + T g_k),  g_k ~ Gumbel(0, 1)

    Args:
        logits: Tensor `[R, K]`.
        temperature: T >= 0, a scalar; the probabilities are softmax(l / T).
        seed: Stateless seed `[2]`.

    Returns:
        Tensor `[R]` of int32.

    Example:
        >>> choose_codes(tf.constant([[0.0, 1.0]]), tf.constant(0.0), tf.constant([0, 1])).numpy()
        array([1], dtype=int32)
    """
    low = np.finfo(logits.dtype.as_numpy_dtype).tiny
    shape = tf.shape(logits)
    uniform = tf.random.stateless_uniform(shape, seed, low, 1.0, logits.dtype, alg="philox")
    noise = -tf.math.log(-tf.math.log(uniform))
    return tf.argmax(logits + temperature * noise, axis=-1, output_type=tf.int32)
