"""Checkpoints of earlier versions: weights alone, in HDF5, one file for the last epoch."""

from __future__ import annotations

import collections
import pathlib
import re
from typing import Any

import keras
import numpy as np

_NAME = re.compile(r"epoch_(\d+)\.weights\.h5")


def newest(folder: pathlib.Path) -> tuple[int, pathlib.Path] | None:
    """Returns the number of epochs of the last checkpoint, and its path."""
    found = ((_NAME.fullmatch(path.name), path) for path in folder.glob("*.h5"))
    return max(((int(match[1]), path) for match, path in found if match), default=None)


def restore(model: Any, path: pathlib.Path) -> str:
    """Reads weights into a model; returns "", or in what they differ, and leaves it as it was."""
    variables = [*model.weights, *model.optimizer.variables]
    before = [np.asarray(variable) for variable in variables]
    try:
        model.load_weights(path)
    except (ValueError, KeyError, OSError) as error:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
        return str(error) if isinstance(error, OSError) else _difference(path, variables)
    return ""


def _difference(path: pathlib.Path, variables: list[keras.Variable]) -> str:
    """Returns in which arrays a file of weights differs from a model."""
    import h5py  # As Keras does, only when it is needed.

    theirs: collections.Counter[tuple[int, ...]] = collections.Counter()

    def count(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            theirs[item.shape] += 1

    with h5py.File(path) as file:
        file.visititems(count)
    ours = collections.Counter(tuple(variable.shape) for variable in variables)
    sides = {"the file": theirs - ours, "the model": ours - theirs}
    told = [f"{side} has more arrays of {_shapes(more)}" for side, more in sides.items() if more]
    return " and ".join(told) or "its layers have other names"


def _shapes(found: collections.Counter[tuple[int, ...]]) -> str:
    first = ", ".join(map(str, sorted(found)[:4]))
    return f"shape {first}" if len(found) <= 4 else f"shape {first}, ..."
