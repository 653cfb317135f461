"""Writes what a training measures for TensorBoard."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_vae.core import checks


class SummaryWriter:
    """Writes numbers, histograms and images into a folder of TensorBoard's.

    Beside `keras.callbacks.TensorBoard`, whose folder it may share: TensorBoard joins what it finds
    in one folder. Without a folder every method does nothing.

    Args:
        log_dir: The folder, or None. It is made, with all above it.

    Raises:
        ImportError: If there is a folder, but no TensorBoard.
        ValueError: If the folder cannot be written.

    Example:
        >>> import tempfile
        >>> writer = SummaryWriter(tempfile.mkdtemp())
        >>> writer.scalars({"latent/active_units": 3.0}, step=0)
        >>> writer.close()
    """

    def __init__(self, log_dir: str | os.PathLike[str] | None):
        self._writer = None
        if log_dir is None:
            return
        check_log_dir(log_dir)
        try:
            self._writer = tf.summary.create_file_writer(os.fspath(log_dir))
        except tf.errors.OpError as error:
            rule = "must name a folder that can be written"
            raise checks.invalid("log_dir", rule, log_dir) from error

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Writes numbers under their names."""
        for name, value in values.items():
            self._write(tf.summary.scalar, name, value, step)

    def histogram(self, name: str, values: Any, step: int) -> None:
        """Writes the distribution of values of any shape."""
        self._write(tf.summary.histogram, name, values, step)

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """Writes an image `[H, W, C]` of whole numbers 0 .. 255."""
        self._write(tf.summary.image, name, image[np.newaxis], step)

    def flush(self) -> None:
        """Puts on disk what was written."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Puts on disk what was written, and ends the file. Nothing can be written after it."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def _write(self, write: Callable[..., Any], name: str, value: Any, step: int) -> None:
        if self._writer is None:
            return
        # `keras.callbacks.TensorBoard` lets only some steps be recorded while it is in use.
        with self._writer.as_default(), tf.summary.record_if(True):
            write(name, value, step=step)


def check_log_dir(log_dir: Any) -> None:
    """Raises an error unless `log_dir` is None, or a path and TensorBoard is at hand."""
    if log_dir is None:
        return
    if not isinstance(log_dir, (str, os.PathLike)):
        raise checks.invalid("log_dir", "must be the path of a folder, or None", log_dir)
    if importlib.util.find_spec("tensorboard") is None:
        raise ImportError(
            "Argument `log_dir` needs TensorBoard: pip install 'keras_vae[tensorboard]'. "
            f"Received: log_dir={log_dir!r}"
        )
