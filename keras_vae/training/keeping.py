"""What `fit` asks of a callback that saves a training so that another process can resume it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_vae.core import checks
from keras_vae.data import arrays, origin
from keras_vae.training.data import Data


class Keeper(keras.callbacks.Callback):
    """A callback that saves a training; `fit` calls it after all others, wherever it stands."""

    @property
    def boundaries(self) -> list[int]:
        """Numbers of batches that an execution of several steps must divide."""
        return []

    def prepare(
        self, model: Any, data: Data, options: dict[str, Any], others: Sequence[Any]
    ) -> dict[str, Any]:
        """Returns the options of `fit`, including x and y, as the training needs them.

        Args:
            model: The model that is trained.
            data: The data that `fit` was given.
            options: The arguments of `keras.Model.fit`.
            others: The other callbacks, including Keras's history.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Cleans up after the training, however it ended."""


def keeper_among(callbacks: Sequence[Any]) -> Keeper | None:
    """Returns the keeper among callbacks, if there is one.

    Warns about Keras backups within epochs.

    Raises:
        ValueError: If there are several, or there is a Keras callback that does the same.
    """
    found = [one for one in callbacks if isinstance(one, Keeper)]
    backups = [one for one in callbacks if isinstance(one, keras.callbacks.BackupAndRestore)]
    if len(found) + len(backups) > 1 and found:
        names = [type(one).__name__ for one in [*found, *backups]]
        raise checks.invalid("callbacks", "must hold one callback that restores a training", names)
    for backup in backups:
        if backup.save_freq != "epoch":
            text = (
                f"BackupAndRestore(save_freq={backup.save_freq}) is not exact: within an epoch it "
                "goes on with data from the beginning, and with schedules that have moved on. "
                "keras_vae.callbacks.Resume(folder, every=steps) is."
            )
            warnings.warn(text, stacklevel=4)
    return found[0] if found else None


def boundaries_of(callbacks: Sequence[Any]) -> list[int]:
    """Returns the boundaries of all keepers among callbacks."""
    keepers = [one for one in callbacks if isinstance(one, Keeper)]
    return [number for keeper in keepers for number in keeper.boundaries]


def in_order(callbacks: Sequence[Any], keeper: Keeper) -> list[Any]:
    """Returns the callbacks with the keeper last, so that it sees what all others have done."""
    others = [one for one in callbacks if one is not keeper]
    history = any(isinstance(one, keras.callbacks.History) for one in others)
    return [*others, *([] if history else [keras.callbacks.History()]), keeper]


def can_be_repeated(data: Data, options: Mapping[str, Any]) -> bool:
    """Returns whether the batches of an epoch are the same in another process."""
    whole_epochs = options.get("steps_per_epoch") is None
    return whole_epochs and (data.is_array or origin.of(data.x) is not None)


def with_order_of_its_own(data: Data, options: dict[str, Any], seed: int) -> dict[str, Any]:
    """Returns options of `fit` that hold arrays as batches, in an order set by seed and epoch.

    Keras would shuffle them by the state of TensorFlow's generator, which belongs to one process.
    """
    if not data.is_array or not options.get("shuffle", True):
        return options
    options, data = _without_validation_split(data, dict(options))
    batch_size = options.pop("batch_size", None) or 32
    # What Keras would take for validation data, which are still arrays.
    options["validation_batch_size"] = options.get("validation_batch_size") or batch_size
    epoch = options.get("initial_epoch", 0)
    given = data.with_labels()
    parts = tuple(part for part in (given.x, given.y, given.sample_weight) if part is not None)
    batches = arrays.shuffled_batches(parts, batch_size, seed=seed, initial_epoch=epoch)
    for name in ("y", "sample_weight"):
        options.pop(name, None)
    return {**options, "x": batches, "shuffle": False}


def _without_validation_split(data: Data, options: dict[str, Any]) -> tuple[dict[str, Any], Data]:
    """Returns the options with the last examples as validation data, and the other examples."""
    fraction = options.pop("validation_split", 0.0)
    if not fraction or options.get("validation_data") is not None:
        return options, data
    data = data.with_labels()
    end = int(len(data.x) * (1.0 - fraction))
    last = data.rows(slice(end, None)).as_tuple()
    return {**options, "validation_data": last}, data.rows(slice(0, end))
