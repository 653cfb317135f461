"""Every number of a training that a variable holds: read as arrays, and put back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def read(model: Any) -> dict[str, np.ndarray]:
    """Returns the values of all variables: weights, seeds, means, the optimizer's state.

    Of a variable that replicas hold apart there are the values of all of them, `[R, ...]`. All
    workers must call it.
    """
    variables = _variables(model)
    apart = _read_apart([v for v in variables.values() if _is_apart(v)], model)
    return {
        name: apart[id(variable)] if id(variable) in apart else np.asarray(variable)
        for name, variable in variables.items()
    }


def restore(model: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Gives all variables the values that `read` returned, for a model of which `misfit` has none.

    Where the number of replicas is another one, what they hold apart is shared out evenly.
    """
    apart = []
    for name, variable in _variables(model).items():
        if _is_apart(variable):
            apart.append((variable, arrays[name]))
        elif np.ndim(arrays[name]) > len(variable.shape):
            variable.assign(_together(variable, arrays[name]))
        else:
            variable.assign(arrays[name])
    if apart:
        _assign_apart(apart, model)


def misfit(model: Any, arrays: Mapping[str, np.ndarray]) -> str:
    """Returns in which arrays a checkpoint differs from a model, or ""."""
    variables = _variables(model)
    if len(variables) != len(arrays):
        return f"it has {len(arrays)} variables, here there are {len(variables)}"
    for name, variable in variables.items():
        shape, found = tuple(variable.shape), np.shape(arrays.get(name, ()))
        if name not in arrays or (found != shape and found[1:] != shape):
            return f"the shape of {variable.path} is {found}, here {shape}"
    return ""


def _variables(model: Any) -> dict[str, keras.Variable]:
    """Returns all variables, by numbers: their names differ from process to process."""
    own = [*model.variables, *(v for metric in model.metrics for v in metric.variables)]
    unique = {id(variable): variable for variable in [*own, *model.optimizer.variables]}
    return {str(i): variable for i, variable in enumerate(unique.values())}


# Replicas hold apart what each of them adds to by itself, as batch statistics and means of logs.


def _is_apart(variable: keras.Variable) -> bool:
    value = variable.value
    on_read = tf.VariableSynchronization.ON_READ
    return getattr(value, "values", None) is not None and value.synchronization == on_read


def _read_apart(variables: Sequence[keras.Variable], model: Any) -> dict[int, np.ndarray]:
    if not variables:
        return {}
    strategy = model.distribute_strategy
    rows = strategy.run(lambda: [tf.convert_to_tensor(v)[tf.newaxis] for v in variables])
    gathered = [strategy.gather(row, axis=0).numpy() for row in rows]
    return {id(variable): array for variable, array in zip(variables, gathered, strict=True)}


def _assign_apart(pairs: Sequence[tuple[keras.Variable, np.ndarray]], model: Any) -> None:
    strategy = model.distribute_strategy
    count = strategy.num_replicas_in_sync
    rows = [_shared_out(variable, array, count) for variable, array in pairs]

    def assign() -> None:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        for (variable, _), values in zip(pairs, rows, strict=True):
            variable.assign(tf.gather(values, replica))

    strategy.run(assign)


def _shared_out(variable: keras.Variable, array: np.ndarray, count: int) -> np.ndarray:
    """Returns the values of so many replicas, `[R, ...]`."""
    if array.ndim > len(variable.shape) and len(array) == count:
        return array
    whole = array if array.ndim == len(variable.shape) else _together(variable, array)
    share = whole / count if variable.aggregation == "sum" else whole
    return np.broadcast_to(share.astype(array.dtype), (count, *whole.shape))


def _together(variable: keras.Variable, array: np.ndarray) -> np.ndarray:
    """Returns what the values of replicas are together."""
    whole = array.sum(axis=0) if variable.aggregation == "sum" else array.mean(axis=0)
    return whole.astype(array.dtype)
