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
    """Writes numbers, histograms and images into a TensorBoard folder.

    It can be used next to `keras.callbacks.TensorBoard`, and may share its folder: TensorBoard
    merges what it finds in one folder. Without a folder, every method does nothing.

    Args:
        log_dir: The folder, or None. It is created if needed, together with its parents.

    Raises:
        ImportError: If a folder is given, but TensorBoard is not installed.
        ValueError: If the folder cannot be written to.

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
        """Writes an image `[H, W, C]` of integers 0 .. 255."""
        self._write(tf.summary.image, name, image[np.newaxis], step)

    def flush(self) -> None:
        """Flushes what was written to disk."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Flushes what was written to disk and closes the file; later writes do nothing."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def _write(self, write: Callable[..., Any], name: str, value: Any, step: int) -> None:
        if self._writer is None:
            return
        # While `keras.callbacks.TensorBoard` is in use, it lets only some steps be recorded.
        with self._writer.as_default(), tf.summary.record_if(True):
            write(name, value, step=step)


def check_log_dir(log_dir: Any) -> None:
    """Raises an error unless `log_dir` is None, or is a path and TensorBoard is installed."""
    if log_dir is None:
        return
    if not isinstance(log_dir, (str, os.PathLike)):
        raise checks.invalid("log_dir", "must be the path of a folder, or None", log_dir)
    if importlib.util.find_spec("tensorboard") is None:
        raise ImportError(
            "Argument `log_dir` needs TensorBoard: pip install 'keras_vae[tensorboard]'. "
            f"Received: log_dir={log_dir!r}"
        )
