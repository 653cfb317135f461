"""The common base of callbacks that look at a model now and then."""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any

import keras

from keras_vae.callbacks.monitors.summaries import SummaryWriter, check_log_dir
from keras_vae.core import checks
from keras_vae.models import VAE
from keras_vae.training.data import Data


class Monitor(keras.callbacks.Callback):
    """Looks at a `VAE` after the first epoch of a training, after every n-th, and after the last.

    It looks after the first so that the names that it logs are there when
    `keras.callbacks.CSVLogger` chooses its columns. Epochs count from 0, as in Keras.

    Args:
        data: Array, pair of arrays `(x, y)` or dataset of batches.
        every: Number n of epochs.
        log_dir: TensorBoard folder, or None.
        batch_size: Number of examples to process at once, if `data` holds arrays.
    """

    def __init__(self, data: Any, every: int, log_dir: Any, batch_size: int):
        super().__init__()
        self.every = checks.integer("every", every)
        check_log_dir(log_dir)
        self.log_dir = log_dir
        self._given = Data.of("data", data)
        self._data = self._given.dataset(checks.integer("batch_size", batch_size))
        self._writer = SummaryWriter(None)
        self._first: int | None = None  # Epochs of this training: the first one, the last one
        self._epoch: int | None = None  # finished, and the last one that was looked at.
        self._seen: int | None = None
        self._started = False  # Whether earlier epochs have been taken over.
        self._last: dict[str, float] = {}  # What the last look has added to the logs.

    # What a monitor defines.

    def open(self) -> None:
        """Creates what a training needs, or raises an error."""

    def start(self, epoch: int) -> None:
        """Takes over what an earlier training left for the epochs before this one."""

    def look(self, epoch: int) -> None:
        """Measures the model after an epoch."""
        raise NotImplementedError

    def finish(self) -> None:
        """Produces the results that cover the whole training."""

    # Keras's protocol.

    def set_model(self, model: Any) -> None:
        """Checks that the model and the data fit together."""
        super().set_model(model)
        if not isinstance(model, VAE):
            raise checks.invalid("model", f"must be a VAE for {type(self).__name__}", model)
        self._given.check(model._checked)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Opens the files, before the first step."""
        self._writer.close()  # It may be left over from a training that broke off.
        self._first = self._epoch = self._seen = None
        self._started = False
        self.open()
        self._writer = SummaryWriter(self.log_dir)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Takes over earlier epochs; where a resumed training begins is not known any sooner."""
        if not self._started:
            self._started = True
            self.start(epoch)
        if self._first is None:
            self._first = epoch

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at the model if it is due, and adds the last numbers to the logs."""
        self._epoch = epoch
        last = epoch + 1 >= self.params.get("epochs", 0) or self.model.stop_training
        if last or epoch == self._first or (epoch + 1) % self.every == 0:
            self._look(epoch)
        if logs is not None:
            logs.update(self._last)

    def get_state(self) -> dict[str, Any]:
        """Returns what `Resume` keeps: which epochs were looked at, and the last numbers."""
        epochs = {"first": self._first, "epoch": self._epoch, "seen": self._seen}
        return {**epochs, "last": self._last}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores which epochs to look at, so that they are those of an unbroken training."""
        self._first, self._epoch, self._seen = (state[name] for name in ("first", "epoch", "seen"))
        self._last = state.get("last", {})

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Looks once more if a later callback ended the training, and closes the files."""
        if self._epoch is not None:
            if self._seen != self._epoch:
                self._look(self._epoch)
            self.finish()
        self._writer.close()

    def _checked_count(self, num_examples: int | None) -> int | None:
        """Returns a number of examples to measure, or None for all, if the data have an end."""
        if num_examples is not None:
            return checks.integer("num_examples", num_examples)
        if self._given.never_ends:
            raise checks.invalid("num_examples", "must be given, as the data never end", None)
        return None

    def _look(self, epoch: int) -> None:
        self.look(epoch)
        self._seen = epoch
        self._writer.flush()


def path_of(argument: str, path: Any) -> pathlib.Path | None:
    """Returns `path` as a path, or None if it is None."""
    return None if path is None else checks.path(argument, path, "must be a path, or None")


def make_folder(argument: str, folder: pathlib.Path) -> None:
    """Creates a folder, and raises a `ValueError` if files cannot be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        rule = f"must lead to a folder that can be written ({error.strerror})"
        raise checks.invalid(argument, rule, str(folder)) from error
