"""Measures how far beta-VAEs disentangle the factors of dSprites, over several seeds.

Rows: beta-VAEs trained on the images of TFDS (`TFDS_DATA_DIR`, or downloaded), and representations
that are made of the factors themselves, of which it is known what they should get:

    beta_1, beta_8  means of the posterior of a beta-VAE with 10 latent dimensions
    factor_35       those of a FactorVAE of the same networks, gamma growing to 35
    perfect         every factor in a dimension of its own, and noise in five more
    duplicated      every factor in two dimensions
    rotated         every factor and five dimensions of noise, turned by a random rotation
    random          noise in ten dimensions, the same for an image every time

    python -m benchmarks.dsprites --betas 1 8 --seeds 0 1 2
    python -m benchmarks.dsprites --betas --constructed --gammas 35 --seeds 0 1

Models and logs go to `runs/dsprites`, results to `benchmarks/results/dsprites.json` and `.md`. On
two cores a training takes some ten minutes, and the metrics of a row take three. A training that
was interrupted goes on after its last epoch; a row that is done is not repeated.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import keras_vae as kv
from benchmarks import records, training

IMAGE, LATENT_DIM, FILTERS = (64, 64, 1), 10, (16, 16, 32, 32)
CONSTRUCTED = ("perfect", "duplicated", "rotated", "random")
METRICS = {
    "beta_vae": "beta-VAE",
    "factor_vae": "FactorVAE",
    "mutual_information_gap": "MIG",
    "sap": "SAP",
    "dci_disentanglement": "DCI disent.",
    "dci_completeness": "DCI compl.",
    "dci_informativeness": "DCI inform.",
    "modularity": "modularity",
    "explicitness": "explicitness",
}


def objective_of(name: str) -> kv.objectives.Objective:
    """Returns the objective of a learned row: `"beta_8"` or `"factor_35"`."""
    kind, _, weight = name.partition("_")
    if kind == "beta":
        return kv.objectives.ELBO(float(weight))
    # The critic of the paper has 6 layers of 1,000 units, which cost more than all else here.
    hidden = [keras.layers.Dense(256, "leaky_relu") for _ in range(4)]
    critic = keras.Sequential([*hidden, keras.layers.Dense(1)])
    return kv.objectives.FactorVAE(critic, float(weight))


def build(name: str, seed: int, steps: int, args: argparse.Namespace) -> kv.VAE:
    """Makes and compiles a convolutional model for a training of so many steps."""
    keras.utils.set_random_seed(seed)
    model = kv.VAE(
        encoder=kv.networks.ConvEncoder(FILTERS, dense_units=128),
        decoder=kv.networks.ConvDecoder(IMAGE, FILTERS[::-1], dense_units=128),
        posterior=kv.posteriors.DiagonalNormal(LATENT_DIM),
        likelihood=kv.likelihoods.Bernoulli(IMAGE),
        objective=objective_of(name),
        seed=seed,
    )
    # Not of the training pipeline, of which this would be the first epoch.
    model.initialize_output_bias(kv.data.load("dsprites", args.train, shuffle=False))
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    optimizer = keras.optimizers.Adam(rate)
    if "discriminator" in model.trainable_parts:
        # As fast as the model at first, as in the paper: a critic that lags behind is deceived.
        critic = keras.optimizers.Adam(1e-3, beta_1=0.5, beta_2=0.9)
        optimizer = kv.optimizers.by_part(model, default=optimizer, discriminator=critic)
    model.compile(optimizer, steps_per_execution=20)
    return model


def train(name: str, seed: int, folder: pathlib.Path, args: argparse.Namespace) -> kv.VAE:
    """Trains to the last epoch, from where it is."""

    def load(done: int) -> Any:
        options = {"batch_size": args.batch_size, "shuffle": True, "seed": seed}
        return kv.data.load("dsprites", args.train, initial_epoch=done, **options)

    return training.fit(
        folder,
        lambda steps: build(name, seed, steps, args),
        load,
        args.epochs,
        callbacks=lambda steps: warm_up(name, steps),
    )


def warm_up(name: str, steps: int) -> list[keras.callbacks.Callback]:
    """Returns what keeps γ of a FactorVAE at 0 for a fifth of the steps, and lets it grow for one.

    With γ of 10 and more from the beginning, codes said nothing of x.
    """
    kind, _, weight = name.partition("_")
    if kind != "factor":
        return []
    growth = kv.schedules.Linear(0.0, float(weight), steps=steps // 5)
    late = kv.schedules.WarmupThen(growth, steps=steps // 5, start=0.0)
    return [kv.callbacks.HyperparameterSchedule("gamma", late)]


def constructed(name: str, data: kv.data.FactorData, seed: int) -> Callable[[Any], Any]:
    """Returns a representation made of the factors, as a function from positions to codes."""
    rng = np.random.default_rng(seed)
    factors = data.factors - data.factors.mean(axis=0)
    factors = factors / factors.std(axis=0)
    number, size = factors.shape
    codes = {
        "perfect": lambda: np.concatenate([factors, noise()], axis=1),
        "duplicated": lambda: np.concatenate([factors, factors], axis=1),
        "rotated": lambda: np.concatenate([factors, noise()], axis=1) @ rotation(),
        "random": lambda: np.concatenate([noise(), noise()], axis=1),
    }

    def noise() -> np.ndarray:
        return rng.standard_normal([number, size])

    def rotation() -> np.ndarray:
        return np.linalg.qr(rng.standard_normal([2 * size, 2 * size]))[0]

    table = codes[name]()
    return lambda positions: table[positions.astype(int)[:, 0]]


def judge_constructed(
    name: str, seed: int, data: kv.data.FactorData, args: argparse.Namespace
) -> dict[str, Any]:
    """Scores a constructed representation, which knows an image by its position."""
    positions = kv.data.FactorData(np.arange(len(data))[:, None], data.factors, data.names)
    return scores(constructed(name, data, seed), positions, seed, args)


def judge(
    model: kv.VAE, seed: int, data: kv.data.FactorData, args: argparse.Namespace
) -> dict[str, Any]:
    """Scores a trained model, and tells how good its images are."""
    images = kv.data.load("dsprites", args.train, 512, shuffle=False)
    measured = model.evaluate(images, return_dict=True, verbose=0)
    return {
        **{name: measured[name] for name in ("elbo", "kl", "reconstruction")},
        "active_units": kv.evaluation.active_units(model, images).count,
        "epochs": args.epochs,
        **scores(model, data, seed, args),
    }


def scores(
    representation: Any, data: kv.data.FactorData, seed: int, args: argparse.Namespace
) -> dict[str, float]:
    """Returns all scores of a representation."""
    sizes = {"num_train": args.num_train, "num_eval": args.num_eval}
    return kv.evaluation.disentanglement_scores(representation, data, seed, **sizes).as_dict()


def table(rows: dict[str, Any]) -> str:
    """Returns a table of the rows, with means and standard deviations over the seeds."""
    learned = sorted((name for name in rows if name not in CONSTRUCTED), key=_order_of)
    lines = [
        f"| representation | {' | '.join(METRICS.values())} |",
        f"|---|{'---|' * len(METRICS)}",
    ]
    for name in [*learned, *(name for name in CONSTRUCTED if name in rows)]:
        entries = [records.spread(rows[name], metric) for metric in METRICS]
        lines.append(f"| {name} | {' | '.join(entries)} |")
    lines += ["", "| model | seeds | KL | reconstruction | active units |", "|---|---|---|---|---|"]
    for name in learned:
        row = rows[name]
        parts = [records.spread(row, key, 1) for key in ("kl", "reconstruction")]
        units = ", ".join(str(row[seed]["active_units"]) for seed in sorted(row))
        lines.append(f"| {name} | {len(row)} | {' | '.join(parts)} | {units} of {LATENT_DIM} |")
    return "\n".join(lines) + "\n"


def _order_of(name: str) -> tuple[str, float]:
    kind, _, weight = name.partition("_")
    return kind, float(weight)


def run(name: str, seed: int, data: kv.data.FactorData, args: argparse.Namespace) -> dict[str, Any]:
    """Returns the scores of a row with one seed, after its training if it has one."""
    if name in CONSTRUCTED:
        return judge_constructed(name, seed, data, args)
    folder = args.runs / f"{name}_{args.epochs}_epochs_seed_{seed}"
    return judge(train(name, seed, folder, args), seed, data, args)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Runs the rows, unless they are done, and returns the results so far, by row and seed."""
    args = _parser().parse_args(arguments)
    data = kv.data.load_factors("dsprites")
    learned = [f"beta_{beta:g}" for beta in args.betas]
    learned += [f"factor_{gamma:g}" for gamma in args.gammas]
    names = [*learned, *args.constructed]
    for seed in args.seeds:
        for name in names:
            if str(seed) in records.read(args.results)["rows"].get(name, {}):
                continue
            row = run(name, seed, data, args)
            records.add(args.results, name, seed, row, circumstances(args))
    rows = records.read(args.results)["rows"]
    return records.finish(rows, table(rows), args.results)


def circumstances(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the configuration, the versions and the processor."""
    found = records.circumstances(args)
    found["configuration"] = {
        key: value
        for key, value in found["configuration"].items()
        if key not in ("betas", "gammas", "constructed")
    }
    found["versions"]["scikit-learn"] = importlib.metadata.version("scikit-learn")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--betas", type=float, nargs="*", default=[1.0, 8.0])
    parser.add_argument("--gammas", type=float, nargs="*", default=[], help="of FactorVAEs")
    parser.add_argument("--constructed", nargs="*", choices=CONSTRUCTED, default=CONSTRUCTED)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--train", default="train", help="split to train on, train[:1000] say")
    parser.add_argument("--num-train", type=int, default=10000, help="of the metrics")
    parser.add_argument("--num-eval", type=int, default=5000, help="of the metrics")
    parser.add_argument("--runs", type=pathlib.Path, default="runs/dsprites")
    results = records.FOLDER / "dsprites.json"
    parser.add_argument("--results", type=pathlib.Path, default=results)
    return parser


if __name__ == "__main__":
    main()
