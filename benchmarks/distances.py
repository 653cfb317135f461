"""Measures how far data sets of digits are from each other, in the features of a classifier.

Rows compare the 10,000 test digits of MNIST with others: of a grey pair and a binarized one, with
training digits (what two samples of the same data give), with digits of the VAE of
`examples/mnist_5k.py`, and with digits whose pixels are shuffled.

    python examples/train_classifier.py --data mnist
    python -m benchmarks.distances

Results go to `benchmarks/results/distances.json` and `.md`. On two cores it takes some minutes.
"""

from __future__ import annotations

import argparse
import importlib.util
import pathlib
from typing import Any

import keras
import numpy as np

import keras_vae as kv
from benchmarks import records

ROOT = pathlib.Path(__file__).parent.parent
BATCH = 500


def digits(args: argparse.Namespace, split: str, **options: Any) -> np.ndarray:
    """Returns digits as an array."""
    data = kv.data.load(args.data, split, BATCH, shuffle=False, **options)
    return np.concatenate(list(data.as_numpy_iterator()))[: args.count]


def demo_model(args: argparse.Namespace) -> kv.VAE:
    """Returns the VAE of the demo, trained unless it is there."""
    path = args.runs / "vae.keras"
    if path.exists():
        return keras.saving.load_model(path)
    spec = importlib.util.spec_from_file_location("demo", ROOT / "examples" / "mnist_5k.py")
    assert spec is not None and spec.loader is not None
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    model = demo.build("conv", 0)
    demo.train(model, args.epochs, 100, 0)
    args.runs.mkdir(parents=True, exist_ok=True)
    model.save(path)
    return model


def pairs(args: argparse.Namespace) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns real and other data by the name of their row."""
    grey, binary = digits(args, "test"), digits(args, "test", binarize="dynamic")
    model, starts = demo_model(args), range(0, len(grey), BATCH)
    means, draws = (
        np.concatenate([model.sample(BATCH, seed=at, mean=mean).numpy() for at in starts])
        for mean in (True, False)
    )
    flat = grey.reshape(len(grey), -1)
    shuffled = np.random.default_rng(0).permuted(flat, axis=1).reshape(grey.shape)
    return {
        "training digits": (grey, digits(args, "train")),
        "thresholded": (grey, digits(args, "test", binarize="threshold")),
        "binarized by draws": (grey, binary),
        "means of the VAE": (grey, means[: len(grey)]),
        "shuffled pixels": (grey, shuffled),
        "binarized training digits, to binarized": (
            binary,
            digits(args, "train", binarize="dynamic"),
        ),
        "draws of the VAE, to binarized": (binary, draws[: len(grey)]),
    }


def measure(real: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Returns all distances between features."""
    frechet = kv.evaluation.frechet_distance(real, other)
    kernel = kv.evaluation.kernel_distance(real, other)
    scores = kv.evaluation.manifold_scores(real, other)
    return {
        "frechet": frechet.distance,
        "kernel": kernel.distance,
        "kernel_standard_error": kernel.standard_error,
        **{name: getattr(scores, name) for name in ("precision", "recall", "density", "coverage")},
    }


def table(rows: dict[str, dict[str, float]], names: list[str]) -> str:
    """Writes the results as a table."""
    scores_of = ("precision", "recall", "density", "coverage")
    columns = ["to the test digits", "Frechet", "kernel", *scores_of]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name in names:
        row = rows[name]
        kernel = f"{row['kernel']:.2f} +- {row['kernel_standard_error']:.2f}"
        scores = [f"{row[key]:.2f}" for key in scores_of]
        lines.append(f"| {name} | {row['frechet']:.2f} | {kernel} | " + " | ".join(scores) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Runs the benchmark and returns its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--count", type=int, default=10_000, help="of examples a side")
    parser.add_argument("--epochs", type=int, default=40, help="of the VAE")
    classifier = pathlib.Path("runs/classifier/mnist.keras")
    parser.add_argument("--classifier", type=pathlib.Path, default=classifier)
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/distances"))
    results = records.FOLDER / "distances.json"
    parser.add_argument("--results", type=pathlib.Path, default=results)
    args = parser.parse_args(arguments)
    features = kv.evaluation.classifier_features(args.classifier)
    rows = {}
    for name, both in pairs(args).items():
        real, other = (features.predict(x, batch_size=BATCH, verbose=0) for x in both)
        rows[name] = measure(real, other)
        print(name, rows[name], flush=True)
    given = argparse.Namespace(**{k: v for k, v in vars(args).items() if k != "classifier"})
    records.write({"rows": rows, **records.circumstances(given)}, args.results)
    args.results.with_suffix(".md").write_text(table(rows, list(rows)))
    print("\n" + table(rows, list(rows)))
    return rows


if __name__ == "__main__":
    main()
