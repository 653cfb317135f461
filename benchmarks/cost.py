"""Measures how the cost of training grows: with samples, batch, data, epochs and steps.

    samples   time of a step against K, for two sizes of the encoder, and the encoder's own time;
              time = intercept + slope K, where the encoder is in the intercept alone
    batch     time of an example against the batch size
    memory    peak memory of a process against the number of examples and of epochs, for data that
              are made as they are needed, and for an array
    leak      memory of a process while `fit` makes 10,000 steps

    python -m benchmarks.cost
    python -m benchmarks.cost --rows samples leak

The network is that of Burda et al., 2016: 784-200-200-50 tanh with its mirrored decoder; all else
are defaults. Times are medians over repetitions in which the contenders take turns; beside the time
of the wall stands that of the processor, added up over all threads, which other work on the machine
disturbs less. Batches are of random binary pixels, one that is repeated where time is measured.
Where memory is, each row has a process of its own.

How memory grows with the number of samples in evaluation is in `benchmarks/log_likelihood.py`.
Results go to `benchmarks/results/cost.json` and `.md`, which `docs/figures/cost.py` draws. It takes
about six minutes.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_vae as kv
from benchmarks import records
from benchmarks.cost_report import BATCH, ENCODERS, IMAGE, report
from benchmarks.log_likelihood import peak_memory

RESULTS = records.FOLDER / "cost.json"
LATENT_DIM = 50
# A function that trains, and returns seconds per step: of the wall, and of the processor.
Contender = Callable[[], "np.ndarray"]


class Clock(keras.callbacks.Callback):
    """Adds up the time of epochs.

    Attributes:
        seconds: `[2]`, of the wall and of the processor in all threads.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds = np.zeros(2)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Starts."""
        self.start = now()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Stops."""
        self.seconds += now() - self.start


class MemoryLog(keras.callbacks.Callback):
    """Notes the memory of this process at the end of each epoch, MiB."""

    def __init__(self) -> None:
        super().__init__()
        self.mebibytes: list[float] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Notes it."""
        self.mebibytes.append(memory())


def now() -> np.ndarray:
    """Returns the time of the wall and of the processor, seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def memory() -> float:
    """Returns the memory that this process has, MiB; on Linux."""
    status = pathlib.Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


def build(num_samples: int = 1, encoder: Sequence[int] = ENCODERS["encoder"]) -> kv.IWAE:
    """Returns a compiled model."""
    model = kv.IWAE(
        encoder=kv.networks.MLPEncoder(encoder, activation="tanh"),
        decoder=kv.networks.MLPDecoder(IMAGE, (200, 200), activation="tanh"),
        posterior=kv.posteriors.DiagonalNormal(LATENT_DIM),
        likelihood=kv.likelihoods.Bernoulli(IMAGE),
        num_samples=num_samples,
    )
    model.compile(keras.optimizers.Adam())
    return model


def stream(batches: int, size: int = BATCH) -> tf.data.Dataset:
    """Returns batches that are made as they are needed."""
    shape = (size, *IMAGE)

    def batch(number: tf.Tensor) -> tf.Tensor:
        seed = tf.stack([number, tf.zeros_like(number)])
        bits = tf.random.stateless_uniform(shape, seed, 0, 2, tf.int32, alg="philox")
        return tf.cast(bits, tf.float32)

    return tf.data.Dataset.range(batches).map(batch).prefetch(2)


def fit(model: kv.IWAE, steps: int, size: int = BATCH) -> Contender:
    """Returns trainings of so many steps on one batch, which costs nothing to read."""
    data = stream(1, size).cache().repeat(steps)
    data = data.apply(tf.data.experimental.assert_cardinality(steps))

    def run() -> np.ndarray:
        clock = Clock()
        model.fit(data, callbacks=[clock], verbose=0)
        return clock.seconds / steps

    return run


def encode(model: kv.IWAE, steps: int) -> Contender:
    """Returns forward and backward passes of the encoder alone."""
    model.build((None, *IMAGE))
    x = next(iter(stream(1)))
    variables = [*model.encoder.trainable_variables, *model.posterior_head.trainable_variables]

    @tf.function(jit_compile=True, autograph=False)
    def step(x: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            q = model.posterior_head(model.encoder(x))
            total = tf.reduce_sum(q.mean() + q.stddev())
        return tape.gradient(total, variables)

    def run() -> np.ndarray:
        start = now()
        for _ in range(steps):
            gradients = step(x)
        gradients[0].numpy()
        return (now() - start) / steps

    return run


def take_turns(contenders: dict[str, Contender], repetitions: int) -> dict[str, Any]:
    """Returns milliseconds per step of each contender, one of each repetition."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in contenders}
    for run in contenders.values():
        run()  # Traces and compiles.
    names = list(contenders)
    for repetition in range(repetitions):
        first = repetition % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(1e3 * contenders[name]())
    return {
        name: dict(zip(("wall", "processor"), np.transpose(times).tolist(), strict=True))
        for name, times in found.items()
    }


def samples(args: argparse.Namespace) -> dict[str, Any]:
    """Returns milliseconds of a step by encoder and K, and of the encoder alone."""
    contenders = {}
    for name, widths in ENCODERS.items():
        for count in args.samples if name == "encoder" else args.samples_wide:
            contenders[f"{name}/{count}"] = fit(build(count, widths), args.steps)
        contenders[f"{name}/alone"] = encode(build(encoder=widths), args.steps)
    times = take_turns(contenders, args.repetitions)
    rows: dict[str, Any] = {name: {} for name in ENCODERS}
    for key, row in times.items():
        name, _, count = key.partition("/")
        rows[name][count] = row
    return rows


def batch(args: argparse.Namespace) -> dict[str, Any]:
    """Returns microseconds of an example by batch size."""
    model = build()
    steps = {size: max(args.steps, args.examples // size) for size in args.batch_sizes}
    contenders = {str(size): fit(model, steps[size], size) for size in args.batch_sizes}
    times = take_turns(contenders, args.repetitions)
    return {
        size: {clock: (1e3 * np.array(row[clock]) / int(size)).tolist() for clock in row}
        for size, row in times.items()
    }


def peak(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the peak memory of a training in this process."""
    kind, batches, epochs = args.child
    data: Any = stream(int(batches))
    if kind == "array":
        data = np.random.default_rng(0).integers(0, 2, (int(batches) * BATCH, *IMAGE), "uint8")
        data = data.astype("float32")
    build().fit(data, batch_size=BATCH if kind == "array" else None, epochs=int(epochs), verbose=0)
    return {"peak_mebibytes": peak_memory()}


def memories(args: argparse.Namespace) -> dict[str, Any]:
    """Returns peak memories by kind of data, number of examples and epochs."""
    trainings = [("stream", size, 1) for size in args.sizes]
    trainings += [("stream", args.size_of_epochs, epochs) for epochs in args.epochs]
    trainings += [("array", size, 1) for size in args.array_sizes]

    def measure(training: tuple[str, int, int]) -> float:
        kind, size, epochs = training
        return child(args, kind, size // BATCH, epochs)["peak_mebibytes"]

    different = list(dict.fromkeys(trainings))
    # They do not disturb each other's memory.
    with futures.ThreadPoolExecutor(records.cores()) as pool:
        found = list(pool.map(measure, different))
    return {"/".join(map(str, key)): value for key, value in zip(different, found, strict=True)}


def leak(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the memory of a process by the number of steps it has made."""
    return child(args, "leak", args.interval, args.leak_steps // args.interval)


def leaking(args: argparse.Namespace) -> dict[str, Any]:
    """Measures it in this process."""
    _, interval, epochs = args.child
    log = MemoryLog()
    options: dict[str, Any] = {"steps_per_epoch": int(interval), "epochs": int(epochs)}
    build().fit(stream(1000).repeat(), callbacks=[log], verbose=0, **options)
    steps = int(interval) * np.arange(1, int(epochs) + 1)
    return dict(zip(map(str, steps.tolist()), log.mebibytes, strict=True))


def child(args: argparse.Namespace, *given: Any) -> dict[str, Any]:
    """Returns what a process of its own measures."""
    command = [sys.executable, "-m", "benchmarks.cost", "--child", *map(str, given)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


MEASURES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "samples": samples,
    "batch": batch,
    "memory": memories,
    "leak": leak,
}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measures, prints and writes what is asked for, and returns all results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="of a repetition, at least")
    parser.add_argument("--examples", type=int, default=20_000, help="of a repetition of a batch")
    lists: dict[str, list[int]] = {
        "samples": [1, 5, 10, 20, 35, 50],
        "samples-wide": [1, 20, 50],
        "batch-sizes": [20, 50, 100, 200, 500, 1000, 2000],
        "sizes": [1000, 7500, 60_000, 120_000],
        "array-sizes": [1000, 15_000, 60_000],
        "epochs": [1, 4, 16],
    }
    for name, numbers in lists.items():
        parser.add_argument(f"--{name}", type=int, nargs="+", default=numbers)
    parser.add_argument("--size-of-epochs", type=int, default=7500)
    parser.add_argument("--leak-steps", type=int, default=10_000)
    parser.add_argument("--interval", type=int, default=500, help="between two looks, in steps")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--child", nargs=3, help="measures memory in this process")
    args = parser.parse_args(arguments)
    if args.child is not None:
        print(json.dumps(leaking(args) if args.child[0] == "leak" else peak(args)))
        return {}
    for name in args.rows:
        row = MEASURES[name](args)
        results = records.read(args.results)
        results["rows"][name] = row
        given = argparse.Namespace(**{k: v for k, v in vars(args).items() if k != "child"})
        found = records.circumstances(given)
        # Of each row, which may have been measured at another time.
        found["configuration"] = {**results.get("configuration", {}), name: found["configuration"]}
        records.write({**results, **found}, args.results)
        print(f"{name} is measured", flush=True)
    rows = records.read(args.results)["rows"]
    return records.finish(rows, report(rows), args.results)


if __name__ == "__main__":
    main()
