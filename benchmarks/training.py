"""Trainings that go on where they were interrupted."""

from __future__ import annotations

import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


def fit(
    folder: pathlib.Path,
    build: Callable[[int], keras.Model],
    load: Callable[[int], tf.data.Dataset],
    epochs: int,
    callbacks: Callable[[int], list[keras.callbacks.Callback]] = lambda _: [],
    every: int = 1,
    **options: Any,
) -> keras.Model:
    """Trains to the last epoch, from where a folder has it, or from the start.

    Args:
        folder: Where the model and the logs are kept.
        build: Makes and compiles the model, for so many steps.
        load: Loads the data, from that epoch on.
        epochs: Passes over the data in all.
        callbacks: Makes the callbacks, for so many steps.
        every: Epochs from one copy of the model to the next.
        **options: Passed on to `keras.Model.fit`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    saved = sorted(folder.glob("after_*.keras"))
    done = int(saved[-1].stem.removeprefix("after_")) if saved else 0
    data = load(done)
    steps = epochs * len(data)
    model = keras.saving.load_model(saved[-1]) if saved else build(steps)
    model.fit(
        data,
        epochs=epochs,
        initial_epoch=done,
        callbacks=[*callbacks(steps), SaveEpochs(folder, epochs, every)],
        verbose=2,
        **options,
    )
    return model


class SaveEpochs(keras.callbacks.Callback):
    """Keeps the model after whole epochs, to go on from, and the logs and the time of each.

    Args:
        folder: Where to.
        epochs: Number of the last epoch, which is kept in any case.
        every: Epochs from one copy to the next.
    """

    def __init__(self, folder: pathlib.Path, epochs: int, every: int = 1):
        super().__init__()
        self.folder = folder
        self.epochs = epochs
        self.every = every
        self.start = self.seconds = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Starts the clock."""
        self.start, self.seconds = time.perf_counter(), 0.0

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Stops the clock: validation is no part of the training."""
        self.seconds = time.perf_counter() - self.start

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Writes the log, and now and then the model, of which a kill leaves no half."""
        seconds = self.seconds or time.perf_counter() - self.start
        path = self.folder / "logs.jsonl"
        # A line may have been cut off, where the machine went down.
        cut = path.exists() and not path.read_text().endswith("\n")
        with path.open("a") as file:
            line = json.dumps({"epoch": epoch, "seconds": seconds, **(logs or {})})
            print(f"\n{line}" if cut else line, file=file)
        if (epoch + 1) % self.every and epoch + 1 != self.epochs:
            return
        self.model.save(_path(self.folder, epoch + 1))
        for old in sorted(self.folder.glob("after_*.keras"))[:-1]:
            old.unlink()


def is_done(folder: pathlib.Path, epochs: int) -> bool:
    """Returns whether the model after the last epoch is there."""
    return _path(folder, epochs).exists()


def is_begun(folder: pathlib.Path) -> bool:
    """Returns whether a training has left anything to go on from."""
    return any(folder.glob("after_*.keras"))


def _path(folder: pathlib.Path, epochs: int) -> pathlib.Path:
    return folder / f"after_{epochs:04d}.keras"


def logs(folder: pathlib.Path) -> list[dict[str, float]]:
    """Returns the logs of the epochs; of one that was made again after a kill, the last."""
    by_epoch = {}
    for text in (folder / "logs.jsonl").read_text().splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue  # Cut off, where the machine went down before the epoch was kept.
        by_epoch[line["epoch"]] = line
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]
