"""Measures examples/s of one and of two workers, each pinned to one core.

The model is the convolutional VAE of `examples/mnist_5k.py`. Processes wait while others are
measured, so that the repetitions of all rows alternate. Two processes that do not communicate show
what the machine gives at most when both cores work. Linux, two idle cores, some minutes:

    python -m benchmarks.workers
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_vae as kv
from benchmarks import records

IMAGE = (28, 28, 1)
RESULTS = records.FOLDER / "workers.json"
# Row: the processes that are measured at the same time.
ROWS = {
    "one worker": ["alone 0"],
    "two workers": ["together 0", "together 1"],
    "two processes without communication": ["alone 0", "alone 1"],
}


def work(args: argparse.Namespace) -> None:
    """Trains for so many steps for each line of the input, and prints the examples/s."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    batch_size = args.batch_size * strategy.num_replicas_in_sync
    images = np.concatenate([*kv.data.load("mnist_5k", "test").as_numpy_iterator()])
    data = tf.data.Dataset.from_tensor_slices(np.round(images)).repeat().batch(batch_size)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = kv.VAE(
            encoder=kv.networks.ConvEncoder(),
            decoder=kv.networks.ConvDecoder(IMAGE),
            posterior=kv.posteriors.DiagonalNormal(16),
            likelihood=kv.likelihoods.Bernoulli(IMAGE),
        )
        model.compile(keras.optimizers.AdamW(2e-3))
    train = functools.partial(model.fit, data, verbose=0)
    train(steps_per_epoch=5)
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        train(steps_per_epoch=args.steps)
        print(args.steps * args.batch_size / (time.perf_counter() - start), flush=True)


def start(core: int, cluster: list[str], args: argparse.Namespace) -> subprocess.Popen[str]:
    """Starts a worker on a core, which is its number in the cluster, unless it is alone."""
    task = {"type": "worker", "index": core if len(cluster) > 1 else 0}
    config = json.dumps({"cluster": {"worker": cluster}, "task": task})
    options = ["--batch-size", str(args.batch_size), "--steps", str(args.steps), "--child"]
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.workers", *options],
        env={**os.environ, "TF_CONFIG": config},
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def free_addresses(count: int) -> list[str]:
    """Returns addresses of this machine that nobody listens to."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


def next_line(process: subprocess.Popen[str]) -> str:
    """Returns the next line of a process that must not have ended."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("A process ended early; its errors are above.")
    return line.strip()


def measure(args: argparse.Namespace) -> dict[str, list[float]]:
    """Returns the examples/s of all processes together, for each row and repetition."""
    addresses = free_addresses(4)
    rates: dict[str, list[float]] = {row: [] for row in ROWS}
    with contextlib.ExitStack() as stack:
        processes = {}
        for core in range(2):
            processes[f"together {core}"] = start(core, addresses[:2], args)
            processes[f"alone {core}"] = start(core, [addresses[2 + core]], args)
        for process in processes.values():
            stack.callback(process.kill)
        for process in processes.values():
            assert next_line(process) == "ready"
        for repetition in range(args.repetitions):
            for row, names in ROWS.items():
                for name in names:
                    print("go", file=processes[name].stdin, flush=True)
                rates[row].append(sum(float(next_line(processes[name])) for name in names))
                print(f"{repetition}: {row}, {rates[row][-1]:.0f} examples/s", flush=True)
    return rates


def efficiencies(rates: dict[str, list[float]]) -> dict[str, float]:
    """Returns the median over repetitions of each row's rate, for each core, to one worker's."""
    alone = rates["one worker"]
    return {
        row: statistics.median(
            rate / (len(ROWS[row]) * one) for rate, one in zip(values, alone, strict=True)
        )
        for row, values in rates.items()
    }


def table(results: dict[str, Any]) -> str:
    """Writes the results as a table."""
    lines = [
        "| | examples/s of each | examples/s together | of so many times one worker |",
        "|---|---|---|---|",
    ]
    for row, values in results["rows"].items():
        rate = statistics.median(values)
        cells = [row, f"{rate / len(ROWS[row]):,.0f}", f"{rate:,.0f}"]
        lines.append(f"| {' | '.join(cells)} | {results['efficiency'][row]:.2f} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Runs the benchmark and returns its results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=100, help="of each worker")
    parser.add_argument("--steps", type=int, default=100, help="of a repetition")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--child", action="store_true", help="works as one of the processes")
    args = parser.parse_args(arguments)
    if args.child:
        work(args)
        return {}
    del args.child
    rates = measure(args)
    results = {"rows": rates, "efficiency": efficiencies(rates), **records.circumstances(args)}
    records.write(results, args.results)
    args.results.with_suffix(".md").write_text(table(results))
    print("\n" + table(results))
    return results


if __name__ == "__main__":
    main()
