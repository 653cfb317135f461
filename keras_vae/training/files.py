"""Files of a model, which are written whole or not at all."""

from __future__ import annotations

import hashlib
import math
import os
import pathlib
import weakref
import zlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras.src.saving.keras_saveable import KerasSaveable

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


class Seal(KerasSaveable):
    """Compares what was read of a file of weights with what was written.

    Keras visits private attributes last, so that all weights of the model are there. Files without
    a seal, of earlier versions, are taken as they are.

    Args:
        model: The model whose files are sealed.
    """

    def __init__(self, model: Any):
        self._model_of = weakref.ref(model)

    def _obj_type(self) -> str:
        return "Loss"  # Of the kinds that Keras knows, one that has no weights of its own.

    def save_own_variables(self, store: Any) -> None:
        """Writes how many weights there are, of which dtypes, and their checksum."""
        store["weights"], store["digest"] = self._kinds(), self._digest()

    def load_own_variables(self, store: Any) -> None:
        """Raises a `ValueError` if the model has other weights than the file was written with."""
        if "digest" not in set(store.keys()):
            return
        kinds, found = np.asarray(store["weights"]), self._kinds()
        if len(kinds) != len(found):
            raise ValueError(
                f"The file is damaged: it was written with {len(kinds)} weights, of which the "
                f"model that it describes has {len(found)}."
            )
        # In other precisions, weights are rounded.
        if (kinds == found).all() and (np.asarray(store["digest"]) != self._digest()).any():
            raise ValueError(
                "The file is damaged, or it is of another model: the weights that were read are "
                "not those that were written."
            )

    def _weights(self) -> list[np.ndarray]:
        model = self._model_of()
        return [] if model is None else [np.asarray(variable) for variable in model.weights]

    def _kinds(self) -> np.ndarray:
        return np.array([zlib.crc32(v.dtype.name.encode()) for v in self._weights()], np.uint32)

    def _digest(self) -> np.ndarray:
        found = hashlib.sha256()
        for array in self._weights():
            found.update(f"{array.shape}".encode() + array.tobytes())
        return np.frombuffer(found.digest(), np.uint8)


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
