"""Trains networks on MNIST, resumably and over several seeds, for comparisons of trainings.

Digits are binarized dynamically. A training that was interrupted goes on after its last whole
epoch; one that is done is not repeated.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import keras

import keras_vae as kv
from benchmarks import records, training

IMAGE, LATENT_DIM = (28, 28, 1), 50
Callbacks = Callable[[int], list[keras.callbacks.Callback]]


@dataclasses.dataclass(frozen=True)
class Run:
    """A training.

    Attributes:
        callbacks: Returns the callbacks of a training of so many steps.
        epochs: Passes over the training digits.
        rate: Learning rate of Adam where no callback drives it.
        decoder: Widths of the hidden layers of the decoder, tanh.
    """

    callbacks: Callbacks
    epochs: int
    rate: float = 1e-3
    decoder: Sequence[int] = (200, 200)


def build(run: Run, seed: int, args: argparse.Namespace) -> kv.VAE:
    """Makes and compiles a model: 784-200-200-50, and the decoder of the run."""
    keras.utils.set_random_seed(seed)
    model = kv.VAE(
        encoder=kv.networks.MLPEncoder((200, 200), activation="tanh"),
        decoder=kv.networks.MLPDecoder(IMAGE, run.decoder, activation="tanh"),
        posterior=kv.posteriors.DiagonalNormal(LATENT_DIM),
        likelihood=kv.likelihoods.Bernoulli(IMAGE),
        seed=seed,
    )
    model.initialize_output_bias(kv.data.load(args.data, args.train, shuffle=False))
    model.compile(keras.optimizers.Adam(run.rate), jit_compile=True, steps_per_execution=50)
    return model


def test_digits(args: argparse.Namespace) -> Any:
    """Returns the test digits, binarized the same way every time."""
    return kv.data.load(args.data, args.test, 500, binarize="dynamic", shuffle=False)


def train(run: Run, seed: int, folder: pathlib.Path, args: argparse.Namespace) -> kv.VAE:
    """Trains to the last epoch, from where it is."""
    test = test_digits(args)

    def load(done: int) -> Any:
        options = {"batch_size": args.batch_size, "binarize": "dynamic", "shuffle": True}
        return kv.data.load(args.data, args.train, initial_epoch=done, seed=seed, **options)

    def callbacks(steps: int) -> list[keras.callbacks.Callback]:
        return [*run.callbacks(steps), kv.callbacks.LatentMonitor(test, num_examples=2000)]

    return training.fit(
        folder,
        lambda _: build(run, seed, args),
        load,
        run.epochs,
        callbacks,
        validation_data=test,
    )


def judge(model: kv.VAE, folder: pathlib.Path, args: argparse.Namespace) -> dict[str, Any]:
    """Measures a trained model on the test digits, and tells how it came there."""
    test = test_digits(args)
    measured = model.evaluate(test, return_dict=True, verbose=0)
    estimate = kv.evaluation.log_likelihood(model, test, num_samples=args.num_samples)
    logs = training.logs(folder)
    return {
        "elbo": measured["elbo"],
        "kl": measured["kl"],
        "log_likelihood": estimate.mean,
        "log_likelihood_standard_error": estimate.standard_error,
        "active_units": kv.evaluation.active_units(model, test).count,
        "training_seconds": sum(line["seconds"] for line in logs),
        "curves": {
            name: [round(line[logged], 3) for line in logs]
            for name, logged in (("elbo", "val_elbo"), ("active_units", "active_units"))
        },
    }


def run_all(runs: dict[str, Run], args: argparse.Namespace) -> dict[str, Any]:
    """Trains and judges every run with every seed, unless it is done, and writes the results."""
    for seed in args.seeds:
        for name in args.rows:
            run = runs[name]
            if str(seed) in records.read(args.results)["rows"].get(name, {}):
                continue
            folder = args.runs / f"{name}_{run.epochs}_epochs_seed_{seed}"
            row = judge(train(run, seed, folder, args), folder, args)
            row["epochs"] = run.epochs
            records.add(args.results, name, seed, row, records.circumstances(args))
    return records.read(args.results)


def parser(doc: str, name: str, rows: Sequence[str]) -> argparse.ArgumentParser:
    """Returns a parser of what all these benchmarks take."""
    made = argparse.ArgumentParser(description=doc.splitlines()[0])
    made.add_argument("--rows", nargs="+", choices=rows, default=list(rows))
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    made.add_argument("--batch-size", type=int, default=100)
    made.add_argument("--num-samples", type=int, default=100, help="of log p(x)")
    made.add_argument("--data", default="mnist")
    made.add_argument("--train", default="train", help="split, such as train[:1000]")
    made.add_argument("--test", default="test")
    made.add_argument("--runs", type=pathlib.Path, default=f"runs/{name}")
    made.add_argument("--results", type=pathlib.Path, default=records.FOLDER / f"{name}.json")
    return made
