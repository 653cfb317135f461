"""Files of a model: written whole or not at all, and by one process of several."""

from __future__ import annotations

import functools
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_vae.core import checks, workers

_ONE_FILE = (".keras", ".weights.h5")
_UNREADABLE = (".h5", ".hdf5")


class UnsavedMean(keras.metrics.Mean):
    """A mean that is no part of files.

    It begins anew with every epoch; and to read it takes all workers, of which the chief writes.
    """

    def save_own_variables(self, store: Any) -> None:
        pass

    def load_own_variables(self, store: Any) -> None:
        pass


class SavedByChief(keras.Model):
    """A Keras model whose files are never half of one.

    Args:
        **kwargs: Passed on to `keras.Model`.
    """

    # Inherited from `keras.Model`, which has no types.
    distribute_strategy: tf.distribute.Strategy

    def save(self, filepath: Any, overwrite: bool = True, **kwargs: Any) -> None:
        """Saves the model, as `keras.Model.save` does; of several workers, the chief does.

        Args:
            filepath: File, `*.keras`; one of this name is replaced when all is written.
            overwrite: Whether to replace without a question.
            **kwargs: Passed on to `keras.Model.save`.

        Raises:
            ValueError: If the file would be one of HDF5, `*.h5`, of which Keras cannot read models
                back whose `call` is written in Python.
        """
        _check_format(filepath)
        if workers.writes(self.distribute_strategy):
            _write(functools.partial(super().save, **kwargs), filepath, overwrite)

    def save_weights(self, filepath: Any, overwrite: bool = True, **kwargs: Any) -> None:
        """Saves the weights, as `keras.Model.save_weights` does; of several workers the chief does.

        Args:
            filepath: File, `*.weights.h5`; one of this name is replaced when all is written.
            overwrite: Whether to replace without a question.
            **kwargs: Passed on to `keras.Model.save_weights`.
        """
        if workers.writes(self.distribute_strategy):
            _write(functools.partial(super().save_weights, **kwargs), filepath, overwrite)


def _check_format(filepath: Any) -> None:
    path = pathlib.PurePath(str(filepath))
    if path.suffix in _UNREADABLE:
        stem = path.name.removesuffix(path.suffix).removesuffix(".weights")
        rule = (
            f"must end with `.keras`, for Keras writes a model like this one to {path.suffix} but "
            f"cannot read it back: take model.save('{stem}.keras'), or "
            f"model.save_weights('{stem}.weights.h5') for the weights alone"
        )
        raise checks.invalid("filepath", rule, str(filepath))


def _write(save: Callable[..., None], filepath: Any, overwrite: bool) -> None:
    """Writes a file under another name first, unless it is none, or none of this machine."""
    path = str(filepath) if isinstance(filepath, (str, os.PathLike)) else ""
    if "://" in path or not path.endswith(_ONE_FILE) or (os.path.exists(path) and not overwrite):
        save(filepath, overwrite=overwrite)  # Keras knows what to do, or whom to ask.
        return
    target = pathlib.Path(path)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
        written = pathlib.Path(folder, target.name)
        save(written)
        os.replace(written, target)
