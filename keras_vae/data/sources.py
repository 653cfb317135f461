"""Sources of examples: an array in memory, or a stream that is too large for one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_vae.data import randomness

# Streams are shuffled within windows of about this many bytes.
SHUFFLE_WINDOW_BYTES = 128 * 2**20


@dataclasses.dataclass(frozen=True)
class Order:
    """Which examples a pass contains, in which order, and in batches of which size."""

    kept: np.ndarray  # [N], ascending positions in the source.
    seed: int
    shuffle: bool
    batch_size: int
    drop_remainder: bool

    @property
    def num_batches(self) -> int:
        """The number of batches in a pass."""
        num_examples, size = len(self.kept), self.batch_size
        return num_examples // size if self.drop_remainder else -(-num_examples // size)


@dataclasses.dataclass(frozen=True, eq=False)
class InMemory:
    """Examples held as one array.

    Args:
        images: Tensor [N, H, W, C].
        white: Number, the value of a pixel of intensity one.
        labels: Tensors [N] of integers, by name.
    """

    images: tf.Tensor
    white: float
    labels: Mapping[str, np.ndarray]

    @property
    def num_examples(self) -> int:
        """The number of examples, N."""
        return self.images.shape[0]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of an image, (H, W, C)."""
        return tuple(self.images.shape[1:])

    @property
    def image_dtype(self) -> str:
        """The dtype in which the images are kept."""
        return self.images.dtype.name

    def batches(self, epoch: tf.Tensor, order: Order, labels: tuple[str, ...]) -> tf.data.Dataset:
        """Returns a data set of `(index [B], images [B, H, W, C], labels [B, L])`."""
        kept, size = tf.constant(order.kept, tf.int64), order.batch_size
        if order.shuffle:
            kept = tf.gather(kept, randomness.order(order.seed, epoch, kept))
        columns = _columns(self.labels, labels, self.num_examples)

        def gather(batch: tf.Tensor) -> tuple[tf.Tensor, ...]:
            index = kept[batch * size : (batch + 1) * size]
            index = tf.ensure_shape(index, [size if order.drop_remainder else None])
            return index, tf.gather(self.images, index), tf.gather(columns, index)

        return tf.data.Dataset.range(order.num_batches).map(
            gather, num_parallel_calls=tf.data.AUTOTUNE
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Streamed:
    """Examples that are read again in each pass, in the same order, and shuffled within windows.

    Args:
        stream: Function that returns a data set of `{"image": ..., label name: ...}`.
        num_examples: Integer.
        image_shape: (H, W, C).
        image_dtype: String.
        white: Number, the value of a pixel of intensity one.
        label_names: Names of the integer features that come with an image.
    """

    stream: Callable[[], tf.data.Dataset]
    num_examples: int
    image_shape: tuple[int, ...]
    image_dtype: str
    white: float
    label_names: tuple[str, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels."""
        return self.label_names

    def batches(self, epoch: tf.Tensor, order: Order, labels: tuple[str, ...]) -> tf.data.Dataset:
        """Returns a data set of `(index [B], images [B, H, W, C], labels [B, L])`."""
        mask = np.zeros([self.num_examples], bool)
        mask[order.kept] = True

        def is_kept(index: tf.Tensor, _: Any) -> tf.Tensor:
            return tf.gather(tf.constant(mask), index)

        def pick(index: tf.Tensor, example: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
            picked = [tf.cast(example[name], tf.int32) for name in labels]
            return index, example["image"], tf.stack(picked) if picked else tf.zeros([0], tf.int32)

        def mix(index: tf.Tensor, *columns: tf.Tensor) -> tuple[tf.Tensor, ...]:
            positions = randomness.order(order.seed, epoch, index)
            return tuple(tf.gather(column, positions) for column in (index, *columns))

        examples = self.stream().enumerate()
        if not mask.all():
            examples = examples.filter(is_kept)
        examples = examples.map(pick, num_parallel_calls=tf.data.AUTOTUNE)
        if order.shuffle:
            # Avoid `Dataset.shuffle`, whose order also depends on the global seed of TensorFlow.
            examples = examples.batch(self._window()).map(mix)
            return examples.rebatch(order.batch_size, drop_remainder=order.drop_remainder)
        return examples.batch(order.batch_size, drop_remainder=order.drop_remainder)

    def _window(self) -> int:
        example_bytes = int(np.prod(self.image_shape)) * tf.as_dtype(self.image_dtype).size
        return max(1, min(self.num_examples, SHUFFLE_WINDOW_BYTES // example_bytes))


Source = InMemory | Streamed


def on_cpu(array: np.ndarray) -> tf.Tensor:
    """Returns a tensor in host memory, where tf.data reads it."""
    with tf.device("CPU:0"):
        return tf.constant(array)


def white_level(dtype: np.dtype, largest: float) -> float:
    """Returns the value of a pixel of intensity one, given the `largest` value seen.

    Integer images are stored with values 0 and 1 if they are binary (`binarized_mnist`,
    `dsprites`), and with 0..255 otherwise, and the metadata of TFDS do not tell the two apart. The
    values do: grey images in which no pixel exceeds 1/255 would be black.
    """
    dtype = np.dtype(dtype)
    if dtype.kind in "iu" and largest > 1:
        return float(np.iinfo(dtype).max)
    return 1.0


def _columns(
    by_name: Mapping[str, np.ndarray], names: tuple[str, ...], num_examples: int
) -> np.ndarray:
    columns = [np.asarray(by_name[name], np.int32) for name in names]
    return np.stack(columns, axis=1) if columns else np.zeros([num_examples, 0], np.int32)
