"""Measures examples/s of training: this package, hand-written steps, pythae, and the processor.

Contenders, in each row of model, K and batch size:

    fit            `model.fit` of this package with the defaults of `compile`, Adam
    fit_50         the same with `steps_per_execution=50`
    hand_written   a step written by hand, compiled by XLA as a whole: `hand_written.py`
    graph          the same without XLA
    jax            a step written by hand in JAX and optax: `peers/jax_step.py`
    torch_compile  a step written by hand in PyTorch, with `torch.compile`: `peers/torch_step.py`
    torch          the same without `torch.compile`
    pythae         models, trainer and data loader of pythae on PyTorch: `peers/pythae_trainer.py`
    gathered       the same with batches gathered from a tensor in memory
    products       products of large float32 matrices, what the processor can do

    python -m benchmarks.throughput
    python -m benchmarks.throughput --rows mlp_50_100 --without pythae jax torch

JAX, PyTorch and pythae run in processes of their own, each with a virtual environment in a folder
of `--environments` (by default that of the variable `KERAS_VAE_PEERS`, else `runs/throughput`).
They are made once, with the versions of `peers/environment.py`; what cannot be installed is left
out.

A repetition is a number of whole epochs that take at least `--seconds`. Contenders take turns, each
repetition beginning with the next; tables give medians over the repetitions, and ratios are medians
of the ratios within them. An epoch of `fit` counts from its `on_epoch_begin` to its `on_epoch_end`.
One epoch to warm up, with tracing and compilation, does not count for anyone.

The models are the network of Burda et al., 2016, 784-200-200-50 tanh with its mirrored decoder, and
the convolutional one of `examples/mnist_5k.py`. The digits are binarized once, and shuffled in each
epoch; for TensorFlow, by the pipeline of `kv.data.load`, and the hand-written steps in JAX and
PyTorch gather their batches in memory. Logs are the means of loss, ELBO, reconstruction and KL (of
pythae, of the loss).

Results go to `benchmarks/results/throughput.json` and `.md`, which `docs/figures/throughput.py`
draws. It takes about 45 minutes; rows that are measured anew replace the old ones.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_vae as kv
from benchmarks import records
from benchmarks.hand_written import IMAGE, HandWritten, operations_per_example
from benchmarks.peers import environment

RESULTS = records.FOLDER / "throughput.json"
MATRIX_SIZE = 2048
LABELS = {
    "fit": "fit",
    "fit_50": "fit, 50 steps an execution",
    "hand_written": "hand-written, XLA",
    "graph": "hand-written, graph",
    "jax": "JAX",
    "torch_compile": "PyTorch, torch.compile",
    "torch": "PyTorch",
    "pythae": "pythae",
    "gathered": "pythae, batches gathered in memory",
    "products": "products of matrices",
}
# Contenders that tables give ratios to, and what their columns are called.
BASES = {
    "hand_written": "to hand-written",
    "jax": "to JAX",
    "torch_compile": "to torch.compile",
    "pythae": "to pythae",
    "gathered": "to pythae, gathered",
}
# Peer of each contender that runs in another process, and what it is asked for besides the row.
PEERS: dict[str, tuple[str, dict[str, bool]]] = {
    "jax": ("jax", {}),
    "torch_compile": ("torch", {"compiled": True}),
    "torch": ("torch", {"compiled": False}),
    "pythae": ("pythae", {"gathered": False}),
    "gathered": ("pythae", {"gathered": True}),
}
ENVIRONMENTS = tuple(dict.fromkeys(peer for peer, _ in PEERS.values()))
# A function that runs so many epochs, and returns the seconds they took.
Contender = Callable[[int], float]


@dataclasses.dataclass(frozen=True)
class Row:
    """What is trained.

    Attributes:
        network: "mlp" or "conv".
        num_samples: K; the ELBO for K = 1.
        batch_size: Integer.
        examples: Of an epoch at most, so that it takes some seconds.
    """

    network: str
    num_samples: int
    batch_size: int
    examples: int

    def split(self, args: argparse.Namespace) -> str:
        """Returns the split that holds the examples."""
        return f"train[:{self.examples}]" if args.data == "mnist" else "train"


_EXAMPLES = {("mlp", 1): 60_000, ("mlp", 5): 30_000, ("mlp", 50): 6_000, ("conv", 1): 12_000}
ROWS = {
    f"{network}_{num_samples}_{batch_size}": Row(network, num_samples, batch_size, examples)
    for (network, num_samples), examples in _EXAMPLES.items()
    for batch_size in (100, 1000)
}


class EpochClock(keras.callbacks.Callback):
    """Adds up the time of epochs."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Starts."""
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Stops."""
        self.seconds += time.perf_counter() - self.start


def build(row: Row) -> kv.VAE:
    """Returns this package's model of a row."""
    networks = kv.networks
    latent_dim, encoder, decoder = {
        "mlp": (50, networks.MLPEncoder, networks.MLPDecoder),
        "conv": (16, networks.ConvEncoder, networks.ConvDecoder),
    }[row.network]
    parts = {
        "encoder": encoder(),
        "decoder": decoder(IMAGE),
        "posterior": kv.posteriors.DiagonalNormal(latent_dim),
        "likelihood": kv.likelihoods.Bernoulli(IMAGE),
    }
    if row.num_samples == 1:
        return kv.VAE(**parts)
    return kv.IWAE(**parts, num_samples=row.num_samples)


def load(row: Row, args: argparse.Namespace, **options: Any) -> tf.data.Dataset:
    """Returns the digits of a row."""
    options = {"batch_size": row.batch_size, "binarize": "static", **options}
    return kv.data.load(args.data, row.split(args), **options)


def fit(row: Row, args: argparse.Namespace, **options: Any) -> Contender:
    """Returns the trainings by this package."""
    model, data = build(row), load(row, args)
    model.compile(keras.optimizers.Adam(), **options)

    def run(epochs: int) -> float:
        clock = EpochClock()
        model.fit(data, epochs=epochs, callbacks=[clock], verbose=0)
        return clock.seconds

    return run


def hand_written(row: Row, args: argparse.Namespace, jit_compile: bool) -> Contender:
    """Returns the trainings by hand."""
    model, data = HandWritten(row.network, row.num_samples, jit_compile), load(row, args)

    def run(epochs: int) -> float:
        start = time.perf_counter()
        for _ in range(epochs):
            model.epoch(data)
        return time.perf_counter() - start

    return run


def peer(
    row: Row, examples: int, worker: environment.Worker, options: dict[str, bool]
) -> Contender:
    """Returns the trainings by a peer."""
    request: dict[str, Any] = {"network": row.network, "num_samples": row.num_samples}
    request |= {"batch_size": row.batch_size, "examples": examples, **options}
    return lambda epochs: worker.ask(**request, epochs=epochs)["seconds"]


def products() -> Contender:
    """Returns products of large matrices."""
    a, b = (tf.random.stateless_normal([MATRIX_SIZE, MATRIX_SIZE], (0, seed)) for seed in (1, 2))

    def run(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            c = tf.matmul(a, b)
        c.numpy()
        return time.perf_counter() - start

    return run


def measure(
    row: Row, args: argparse.Namespace, workers: dict[str, environment.Worker]
) -> dict[str, Any]:
    """Returns the speeds of all contenders in a row, one of each repetition."""
    examples = len(load(row, args)) * row.batch_size
    contenders = {
        "fit": fit(row, args),
        "fit_50": fit(row, args, steps_per_execution=50),
        "hand_written": hand_written(row, args, jit_compile=True),
        "graph": hand_written(row, args, jit_compile=False),
        "products": products(),
    }
    for name, (of_peer, options) in PEERS.items():
        if of_peer in workers:
            contenders[name] = peer(row, examples, workers[of_peer], options)
    sizes = dict.fromkeys(contenders, examples) | {"products": 2 * MATRIX_SIZE**3}
    speeds = take_turns(contenders, sizes, args)
    flop = operations_per_example(HandWritten(row.network, row.num_samples))
    return {"speeds": speeds, "flop_per_example": flop, "examples": examples}


def take_turns(
    contenders: Mapping[str, Contender], sizes: Mapping[str, int], args: argparse.Namespace
) -> dict[str, list[float]]:
    """Returns the speeds of all contenders, one of each repetition.

    Each trains for at least `args.seconds` at a time, and another one begins each repetition.

    Args:
        contenders: What takes turns, by name.
        sizes: How much of what is counted an epoch of each holds.
        args: Those of the command: `seconds` and `repetitions`.
    """
    epochs = {}
    for name, run in contenders.items():
        run(1)
        epochs[name] = math.ceil(args.seconds / run(1))
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for repetition in range(args.repetitions):
        first = repetition % len(names)
        for name in names[first:] + names[:first]:
            speeds[name].append(epochs[name] * sizes[name] / contenders[name](epochs[name]))
    return speeds


def summary(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns medians and quartiles of each contender: speeds, and ratios of speeds.

    `of_products` is the part of the processor's rate of matrix products that a contender reaches.
    """
    speeds = {name: np.array(values) for name, values in row["speeds"].items()}
    reached = speeds.pop("products")
    bases = {name: speeds[name] for name in BASES if name in speeds}
    rows = {}
    for name, values in speeds.items():
        ratios = {f"to_{base}": values / of_base for base, of_base in bases.items()}
        ratios["of_products"] = values * row["flop_per_example"] / reached
        rows[name] = {"examples_per_second": _quartiles(values)}
        rows[name] |= {key: _quartiles(ratio) for key, ratio in ratios.items()}
    return rows


def _quartiles(values: np.ndarray) -> list[float]:
    return np.quantile(values, (0.25, 0.5, 0.75)).tolist()


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Returns a table of the rows, medians alone."""
    bases = [base for base in BASES if any(base in row["speeds"] for row in rows.values())]
    columns = ["model", "K", "batch", "contender", "examples/s", "quartiles"]
    columns += [*(BASES[base] for base in bases), "of matrix products"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name in (name for name in ROWS if name in rows):
        row, of_row = ROWS[name], summary(rows[name])
        for contender in (contender for contender in LABELS if contender in of_row):
            found = of_row[contender]
            low, speed, high = found["examples_per_second"]
            ratios = [found.get(key) for key in (*(f"to_{base}" for base in bases), "of_products")]
            cells = [f"{ratio[1]:.2f}" if ratio else "" for ratio in ratios]
            lines.append(
                f"| {row.network} | {row.num_samples} | {row.batch_size} | {LABELS[contender]} "
                f"| {speed:,.0f} | {low:,.0f} to {high:,.0f} | {' | '.join(cells)} |"
            )
    return "\n".join(lines) + "\n"


def images_of(args: argparse.Namespace, folder: pathlib.Path) -> pathlib.Path:
    """Writes all digits, binarized once, and returns the file."""
    options = {"binarize": "static", "shuffle": False}
    batches = kv.data.load(args.data, "train", 1000, **options).as_numpy_iterator()
    path = folder / "images.npy"
    np.save(path, np.concatenate(list(batches)).reshape(-1, math.prod(IMAGE)).astype("uint8"))
    return path


@contextlib.contextmanager
def started(
    args: argparse.Namespace,
) -> Iterator[tuple[dict[str, environment.Worker], dict[str, str]]]:
    """Gives the processes of the peers that can be had, by name, and the versions they run."""
    versions = {}
    for name in (name for name in ENVIRONMENTS if name not in args.without):
        found = environment.install(name, args.environments / name)
        if found is not None:
            versions[name] = found
    with contextlib.ExitStack() as stack:
        workers = {}
        if versions:
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
            images = images_of(args, folder)
        for name in versions:
            module, folder = environment.PEERS[name].module, args.environments / name
            workers[name] = environment.Worker(module, folder, images, threads=records.cores())
            stack.callback(workers[name].close)
        yield workers, {k: v for found in versions.values() for k, v in found.items()}


def main(arguments: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """Prints and writes a table, and returns its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a repetition, at least")
    parser.add_argument("--without", nargs="+", choices=ENVIRONMENTS, default=[])
    parser.add_argument("--data", default="mnist", help='or "mnist_5k", without a download')
    parser.add_argument("--environments", type=pathlib.Path, default=environment.FOLDER)
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS)
    args = parser.parse_args(arguments)
    given = {k: v for k, v in vars(args).items() if k not in ("environments", "without")}
    with started(args) as (workers, versions):
        for name in args.rows:
            row = measure(ROWS[name], args, workers)
            found = records.circumstances(argparse.Namespace(**given))
            found["versions"] |= versions
            results = records.read(args.results)
            results["rows"][name] = row
            records.write({**results, **found}, args.results)
            print(f"{name} is measured", flush=True)
    rows = records.read(args.results)["rows"]
    return records.finish(rows, table(rows), args.results)


if __name__ == "__main__":
    main()
