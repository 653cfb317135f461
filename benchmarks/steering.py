"""Times `fit` with and without callbacks that steer and watch it, as a ratio of examples/s.

The network is that of Burda et al., 2016, with one stochastic layer, 784-200-200-50, and a GECO
objective in all rows; batches of 100 digits lie in memory, 50 steps make an execution. The
trainings run in one process and take turns, an execution at a time; a figure is the median of the
epochs. Where other programs run, too, the time of the cores says more than that of the clock:

    python -m benchmarks.steering
    python -m benchmarks.steering --rows nothing annealing one_cycle geco health all

Results go to `benchmarks/results/steering.json` and `.md`.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import pathlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_vae as kv
from benchmarks import records

IMAGE, LATENT_DIM, RATE = (28, 28, 1), 50, 1e-3
RESULTS = records.FOLDER / "steering.json"


class Turns:
    """Lets trainings take turns, and tells how long each has had in each epoch.

    Args:
        names: Of the trainings, in their order.
    """

    def __init__(self, names: Sequence[str]):
        self.names = list(names)
        # Of every epoch: on the clock, and of all cores.
        self.seconds: dict[str, list[np.ndarray]] = {name: [] for name in names}
        self._next = 0
        self._changed = threading.Condition()

    def wait(self, name: str) -> None:
        """Waits until it is the turn of a training."""
        with self._changed:
            self._changed.wait_for(lambda: self.names[self._next] == name)

    def pass_on(self) -> None:
        """Lets the next one go on."""
        with self._changed:
            self._next = (self._next + 1) % len(self.names)
            self._changed.notify_all()

    def leave(self, name: str) -> None:
        """Takes a training out of the turns, as it is over or broke off."""
        with self._changed:
            self._next = self.names.index(name)
            self.names.remove(name)
            self._next %= max(1, len(self.names))
            self._changed.notify_all()


class TakeTurns(keras.callbacks.Callback):
    """Goes on for one execution of steps, with all that belongs to it, then lets others.

    Args:
        turns: Who is next.
        name: Name of this training.
    """

    def __init__(self, turns: Turns, name: str):
        super().__init__()
        self.turns = turns
        self.name = name

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Waits for the first turn."""
        self.turns.wait(self.name)
        self.start = _now()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Begins a new count."""
        self._count()
        self.turns.seconds[self.name].append(np.zeros(2))

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Waits for the next turn."""
        self._count()
        self.turns.pass_on()
        self.turns.wait(self.name)
        self.start = _now()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Ends the last count."""
        self._count()

    def _count(self) -> None:
        now = _now()
        if self.turns.seconds[self.name]:
            self.turns.seconds[self.name][-1] += now - self.start
        self.start = now


def _now() -> np.ndarray:
    return np.array([time.perf_counter(), time.process_time()])


def annealing(steps: int) -> keras.callbacks.Callback:
    """Returns an annealing of β from 0 to 1 over the training."""
    return kv.callbacks.KLAnnealing(kv.schedules.Linear(0.0, 1.0, steps))


def one_cycle(steps: int) -> keras.callbacks.Callback:
    """Returns the one-cycle policy of the learning rate."""
    return kv.callbacks.OneCycleLearningRate(3 * RATE, steps)


def geco(steps: int) -> keras.callbacks.Callback:
    """Returns what moves λ."""
    return kv.callbacks.GECO()


def health(steps: int) -> keras.callbacks.Callback:
    """Returns the doctor."""
    return kv.callbacks.HealthCheck()


ROWS: dict[str, tuple[Callable[[int], keras.callbacks.Callback], ...]] = {
    "nothing": (),
    "annealing": (annealing,),
    "one_cycle": (one_cycle,),
    "geco": (geco,),
    "health": (health,),
    "all": (annealing, one_cycle, geco, health),
}


def build(args: argparse.Namespace) -> kv.VAE:
    """Makes and compiles the model of all rows."""
    keras.utils.set_random_seed(args.seed)
    model = kv.VAE(
        encoder=kv.networks.MLPEncoder((200, 200), activation="tanh"),
        decoder=kv.networks.MLPDecoder(IMAGE, (200, 200), activation="tanh"),
        posterior=kv.posteriors.DiagonalNormal(LATENT_DIM),
        likelihood=kv.likelihoods.Bernoulli(IMAGE),
        objective=kv.objectives.GECO(kv.objectives.NegativeLogLikelihood(80.0)),
        seed=args.seed,
    )
    options = {"steps_per_execution": args.steps_per_execution, "jit_compile": not args.no_jit}
    model.compile(keras.optimizers.Adam(RATE), **options)
    return model


def in_memory(args: argparse.Namespace) -> tf.data.Dataset:
    """Returns whole batches of binarized digits, so that no input pipeline hides anything."""
    options = {"binarize": "static", "shuffle": False, "drop_remainder": True}
    batches = kv.data.load(args.data, args.train, args.batch_size, **options)
    return tf.data.Dataset.from_tensor_slices(np.stack(list(batches.as_numpy_iterator())))


def measure(args: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Returns the examples in a second, and in one of a core, of each row in each epoch."""
    data = in_memory(args)
    models = {name: build(args) for name in args.rows}
    epochs = 1 + args.epochs
    turns = Turns(args.rows)

    def train(name: str) -> None:
        try:
            callbacks = [make(epochs * len(data)) for make in ROWS[name]]
            callbacks.append(TakeTurns(turns, name))
            models[name].fit(data, epochs=epochs, callbacks=callbacks, verbose=0)
        finally:
            turns.leave(name)

    with concurrent.futures.ThreadPoolExecutor(len(models)) as pool:
        for training in [pool.submit(train, name) for name in models]:
            training.result()
    examples = len(data) * args.batch_size
    speeds = {}
    for name, seconds in turns.seconds.items():
        of_clock, of_cores = (examples / np.array(seconds[1:])).T  # The first traces and compiles.
        speeds[name] = {"clock": of_clock.tolist(), "cores": of_cores.tolist()}
    return speeds


def summary(speeds: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, Any]]:
    """Returns the median speed, and medians and quartiles of the ratios to the first row."""
    first = next(iter(speeds.values()))
    rows = {}
    for name, row in speeds.items():
        ratios = {key: np.divide(values, first[key]) for key, values in row.items()}
        quartiles = {key: np.quantile(values, (0.25, 0.5, 0.75)) for key, values in ratios.items()}
        rows[name] = {
            "examples_per_second": float(np.median(row["clock"])),
            "ratio": float(quartiles["clock"][1]),
            "ratio_quartiles": quartiles["clock"][::2].tolist(),
            "ratio_of_work": float(quartiles["cores"][1]),
            "ratio_of_work_quartiles": quartiles["cores"][::2].tolist(),
        }
    return rows


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Returns a table of the rows."""
    lines = [
        "| callbacks | examples/s | ratio | quartiles | ratio by time of cores | quartiles |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        clock, cores = row["ratio_quartiles"], row["ratio_of_work_quartiles"]
        lines.append(
            f"| {name} | {row['examples_per_second']:,.0f} "
            f"| {row['ratio']:.3f} | {clock[0]:.3f} to {clock[1]:.3f} "
            f"| {row['ratio_of_work']:.3f} | {cores[0]:.3f} to {cores[1]:.3f} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """Prints and writes a table, and returns its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=["nothing", "all"])
    parser.add_argument("--epochs", type=int, default=20, help="that are timed")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--steps-per-execution", type=int, default=50)
    parser.add_argument("--no-jit", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--train", default="train", help="split, such as train[:1000]")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS)
    args = parser.parse_args(arguments)
    speeds = measure(args)
    rows = summary(speeds)
    results = {"rows": rows, "speeds": speeds, **records.circumstances(args)}
    records.write(results, args.results)
    return records.finish(rows, table(rows), args.results)


if __name__ == "__main__":
    main()
