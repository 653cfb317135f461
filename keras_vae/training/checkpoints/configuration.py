"""What a training is made of, as far as a checkpoint must know it: model, optimizer and data."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_vae.data import origin
from keras_vae.training.data import Data

# Keras numbers the layers of a process, so that the same model has other names in the next.
_COUNTED = re.compile(r"(?<=[a-z])_\d+$")
_MOST_TOLD = 4


def of_model(model: Any) -> dict[str, Any]:
    """Returns the configuration of a model and its optimizer, which JSON can hold."""
    optimizer = model.optimizer
    found = {
        "model": _config(model),
        "optimizer": _config(optimizer),
        "weights": [[list(v.shape), v.dtype] for v in model.weights],
    }
    return _plain(found)


# What Keras takes for options of `fit` that are left out.
_DEFAULTS = {"batch_size": 32, "shuffle": True, "validation_split": 0.0}


def of_data(data: Data, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what is known of training data without reading a dataset, which JSON can hold.

    Args:
        data: What `fit` was given.
        options: The options of `fit`.
    """
    if data.is_array:
        parts = [np.asarray(part) for part in tf.nest.flatten(data.parts)]
        arrays = [[list(part.shape), str(part.dtype), _checksum(part)] for part in parts]
        given = {name: value for name, value in options.items() if value is not None}
        batch = {name: given.get(name, default) for name, default in _DEFAULTS.items()}
        return _plain({"arrays": arrays, **batch})
    found = origin.of(data.x)
    if found is not None:
        return _plain(found)
    if isinstance(data.x, tf.data.Dataset):
        return {"batches": str(data.x.element_spec), "number": int(data.x.cardinality())}
    return {"kind": type(data.x).__name__}


def differences(theirs: Any, ours: Any, path: str = "") -> Iterator[str]:
    """Yields where two configurations differ, as `optimizer.learning_rate: 0.1, here 0.2`."""
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        for name in dict.fromkeys([*theirs, *ours]):
            yield from differences(theirs.get(name), ours.get(name), f"{path}.{name}".strip("."))
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for i, (one, other) in enumerate(zip(theirs, ours, strict=True)):
            yield from differences(one, other, f"{path}[{i}]")
    elif not _equal(theirs, ours):
        yield f"{path}: {_short(theirs)}, here {_short(ours)}"


def told(every: Sequence[str]) -> str:
    """Returns the first differences as a text, "" without any."""
    more = [f"and {len(every) - _MOST_TOLD} more"] if len(every) > _MOST_TOLD else []
    return "; ".join([*every[:_MOST_TOLD], *more])


def _config(layer: Any) -> Any:
    try:
        config = keras.saving.serialize_keras_object(layer)
    except (NotImplementedError, TypeError, ValueError):
        return {"class_name": type(layer).__name__}  # Of a model that says no more of itself.
    config.pop("compile_config", None)
    config.pop("build_config", None)
    return config


def _plain(value: Any) -> Any:
    """Returns a configuration without the numbers that Keras gives to names."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items() if k not in ("shared_object_id",)}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, str):
        return "/".join(_COUNTED.sub("", part) for part in value.split("/"))
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, np.ndarray) or tf.is_tensor(value):
        array = np.asarray(value)
        return [list(array.shape), str(array.dtype), _checksum(array)]
    return type(value).__name__


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


def _equal(one: Any, other: Any) -> bool:
    return one == other or (one != one and other != other)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
