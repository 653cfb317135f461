"""Measures examples/s of training a VQ-VAE: this package, and vector-quantize-pytorch.

Contenders, for each batch size:

    fit            `model.fit` of this package with the defaults of `compile`, Adam
    fit_50         the same with `steps_per_execution=50`
    torch          the same networks in PyTorch, quantized by vector-quantize-pytorch
    torch_compile  the same with `torch.compile` of the networks

    python -m benchmarks.vq_speed

The networks are those of Sonnet's VQ-VAE notebook, with 8x8 codes of 512 and 64 dimensions, on
images of CIFAR-10. PyTorch runs in a process of its own with a virtual environment, as in
`benchmarks.throughput`, which is made once. A repetition is a number of whole epochs that take at
least `--seconds`; contenders take turns, and the table gives medians over the repetitions, ratios
being medians of the ratios within them. One epoch to warm up does not count.

Results go to `benchmarks/results/vq_speed.json` and `.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

import keras_vae as kv
from benchmarks import codes, records
from benchmarks.peers import environment
from benchmarks.throughput import Contender, EpochClock, take_turns

RESULTS = records.FOLDER / "vq_speed.json"
PEER = "vector_quantize"
BATCH_SIZES = (32, 128)
LABELS = {
    "fit": "fit",
    "fit_50": "fit, 50 steps an execution",
    "torch": "vector-quantize-pytorch",
    "torch_compile": "vector-quantize-pytorch, torch.compile",
}


def fit(batch_size: int, args: argparse.Namespace, **options: Any) -> Contender:
    """Returns the trainings by this package."""
    quantizer = functools.partial(kv.posteriors.VectorQuantizer, (8, 8), 512, 64)
    model = kv.VQVAE(**codes.colours(quantizer, 64))
    model.compile(keras.optimizers.Adam(3e-4), **options)
    data = kv.data.load(args.data, f"train[:{args.examples}]", batch_size, drop_remainder=True)

    def run(epochs: int) -> float:
        clock = EpochClock()
        model.fit(data, epochs=epochs, callbacks=[clock], verbose=0)
        return clock.seconds

    return run


def torch(
    batch_size: int, args: argparse.Namespace, worker: environment.Worker, compiled: bool
) -> Contender:
    """Returns the trainings by the peer."""
    request = {"network": "codes", "num_samples": 1, "batch_size": batch_size}
    request |= {"examples": args.examples, "compiled": compiled}
    return lambda epochs: worker.ask(**request, epochs=epochs)["seconds"]


def measure(
    batch_size: int, args: argparse.Namespace, worker: environment.Worker | None
) -> dict[str, list[float]]:
    """Returns the speeds of all contenders, one of each repetition."""
    contenders = {
        "fit": fit(batch_size, args),
        "fit_50": fit(batch_size, args, steps_per_execution=50),
    }
    if worker is not None:
        contenders["torch"] = torch(batch_size, args, worker, compiled=False)
        contenders["torch_compile"] = torch(batch_size, args, worker, compiled=True)
    examples = args.examples // batch_size * batch_size
    return take_turns(contenders, dict.fromkeys(contenders, examples), args)


def table(rows: dict[str, dict[str, list[float]]]) -> str:
    """Returns a table of the rows, medians alone."""
    lines = ["| batch | contender | examples/s | to vector-quantize-pytorch |", "|---|---|---|---|"]
    for batch_size, speeds in rows.items():
        for name in (name for name in LABELS if name in speeds):
            values = np.array(speeds[name])
            ratio = f"{np.median(values / speeds['torch']):.2f}" if "torch" in speeds else ""
            cells = [batch_size, LABELS[name], f"{np.median(values):,.0f}", ratio]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def started(args: argparse.Namespace) -> Iterator[environment.Worker | None]:
    """Yields the process of the peer, or None if it cannot be installed or is not wanted."""
    folder = args.environments / PEER
    if args.alone or environment.install(PEER, folder) is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as scratch:
        path = pathlib.Path(scratch, "images.npy")
        data = kv.data.load(args.data, f"train[:{args.examples}]", args.examples, shuffle=False)
        np.save(path, next(iter(data)).numpy().reshape(args.examples, -1))
        module = environment.PEERS[PEER].module
        worker = environment.Worker(module, folder, path, records.cores())
        try:
            yield worker
        finally:
            worker.close()


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measures, and returns the speeds of all rows so far."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=list(BATCH_SIZES))
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--examples", type=int, default=3200)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--alone", action="store_true", help="without the peer")
    parser.add_argument("--environments", type=pathlib.Path, default=environment.FOLDER)
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS)
    args = parser.parse_args(arguments)
    results = records.read(args.results)
    with started(args) as worker:
        for batch_size in args.rows:
            results["rows"][str(batch_size)] = measure(batch_size, args, worker)
            records.write({**results, **records.machine()}, args.results)
    return records.finish(results["rows"], table(results["rows"]), args.results)


if __name__ == "__main__":
    main()
