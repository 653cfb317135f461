"""Measures what priors fitted after the training gain in log p(x), on MNIST.

Rows are models by their beta: 784-200-200-16 and back, trained on digits binarized anew in every
epoch. The smaller beta, the further the aggregate posterior is from N(0, I). Each prior is fitted
to a draw of q(z|x) for every training digit, and judged on the first test digits.

    python -m benchmarks.samplers --rows 1 0.2

Models go to `runs/samplers`, results to `benchmarks/results/samplers.json` and `.md`. On two cores
a row takes some ten minutes. A training that was interrupted goes on after its last epoch; a prior
that is judged is not fitted again.
"""

from __future__ import annotations

import argparse
import pathlib
import time
from typing import Any

import keras
import numpy as np

import keras_vae as kv
from benchmarks import records, training

IMAGE, LATENT_DIM = (28, 28, 1), 16
STANDARD, MIXTURE = "N(0, I)", "10 normals, full covariances"
PRIORS = {
    STANDARD: lambda: None,
    MIXTURE: lambda: kv.priors.MixtureOfNormals(LATENT_DIM, 10, covariance="full"),
    "autoregressive flow": lambda: kv.priors.AutoregressiveFlow(LATENT_DIM, num_flows=4),
    "two-stage": lambda: kv.priors.TwoStage(LATENT_DIM, (256, 256), num_samples=32),
}


def train(beta: float, folder: pathlib.Path, args: argparse.Namespace) -> kv.VAE:
    """Trains to the last epoch, from where it is."""
    keras.utils.set_random_seed(0)

    def load(done: int) -> Any:
        return kv.data.load(args.data, args.train, 256, binarize="dynamic", initial_epoch=done)

    return training.fit(folder, lambda _: build(beta), load, args.epochs)


def build(beta: float) -> kv.VAE:
    """Makes and compiles a model."""
    model = kv.VAE(
        encoder=kv.networks.MLPEncoder((200, 200)),
        decoder=kv.networks.MLPDecoder(IMAGE, (200, 200)),
        posterior=kv.posteriors.DiagonalNormal(LATENT_DIM),
        likelihood=kv.likelihoods.Bernoulli(IMAGE),
        objective=kv.objectives.ELBO(beta),
        seed=0,
    )
    model.compile(keras.optimizers.Adam(1e-3))
    return model


def judge(model: kv.VAE, reference: pathlib.Path, args: argparse.Namespace) -> dict[str, Any]:
    """Returns the estimate of log p(x) on the test digits, and its gain over the reference.

    The first to come becomes the reference. Of the same digits, most of the spread of log p(x) is
    in both, so that the gain is known far better than either.
    """
    test = kv.data.load(args.data, args.test, 125, binarize="static", shuffle=False)
    found = kv.evaluation.log_likelihood(model, test, num_samples=args.num_samples, seed=1)
    if not reference.exists():
        np.save(reference, found.per_example)
    gains = np.subtract(found.per_example, np.load(reference), dtype=np.float64)
    return {
        "log_likelihood": found.mean,
        "standard_error": found.standard_error,
        "effective_sample_size": found.effective_sample_size,
        "gain": float(np.mean(gains)),
        "gain_standard_error": float(np.std(gains, ddof=1) / np.sqrt(len(gains))),
    }


def run_row(beta: float, args: argparse.Namespace) -> None:
    """Judges a model with every prior, unless it is done."""
    folder = args.runs / f"beta_{beta:g}"
    model = train(beta, folder, args)
    fixed = kv.data.load(args.data, args.train, 256, binarize="static", shuffle=False)
    for name, make in PRIORS.items():
        results = records.read(args.results)
        row = results["rows"].setdefault(f"{beta:g}", {})
        if name in row:
            continue
        start, prior = time.perf_counter(), make()
        if prior is not None:
            # EM has no epochs.
            options = {} if name == MIXTURE else {"epochs": args.fit_epochs}
            kv.evaluation.fit_prior(model, fixed, prior, **options)
        judged = model if prior is None else model.with_prior(prior)
        seconds = time.perf_counter() - start
        row[name] = {"fit_seconds": seconds, **judge(judged, folder / "reference.npy", args)}
        records.write({**results, **records.circumstances(args)}, args.results)


def table(rows: dict[str, Any]) -> str:
    """Writes log p(x) and what it gains, a column for each beta."""
    betas = sorted(rows, key=float, reverse=True)
    head = " | ".join(f"beta = {beta}, log p(x) | gain | effective samples" for beta in betas)
    lines = [f"| prior | {head} |", "|---|" + "---|" * (3 * len(betas))]
    for name in PRIORS:
        cells = [cell for beta in betas for cell in _cells(rows[beta], name)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cells(row: dict[str, Any], name: str) -> list[str]:
    one = row[name]
    gain = f"{one['gain']:.2f} +- {one['gain_standard_error']:.2f}"
    size = f"{one['effective_sample_size']:.0f}"
    return [f"{one['log_likelihood']:.1f}", "" if name == STANDARD else gain, size]


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Runs the benchmark and returns its rows by beta."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", type=float, default=[1.0, 0.2], metavar="BETA")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--fit-epochs", type=int, default=60, help="at most, of the fits")
    parser.add_argument("--num-samples", type=int, default=200, help="of log p(x)")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--train", default="train")
    parser.add_argument("--test", default="test[:1000]")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/samplers"))
    results = records.FOLDER / "samplers.json"
    parser.add_argument("--results", type=pathlib.Path, default=results)
    args = parser.parse_args(arguments)
    for beta in args.rows:
        run_row(beta, args)
    rows = records.read(args.results)["rows"]
    return records.finish(rows, table(rows), args.results)


if __name__ == "__main__":
    main()
