"""Measures time and memory of `log_likelihood` on the 10,000 test digits of MNIST.

Each number of samples runs in a process of its own, whose peak memory counts; 0 samples load the
model and the data alone. The network is that of Burda et al. (2016; one stochastic layer).

    python -m benchmarks.log_likelihood
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import time
from typing import Any

import keras

import keras_vae as kv
from benchmarks import records
from benchmarks.mnist_runs import Run, build

RESULTS = records.FOLDER / "log_likelihood.json"
_KIBIBYTES = 1024


def trained(path: pathlib.Path, args: argparse.Namespace) -> None:
    """Trains the model, unless it is there."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    model = build(Run(callbacks=lambda steps: [], epochs=args.epochs), 0, args)
    data = kv.data.load(args.data, args.train, 100, binarize="dynamic")
    model.fit(data, epochs=args.epochs, verbose=2)
    model.save(path)


def measure(path: pathlib.Path, num_samples: int, args: argparse.Namespace) -> dict[str, Any]:
    """Returns what one estimate takes, in this process."""
    model = keras.saving.load_model(path)
    test = kv.data.load(args.data, args.test, 128, binarize="dynamic", shuffle=False)
    row: dict[str, Any] = {}
    if num_samples:
        start = time.perf_counter()
        found = kv.evaluation.log_likelihood(model, test, num_samples, verbose=False)
        row = {
            "seconds": time.perf_counter() - start,
            "log_likelihood": found.mean,
            "standard_error": found.standard_error,
            "effective_sample_size": found.effective_sample_size,
        }
    return {**row, "peak_mebibytes": peak_memory()}


def peak_memory() -> float:
    """Returns the most memory that this process has had, MiB; on Linux.

    What `getrusage` tells includes the process that started this one.
    """
    status = pathlib.Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / _KIBIBYTES


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Writes the results as a table."""
    lines = [
        "| samples | time, s | peak memory, MiB | log p(x), nats | effective samples |",
        "|---|---|---|---|---|",
    ]
    for samples, row in sorted(rows.items(), key=lambda item: int(item[0])):
        cells = ["", f"{row['peak_mebibytes']:.0f}", "", ""]
        if "seconds" in row:
            estimate = f"{row['log_likelihood']:.2f} +- {row['standard_error']:.2f}"
            cells[0], cells[2] = f"{row['seconds']:.0f}", estimate
            cells[3] = f"{row['effective_sample_size']:.0f}"
        lines.append(f"| {int(samples):,} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Runs the benchmark and returns its rows by the number of samples."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", type=int, default=[0, 50, 500, 5000])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--train", default="train")
    parser.add_argument("--test", default="test")
    parser.add_argument("--runs", type=pathlib.Path, default="runs/log_likelihood")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--child", type=int, help="measures one row in this process")
    args = parser.parse_args(arguments)

    path = pathlib.Path(args.runs) / "model.keras"
    if args.child is not None:
        print(json.dumps(measure(path, args.child, args)))
        return {}
    trained(path, args)
    options = ["--data", args.data, "--test", args.test, "--runs", str(args.runs)]
    for row in args.rows:
        command = [sys.executable, "-m", "benchmarks.log_likelihood", "--child", str(row), *options]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        results = records.read(args.results)
        results["rows"][str(row)] = json.loads(output.splitlines()[-1])
        left_out = argparse.Namespace(**{k: v for k, v in vars(args).items() if k != "child"})
        records.write({**results, **records.circumstances(left_out)}, args.results)
        print(f"{row} samples: {results['rows'][str(row)]}", flush=True)
    rows = records.read(args.results)["rows"]
    return records.finish(rows, table(rows), args.results)


if __name__ == "__main__":
    main()
