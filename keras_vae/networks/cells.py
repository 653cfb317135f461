"""Rows of cells that are copies of one cell."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.empty_batches import of_any_batch
from keras_vae.networks.bottleneck_cell import BottleneckCell


class CellRow(keras.layers.Layer):
    """Cells that are applied one after another to maps `[B, H, W, C]`.

    Args:
        cells: Layers that keep the shape of maps; an empty sequence is the identity.
        recompute: Whether each cell runs again in the backward pass instead of storing its
            intermediate results.
        **kwargs: Passed on to `keras.layers.Layer`.
    """

    def __init__(self, cells: Sequence[keras.layers.Layer], recompute: bool, **kwargs: Any):
        super().__init__(**kwargs)
        self.cells = list(cells)
        self.recompute = recompute

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Builds all cells for maps of this shape, which they keep."""
        shape = tuple(input_shape)
        for cell in self.cells:
            # A call, because the layers inside many layers are built by nothing else.
            output = checks.output_of("cell", cell, shape, "maps")
            if tuple(output.shape) != shape:
                raise checks.invalid("cell", f"must keep the shape of maps, {shape}", output.shape)
        # Each run would change them: the gradient would use other random numbers.
        if self.recompute and any(cell.non_trainable_variables for cell in self.cells):
            rule = "must be False for a cell with random numbers or statistics of its own"
            raise checks.invalid("recompute", rule, True)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the output of the last cell."""
        return of_any_batch(functools.partial(self._run, training=training), inputs)

    def _run(self, maps: tf.Tensor, training: bool) -> tf.Tensor:
        for cell in self.cells:
            run = lambda maps, cell=cell: cell(maps, training=training)  # noqa: E731
            maps = keras.remat(run)(maps) if self.recompute else run(maps)
        return maps


class Pattern:
    """The cell of which a network makes copies. It is not a layer of the network itself.

    Args:
        cell: Any layer that keeps the shape of maps and that Keras can serialize, its
            configuration, or None for a `BottleneckCell`.
    """

    def __init__(self, cell: Any):
        self.cell = keras.saving.deserialize_keras_object(cell) if isinstance(cell, dict) else cell
        if self.cell is not None and not isinstance(self.cell, keras.layers.Layer):
            raise checks.invalid("cell", "must be a Keras layer that keeps the shape of maps", cell)

    def get_config(self) -> Any:
        """Returns the configuration of the cell, or None."""
        return self.cell and keras.saving.serialize_keras_object(self.cell)


class CellFactory:
    """Makes the cells of a network, each with weights of its own.

    Args:
        pattern: The cell that is copied.
        count: Number N of cells in the network. The last kernel of a cell that leaves its scale to
            the network (`last_scale`) starts 1 / sqrt(N) times as large.
        recompute: Whether the rows recompute their cells in the backward pass.
        policy: Dtype policy of the network.
        **options: Arguments of the `BottleneckCell` if no cell is given.
    """

    def __init__(
        self,
        pattern: Pattern,
        count: int,
        recompute: bool,
        policy: Any,
        **options: Any,
    ):
        self._cell = pattern.cell
        self._recompute, self._policy, self._options = recompute, policy, options
        self.last_scale = 1.0 / math.sqrt(max(1, count))

    def make_row(self, count: int) -> CellRow:
        """Returns a row of this many cells."""
        cells = [self._make_cell() for _ in range(count)]
        return CellRow(cells, self._recompute, dtype=self._policy)

    def _make_cell(self) -> keras.layers.Layer:
        """Returns a copy of the cell, or raises; a layer gets the dtype of the network."""
        if self._cell is None:
            options = {**self._options, "dtype": self._policy}
            return BottleneckCell(last_scale=self.last_scale, **options)
        try:
            if isinstance(self._cell, keras.Model):
                return keras.models.clone_model(self._cell)
            config = {**self._cell.get_config(), "dtype": self._policy}
            config.pop("name", None)
            if config.get("last_scale", 0.0) is None:
                config["last_scale"] = self.last_scale
            return type(self._cell).from_config(config)
        except Exception as error:
            rule = "must be a layer that can be copied by `get_config` and `from_config`"
            told = checks.invalid("cell", rule, self._cell)
            raise ValueError(f"{told}, which fails with: {error}") from error
