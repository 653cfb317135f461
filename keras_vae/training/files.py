"""Files of a model, which are written whole or not at all."""

from __future__ import annotations

import math
import os
import pathlib
from collections.abc import Callable
from typing import Any

import keras

from keras_vae.core import checks
from keras_vae.core.files import written_whole

_ONE_FILE = (".keras", ".weights.h5")
_UNREADABLE = (".h5", ".hdf5")


class UnsavedMean(keras.metrics.Mean):
    """A mean that is no part of files; NaN where there is nothing to take it of.

    It begins anew with every epoch; and to read it takes all workers, of which the chief writes.
    """

    def result(self) -> Any:
        # Keras says 0, which is better than any loss, of an epoch whose steps were all left out.
        return keras.ops.where(self.count > 0, super().result(), math.nan)

    def save_own_variables(self, store: Any) -> None:
        pass

    def load_own_variables(self, store: Any) -> None:
        pass


def check_format(filepath: Any) -> None:
    """Raises a `ValueError` if Keras would write a model to this file but not read it back."""
    path = pathlib.PurePath(str(filepath))
    if path.suffix in _UNREADABLE:
        stem = path.name.removesuffix(path.suffix).removesuffix(".weights")
        rule = (
            f"must end with `.keras`, for Keras writes a model like this one to {path.suffix} but "
            f"cannot read it back: take model.save('{stem}.keras'), or "
            f"model.save_weights('{stem}.weights.h5') for the weights alone"
        )
        raise checks.invalid("filepath", rule, str(filepath))


def write(save: Callable[..., None], filepath: Any, overwrite: bool) -> None:
    """Writes a file under another name first, unless the target is not a local file."""
    path = str(filepath) if isinstance(filepath, (str, os.PathLike)) else ""
    if "://" in path or not path.endswith(_ONE_FILE) or (os.path.exists(path) and not overwrite):
        save(filepath, overwrite=overwrite)  # Keras knows what to do, or whom to ask.
        return
    with written_whole(path) as written:
        save(written)
