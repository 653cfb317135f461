"""Times epochs of Keras and of `fit`, and how idle the cores are meanwhile.

At the end of a pass Keras often waits for a thread of tf.data, which may sleep for as long as the
pass took. `fit` of this package lets another thread wait
(`keras_vae/training/iterators.py`). Contenders:

    keras     an autoencoder of plain Keras with the same layers
    waiting   `fit` of a VAE, waiting as Keras does
    fit       `fit` as it is

    python -m benchmarks.idle_epochs

Each trains on arrays, and on a dataset as users write it: shuffled, batched and prefetched. They
take turns, one call of a few epochs at a time. What a call waits for after its last epoch counts
with that epoch. The share of idle cores is 1 - processor time / (time * cores), over all calls of a
contender. It is never 0, as parts of a step have a single thread, and means nothing while other
programs run.

Results go to `benchmarks/results/idle_epochs.json` and `.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

import keras_vae as kv
from benchmarks import records
from benchmarks.hand_written import IMAGE
from keras_vae.training import iterators

RESULTS = records.FOLDER / "idle_epochs.json"
CONTENDERS = ("keras", "waiting", "fit")
DATA = ("arrays", "dataset")


class EpochEnds(keras.callbacks.Callback):
    """Notes when epochs end."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Notes the time."""
        self.times.append(time.perf_counter())


def plain() -> keras.Model:
    """Returns a model that knows nothing of this package."""
    layers = [keras.layers.Dense(units, "tanh") for units in (200, 200, 50, 200, 200)]
    model = keras.Sequential([keras.layers.Flatten(), *layers, keras.layers.Dense(784, "sigmoid")])
    model.compile("adam", "binary_crossentropy", steps_per_execution=10, jit_compile=True)
    return model


def vae() -> kv.VAE:
    """Returns the model of `fit`, with the defaults of `compile`."""
    model = kv.VAE(
        encoder=kv.networks.MLPEncoder(),
        decoder=kv.networks.MLPDecoder(IMAGE),
        posterior=kv.posteriors.DiagonalNormal(50),
        likelihood=kv.likelihoods.Bernoulli(IMAGE),
    )
    model.compile("adam")
    return model


def load(args: argparse.Namespace) -> np.ndarray:
    """Returns binarized digits."""
    batches = kv.data.load(args.data, args.split, 1000, binarize="static", shuffle=False)
    return np.concatenate(list(batches.as_numpy_iterator()))


def train(
    contender: str, data: str, x: np.ndarray, args: argparse.Namespace
) -> Callable[[], dict[str, Any]]:
    """Returns a function that trains for some epochs, and returns their times."""
    model = plain() if contender == "keras" else vae()
    # The plain model has targets, which are its inputs.
    given = (x, x.reshape(len(x), -1)) if contender == "keras" else (x,)
    options: dict[str, Any] = {"x": given[0], "y": given[1] if len(given) > 1 else None}
    options["batch_size"] = args.batch_size
    if data == "dataset":
        slices = tf.data.Dataset.from_tensor_slices(given if len(given) > 1 else x)
        batches = slices.shuffle(len(x)).batch(args.batch_size).prefetch(tf.data.AUTOTUNE)
        options = {"x": batches, "shuffle": False}

    def run() -> dict[str, Any]:
        ends = EpochEnds()
        start = time.perf_counter(), time.process_time()
        model.fit(**options, epochs=args.epochs, callbacks=[ends], verbose=0)
        end = time.perf_counter(), time.process_time()
        times = [start[0], *ends.times[:-1], end[0]]
        return {"epochs": np.diff(times).tolist(), "processor": end[1] - start[1]}

    return run


def measure(args: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Returns the calls of each contender."""
    x = load(args)
    names = [f"{contender}_{data}" for data in DATA for contender in CONTENDERS]
    runs = {name: train(*name.split("_"), x, args) for name in names}
    calls: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for repetition in range(1 + args.repetitions):
        first = repetition % len(names)
        for name in names[first:] + names[:first]:
            with _waiting() if name.startswith("waiting") else contextlib.nullcontext():
                call = runs[name]()
            if repetition:  # The first traces and compiles.
                calls[name].append(call)
    return calls


def _waiting() -> Any:
    return mock.patch.object(iterators, "released_in_background", contextlib.nullcontext)


def summary(calls: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, float]]:
    """Returns quartiles of epochs in seconds, their mean, the slowest, and the idle share."""
    rows = {}
    for name, of_name in calls.items():
        epochs = np.concatenate([call["epochs"] for call in of_name])
        low, median, high = np.quantile(epochs, (0.25, 0.5, 0.75)).tolist()
        used = sum(call["processor"] for call in of_name) / (epochs.sum() * records.cores())
        rows[name] = {"lower_quartile": low, "median": median, "upper_quartile": high}
        rows[name] |= {"mean": float(epochs.mean()), "slowest": float(epochs.max())}
        rows[name]["idle"] = float(1.0 - used)
    return rows


def table(rows: dict[str, dict[str, float]]) -> str:
    """Returns a table of the rows, in seconds an epoch."""
    lines = [
        "| data | contender | mean epoch, s | median | quartiles | slowest | idle cores |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        contender, data = name.split("_")
        lines.append(
            f"| {data} | {contender} | {row['mean']:.2f} | {row['median']:.2f} "
            f"| {row['lower_quartile']:.2f} to {row['upper_quartile']:.2f} "
            f"| {row['slowest']:.2f} | {row['idle']:.0%} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> dict[str, dict[str, float]]:
    """Prints and writes a table, and returns its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=10, help="calls of `fit` of each")
    parser.add_argument("--epochs", type=int, default=4, help="of a call")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--data", default="mnist", help='or "mnist_5k", without a download')
    parser.add_argument("--split", default="train[:20000]")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS)
    args = parser.parse_args(arguments)
    calls = measure(args)
    rows = summary(calls)
    records.write({"rows": rows, "calls": calls, **records.circumstances(args)}, args.results)
    return records.finish(rows, table(rows), args.results)


if __name__ == "__main__":
    main()
