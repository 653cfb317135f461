"""Measures examples/s of models with several groups of latent variables.

Rows, and who takes turns in each:

    hierarchy       the convolutional hierarchy of `benchmarks.hierarchies`: `fit` of this package,
                    and the same layers, groups and parameters in PyTorch, with and without
                    `torch.compile` (`peers/torch_hierarchy.py`)
    layers_1, layers_5, layers_50
                    `fit` of the two stochastic layers of Burda et al. (2016) and of their one, with
                    so many samples

    python -m benchmarks.hierarchical_speed --rows hierarchy

A repetition is a number of whole epochs that take at least `--seconds`. Contenders take turns, each
repetition beginning with the next; the table has medians and quartiles over the repetitions. One
epoch to warm up does not count. PyTorch runs in a process of its own, with the virtual environment
of `benchmarks.throughput`, and is left out where it cannot be installed. Results go to
`benchmarks/results/hierarchical_speed.json` and `.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

import keras_vae as kv
from benchmarks import hierarchies, likelihood_tables, records, throughput
from benchmarks.peers import environment, hierarchy_shape

EXAMPLES = {"hierarchy": 6_000, "layers_1": 30_000, "layers_5": 12_000, "layers_50": 2_000}
Contender = Callable[[int], float]


def fit(
    parts: dict[str, Any], optimizer: Any, data: Any, model_class: type[kv.VAE] = kv.VAE
) -> Contender:
    """Returns the trainings of a model by this package, with the defaults of `compile`."""
    model = model_class(**parts)
    model.compile(optimizer)

    def run(epochs: int) -> float:
        clock = throughput.EpochClock()
        model.fit(data, epochs=epochs, callbacks=[clock], verbose=0)
        return clock.seconds

    return run


def of_hierarchy(data: Any, examples: int, worker: environment.Worker | None) -> dict[str, Any]:
    """Returns who trains the hierarchy."""
    row, rate = hierarchies.ROWS["convolutional"], hierarchy_shape.LEARNING_RATE
    parts = row.parts()
    found = {"fit": fit(parts, keras.optimizers.Adamax(rate), data, kv.HierarchicalVAE)}
    if worker is not None:
        weights = [*parts["bottom_up"].trainable_weights, *parts["top_down"].trainable_weights]
        request = {"network": "hierarchy", "num_samples": 1, "examples": examples}
        request |= {"batch_size": hierarchy_shape.BATCH_SIZE}
        request |= {"parameters": sum(math.prod(weight.shape) for weight in weights)}
        for name, compiled in (("torch", False), ("torch_compile", True)):
            asked = {**request, "compiled": compiled}
            found[name] = lambda epochs, asked=asked: worker.ask(**asked, epochs=epochs)["seconds"]
    return found


def of_layers(data: Any, num_samples: int) -> dict[str, Contender]:
    """Returns the trainings of one and of two stochastic layers."""

    def objective() -> kv.objectives.Objective:
        if num_samples == 1:
            return kv.objectives.ELBO(estimator="sticking_the_landing")
        return kv.objectives.ImportanceWeighted(num_samples, "doubly_reparameterized")

    return {
        "two_layers": fit(hierarchies.chain(objective), keras.optimizers.Adam(), data),
        "one_layer": fit(likelihood_tables.parts(objective()), keras.optimizers.Adam(), data),
    }


def measure(
    name: str, args: argparse.Namespace, worker: environment.Worker | None
) -> dict[str, list[float]]:
    """Returns the speeds of all contenders in a row, one of each repetition."""
    batch_size = hierarchy_shape.BATCH_SIZE
    split = f"train[:{args.examples or EXAMPLES[name]}]"
    data = kv.data.load(args.data, split, batch_size, binarize="static")
    examples = len(data) * batch_size
    if name == "hierarchy":
        contenders = of_hierarchy(data, examples, worker)
    else:
        contenders = of_layers(data, int(name.partition("_")[2]))
    return throughput.take_turns(contenders, dict.fromkeys(contenders, examples), args)


def table(rows: dict[str, dict[str, list[float]]]) -> str:
    """Returns a table of medians and quartiles, and of ratios to the first contender of a row."""
    lines = ["| row | contender | examples/s | quartiles | of the first |", "|---|---|---|---|---|"]
    for name in (name for name in EXAMPLES if name in rows):
        speeds = {key: np.array(values) for key, values in rows[name].items()}
        first = next(iter(speeds.values()))
        for contender, values in speeds.items():
            low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
            ratio = np.median(values / first)
            lines.append(
                f"| {name} | {contender} | {median:,.0f} | {low:,.0f} to {high:,.0f} "
                f"| {ratio:.2f} |"
            )
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def started(args: argparse.Namespace) -> Iterator[environment.Worker | None]:
    """Gives the process of PyTorch, or None if it is not to be had."""
    folder = args.environments / "torch"
    wanted = "hierarchy" in args.rows and not args.without_torch
    if not wanted or environment.install("torch", folder) is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as temporary:
        images = throughput.images_of(args, pathlib.Path(temporary))
        worker = environment.Worker("torch_hierarchy", folder, images, threads=records.cores())
        try:
            yield worker
        finally:
            worker.close()


def main(arguments: list[str] | None = None) -> dict[str, dict[str, list[float]]]:
    """Prints and writes a table, and returns its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=EXAMPLES, default=list(EXAMPLES))
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a repetition, at least")
    parser.add_argument("--examples", type=int, help="in place of those of the rows")
    parser.add_argument("--without-torch", action="store_true")
    parser.add_argument("--data", default="mnist", help='or "mnist_5k", without a download')
    parser.add_argument("--environments", type=pathlib.Path, default=environment.FOLDER)
    path = records.FOLDER / "hierarchical_speed.json"
    parser.add_argument("--results", type=pathlib.Path, default=path)
    args = parser.parse_args(arguments)
    given = {k: v for k, v in vars(args).items() if k not in ("environments", "results")}
    with started(args) as worker:
        for name in args.rows:
            found = records.circumstances(argparse.Namespace(**given, results=args.results))
            row = measure(name, args, worker)
            results = records.read(args.results)
            results["rows"][name] = row
            records.write({**results, **found}, args.results)
    rows = records.read(args.results)["rows"]
    return records.finish(rows, table(rows), args.results)


if __name__ == "__main__":
    main()
