"""Files of a model, which are written whole or not at all."""

from __future__ import annotations

import hashlib
import math
import os
import pathlib
import weakref
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras.src.saving.keras_saveable import KerasSaveable

from keras_vae.core import checks
from keras_vae.core.files import written_whole

_ONE_FILE = (".keras", ".weights.h5")
_UNREADABLE = (".h5", ".hdf5")


class UnsavedMean(keras.metrics.Mean):
    """A mean that is not part of files; NaN if there are no values to average.

    It starts anew with every epoch, and reading it takes all workers, whereas only the chief
    writes.
    """

    def result(self) -> Any:
        # Keras reports 0, better than any loss, for an epoch whose steps were all left out.
        return keras.ops.where(self.count > 0, super().result(), math.nan)

    def save_own_variables(self, store: Any) -> None:
        pass

    def load_own_variables(self, store: Any) -> None:
        pass


class Seal(KerasSaveable):
    """Compares what was read from a file of weights with what was written.

    Keras visits private attributes last, so all weights and slots are there by then. Files of
    earlier versions, which have no seal, are accepted as they are.

    Args:
        model: The model whose files are sealed.
    """

    def __init__(self, model: Any):
        self._model_of = weakref.ref(model)

    def _obj_type(self) -> str:
        return "Loss"  # Of the kinds that Keras knows, one that has no weights of its own.

    def save_own_variables(self, store: Any) -> None:
        """Writes the kinds of the weights and slots, and their checksums."""
        for name, arrays in self._arrays().items():
            store[f"{name}_kinds"], store[f"{name}_digest"] = _kinds(arrays), _digest(arrays)

    def load_own_variables(self, store: Any) -> None:
        """Raises a `ValueError` if what was read is not what was written."""
        written = set(store.keys())
        for name, arrays in self._arrays().items():
            if f"{name}_digest" not in written:
                continue
            kinds, found = np.asarray(store[f"{name}_kinds"]), _kinds(arrays)
            if name == "weights" and len(kinds) != len(found):
                raise ValueError(
                    f"The file is damaged: it was written with {len(kinds)} weights, of which the "
                    f"model that it describes has {len(found)}."
                )
            # In other precisions, numbers are rounded, and another optimizer has other slots.
            same = len(kinds) == len(found) and (kinds == found).all()
            if same and (np.asarray(store[f"{name}_digest"]) != _digest(arrays)).any():
                raise ValueError(
                    f"The file is damaged, or of another model: the {name} that were read are not "
                    "those that were written."
                )

    def _arrays(self) -> dict[str, list[np.ndarray]]:
        model = self._model_of()
        optimizer = getattr(model, "optimizer", None)
        slots = optimizer.variables if optimizer is not None and optimizer.built else []
        variables = {"weights": [] if model is None else model.weights, "slots": slots}
        return {name: [np.asarray(one) for one in ones] for name, ones in variables.items()}


def _kinds(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([zlib.crc32(array.dtype.name.encode()) for array in arrays], np.uint32)


def _digest(arrays: Sequence[np.ndarray]) -> np.ndarray:
    found = hashlib.sha256()
    for array in arrays:
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
