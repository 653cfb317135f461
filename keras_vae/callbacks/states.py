"""What callbacks remember of a training, so that it can continue from where it stopped.

Callbacks with `get_state() -> dict` and `set_state(state)` define for themselves what they
remember, as numbers, strings, arrays, and lists and dictionaries of these. For the callbacks of
Keras, this module knows what to keep.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import keras
import numpy as np

_REMEMBERED: dict[type, tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: (
        *("wait", "stopped_epoch", "best", "best_epoch"),
        "best_weights",
    ),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    keras.callbacks.ModelCheckpoint: (
        *("best", "_current_epoch"),
        *("_batches_seen_since_last_saving", "_last_batch_seen"),
    ),
    keras.callbacks.SwapEMAWeights: ("_ema_weights_in_model",),
    keras.callbacks.History: ("history", "epoch"),
    keras.callbacks.TensorBoard: ("_global_train_batch", "_global_test_batch"),
}
# These depend only on the epoch and the weights.
_NOTHING = (
    keras.callbacks.LearningRateScheduler,
    keras.callbacks.TerminateOnNaN,
    keras.callbacks.ProgbarLogger,
    keras.callbacks.RemoteMonitor,
    keras.callbacks.LambdaCallback,
)
_ARRAY = "array of the checkpoint"


def read(callbacks: Sequence[Any], arrays: MutableMapping[str, np.ndarray]) -> list[Any]:
    """Returns the states of callbacks in a form JSON can hold, and adds arrays to `arrays`."""
    return [[_name(one), _encoded(_state_of(one), _name(one), arrays)] for one in callbacks]


def restore(
    callbacks: Sequence[Any], states: Sequence[Any], arrays: Mapping[str, np.ndarray]
) -> None:
    """Gives callbacks the states that `read` returned, in order among those of the same class."""
    left = list(states)
    for callback in callbacks:
        found = next((i for i, (name, _) in enumerate(left) if name == _name(callback)), None)
        if found is not None:
            _, state = left.pop(found)
            if state is not None:
                _set_state(callback, _decoded(state, arrays))


def unknown(callbacks: Sequence[Any]) -> list[str]:
    """Returns the names of callbacks that may remember something that cannot be restored."""
    plain = vars(keras.callbacks.Callback()).keys()
    return [
        _name(one)
        for one in callbacks
        if not type(one).__module__.startswith("keras_vae.")
        and _state_of(one) is None
        and not isinstance(one, _NOTHING)
        and vars(one).keys() - plain
    ]


def _name(callback: Any) -> str:
    return type(callback).__name__


def _state_of(callback: Any) -> dict[str, Any] | None:
    """Returns what a callback remembers, or None if it remembers nothing or this is not known."""
    if callable(getattr(callback, "get_state", None)):
        return callback.get_state()
    if isinstance(callback, keras.callbacks.CSVLogger):
        return _state_of_table(callback)
    names = _names_of(callback)
    return {name: getattr(callback, name) for name in names if hasattr(callback, name)} or None


def _set_state(callback: Any, state: dict[str, Any]) -> None:
    if callable(getattr(callback, "set_state", None)):
        callback.set_state(state)
    elif isinstance(callback, keras.callbacks.CSVLogger):
        _restore_table(callback, state)
    else:
        for name in set(_names_of(callback)) & set(state):
            setattr(callback, name, state[name])


def _names_of(callback: Any) -> tuple[str, ...]:
    return next((names for kind, names in _REMEMBERED.items() if isinstance(callback, kind)), ())


# Keras's table of epochs is in a file, which may hold rows for epochs that are trained again.


def _state_of_table(callback: Any) -> dict[str, Any]:
    path = pathlib.Path(callback.filename)
    return {
        "text": path.read_bytes().decode() if path.exists() else "",
        "keys": None if callback.keys is None else list(callback.keys),
    }


def _restore_table(callback: Any, state: Mapping[str, Any]) -> None:
    file = callback.csv_file
    file.seek(0)
    file.truncate()
    file.write(state["text"])
    file.flush()
    callback.keys, callback.writer = state["keys"], None
    callback.append_header = not state["text"]


# JSON holds everything except the arrays.


def _encoded(value: Any, name: str, arrays: MutableMapping[str, np.ndarray]) -> Any:
    if isinstance(value, Mapping):
        # Keys need not be strings.
        items = [[key, _encoded(one, name, arrays)] for key, one in value.items()]
        return {"items": items}
    if isinstance(value, (list, tuple)):
        return [_encoded(one, name, arrays) for one in value]
    if isinstance(value, np.ndarray) and value.ndim:
        arrays[f"{name} {len(arrays)}"] = value
        return {_ARRAY: f"{name} {len(arrays) - 1}"}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return np.asarray(value).item()


def _decoded(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, Mapping) and _ARRAY in value:
        return np.array(arrays[value[_ARRAY]])
    if isinstance(value, Mapping):
        return {key: _decoded(one, arrays) for key, one in value["items"]}
    return [_decoded(one, arrays) for one in value] if isinstance(value, list) else value
