"""Trains one network on MNIST by several objectives, and compares what comes out.

Rows, on the 60,000 training and 10,000 test digits of TFDS (`TFDS_DATA_DIR`, or downloaded):

    vae      ELBO, dynamic binarization
    iwae     importance-weighted bound with K = 50, else the same
    dreg     the same with the doubly reparameterized gradient
    geco     least rate with a squared error of kappa^2 = 16 an image, on the grey images

A row that was interrupted goes on after its last whole epoch when it is run again:

    python -m benchmarks.mnist_objectives --rows vae iwae

Models and logs go to `runs/mnist_objectives`, results to `benchmarks/results/mnist_objectives.json`
and `.md`. On two cores: vae and geco take minutes, the rows with K = 50 half an hour each.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

import keras

import keras_vae as kv
from benchmarks import records, training

IMAGE, LATENT_DIM, KAPPA = (28, 28, 1), 50, 4.0
RESULTS = records.FOLDER / "mnist_objectives.json"


@dataclasses.dataclass(frozen=True)
class Row:
    """One training: an objective, and what else differs."""

    objective: Callable[[], kv.objectives.Objective]
    likelihood: Callable[[tuple[int, ...]], Any] = kv.likelihoods.Bernoulli
    binarize: str | None = "dynamic"
    callbacks: Callable[[], list[keras.callbacks.Callback]] = list


ROWS = {
    "vae": Row(kv.objectives.ELBO),
    "iwae": Row(lambda: kv.objectives.ImportanceWeighted(50)),
    "dreg": Row(lambda: kv.objectives.ImportanceWeighted(50, "doubly_reparameterized")),
    "geco": Row(
        lambda: kv.objectives.GECO(kv.objectives.SquaredError(KAPPA)),
        kv.likelihoods.Normal,
        None,
        lambda: [kv.callbacks.GECO()],
    ),
}


def build(row: Row, steps: int, args: argparse.Namespace) -> kv.VAE:
    """Makes and compiles the network of Burda et al., 2016, with one stochastic layer."""
    keras.utils.set_random_seed(args.seed)
    model = kv.VAE(
        encoder=kv.networks.MLPEncoder((200, 200), activation="tanh"),
        decoder=kv.networks.MLPDecoder(IMAGE, (200, 200), activation="tanh"),
        posterior=kv.posteriors.DiagonalNormal(LATENT_DIM),
        likelihood=row.likelihood(IMAGE),
        objective=row.objective(),
        seed=args.seed,
    )
    model.initialize_output_bias(kv.data.load(args.data, args.train, shuffle=False))
    warm_up = max(1, steps // 20)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warm_up), 1e-3, warmup_target=args.peak, warmup_steps=warm_up
    )
    model.compile(keras.optimizers.Adam(rate, epsilon=1e-4), jit_compile=True)
    return model


def train(name: str, args: argparse.Namespace) -> kv.VAE:
    """Trains a row to its last epoch, from where it is."""
    row = ROWS[name]

    def load(done: int) -> Any:
        options = {"batch_size": args.batch_size, "binarize": row.binarize, "seed": args.seed}
        return kv.data.load(args.data, args.train, initial_epoch=done, shuffle=True, **options)

    return training.fit(
        args.runs / name,
        lambda steps: build(row, steps, args),
        load,
        args.epochs,
        lambda _: row.callbacks(),
    )


def judge(name: str, model: kv.VAE, args: argparse.Namespace) -> dict[str, Any]:
    """Measures a trained row."""
    row = ROWS[name]
    options = {"binarize": row.binarize, "shuffle": False}
    test = kv.data.load(args.data, args.test, **options)
    measured = model.evaluate(
        kv.data.load(args.data, args.train, **options), return_dict=True, verbose=0
    )
    results = {
        "training": measured,
        "test": model.evaluate(test, return_dict=True, verbose=0),
        "active_units": kv.evaluation.active_units(model, test).count,
    }
    if row.binarize is not None:
        estimate = kv.evaluation.log_likelihood(model, test, num_samples=args.num_samples)
        results["nll"] = -estimate.mean
        results["nll_standard_error"] = estimate.standard_error
        results["effective_sample_size"] = estimate.effective_sample_size
    logs = training.logs(args.runs / name)
    results["training_seconds"] = sum(line["seconds"] for line in logs)
    return results


def write(results: dict[str, Any], path: pathlib.Path) -> str:
    """Writes all rows as JSON, and as a table which it returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    lines = [
        "| row | passes | test NLL, nats | samples | active units | test KL | training C / kappa^2 "
        "| time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in (name for name in ROWS if name in results):
        row = results[name]
        nll = f"{row['nll']:.2f} +- {row['nll_standard_error']:.2f}" if "nll" in row else "-"
        constraint = row["training"].get("constraint")
        violation = "-" if constraint is None else f"{100.0 * constraint / KAPPA**2:+.1f} %"
        lines.append(
            f"| {name} | {row['configuration']['epochs']} | {nll} "
            f"| {row['configuration']['num_samples']} "
            f"| {row['active_units']} of {LATENT_DIM} | {row['test']['kl']:.2f} | {violation} "
            f"| {row['training_seconds'] / 60:.0f} min |"
        )
    table = "\n".join(lines) + "\n"
    path.with_suffix(".md").write_text(table)
    return table


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Runs the rows and returns the results of all rows so far."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--peak", type=float, default=2e-3, help="of the learning rate")
    parser.add_argument("--num-samples", type=int, default=5000, help="of the NLL")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--train", default="train", help="split, such as train[:1000]")
    parser.add_argument("--test", default="test")
    parser.add_argument("--runs", type=pathlib.Path, default="runs/mnist_objectives")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS)
    args = parser.parse_args(arguments)
    results = json.loads(args.results.read_text()) if args.results.exists() else {}
    for name in args.rows:
        row = judge(name, train(name, args), args)
        given = ("epochs", "batch_size", "peak", "num_samples", "seed", "data", "train", "test")
        row["configuration"] = {key: getattr(args, key) for key in given}
        found = records.circumstances(args)
        row |= {key: found[key] for key in ("versions", "processor")}
        results[name] = row
        print(write(results, args.results))
    return results


if __name__ == "__main__":
    main()
