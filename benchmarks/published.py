"""What the tables beside published numbers have in common: their rows, trainings and records.

A row has parts of a model, data and a recipe, which is all that its training depends on beside the
seed. A training that was interrupted goes on after the last epoch that was kept; one that is done
is not repeated, and one with another recipe does not go on in its place.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

import keras_vae as kv
from benchmarks import records, training

# How often a training is measured on the test data, for its curve; nothing is chosen by it.
POINTS_OF_A_CURVE = 40


def _muon(rate: float, epsilon: float) -> keras.optimizers.Optimizer:
    # Later than the oldest Keras that the package runs with, so not named when it is imported.
    return keras.optimizers.Muon(rate, epsilon=epsilon, weight_decay=None, adam_weight_decay=0.0)


OPTIMIZERS = {"adam": keras.optimizers.Adam, "muon": _muon}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a row is trained, in numbers that its results record.

    The defaults were chosen by trainings of 30 passes over 50,000 digits, judged on the other
    10,000 of the training set. -log p(x) by 200 samples, nats, one seed: Adam with 2e-3 and batches
    of 100 94.7; sticking the landing 94.3; with 4e-3 and a warm-up of the KL 93.9. Muon with
    batches of 200 and 4e-3 92.2, 8e-3 90.8, 16e-3 97.8; batches of 500 and 8e-3 91.3, in half of
    the time. In trainings of 328 passes, at the highest rate, batches of 200 stay 7 nats behind
    batches of 500.

    Attributes:
        passes: Over the training data.
        batch_size: Integer.
        optimizer: Name of one of `OPTIMIZERS`.
        learning_rate: The highest, where it goes through a cycle.
        cycle: Whether the learning rate rises and falls by a half cosine; else it is constant.
        warmup: Fraction of the steps in which it rises.
        final_division: The learning rate at the end is the highest divided by it.
        epsilon: Of Adam, which Muon leaves all but matrices to.
        kl_warmup: Fraction of the steps in which beta rises from 0 to 1.
    """

    passes: int
    batch_size: int = 500
    optimizer: str = "muon"
    learning_rate: float = 8e-3
    cycle: bool = True
    warmup: float = 0.05
    final_division: float = 1e3
    epsilon: float = 1e-4
    kl_warmup: float = 0.1

    def changed(self, texts: Sequence[str]) -> Recipe:
        """Returns the recipe with some numbers changed, each given as `name=value`."""
        kinds = {field.name: type(getattr(self, field.name)) for field in dataclasses.fields(self)}
        given = dict(text.split("=", 1) for text in texts)
        for name in given:
            if name not in kinds:
                raise SystemExit(f"--recipe: no {name}, but {', '.join(kinds)}")
        return dataclasses.replace(
            self, **{name: _number(name, kinds[name], text) for name, text in given.items()}
        )


@dataclasses.dataclass(frozen=True)
class Data:
    """Which images, and what becomes of them.

    Attributes:
        name: As of `kv.data.load`.
        binarize: As of `kv.data.load`.
        options: What else of `kv.data.load`.
    """

    name: str = "mnist"
    binarize: str | None = "dynamic"
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def load(self, split: str, batch_size: int, **options: Any) -> tf.data.Dataset:
        """Returns batches."""
        options = {"binarize": self.binarize, **self.options, **options}
        return kv.data.load(self.name, split, batch_size, **options)


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        label: What it is called.
        parts: Makes the arguments of `kv.VAE`.
        recipe: How it is trained.
        published: Numbers of the literature, by the name of the column.
        data: On what.
        callbacks: Makes callbacks of `fit` beside those of the recipe.
        bias_of_data: Whether the bias of the output starts at the mean of the data.
    """

    label: str
    parts: Callable[[], dict[str, Any]]
    recipe: Recipe
    published: Mapping[str, Any]
    data: Data = Data()
    callbacks: Callable[[], list[keras.callbacks.Callback]] = list
    bias_of_data: bool = True


def _number(name: str, kind: type, text: str) -> Any:
    """Returns a number of a recipe from its text, or ends the command."""
    if name == "optimizer" and text not in OPTIMIZERS:
        raise SystemExit(f"--recipe: optimizer must be one of {', '.join(OPTIMIZERS)}, not {text}")
    known = {"true": True, "false": False}
    try:
        return known[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise SystemExit(f"--recipe: {name} must be of type {kind.__name__}, not {text}") from None


# Measures a trained model on the test data.
Judge = Callable[[kv.VAE, tf.data.Dataset, argparse.Namespace], dict[str, Any]]


def build(row: Row, recipe: Recipe, seed: int, split: str) -> kv.VAE:
    """Makes and compiles the model of a row."""
    keras.utils.set_random_seed(seed)
    model = kv.VAE(**row.parts(), seed=seed)
    if row.bias_of_data:
        # Of the intensities, not of one draw of them.
        model.initialize_output_bias(row.data.load(split, 500, binarize=None, shuffle=False))
    optimizer = OPTIMIZERS[recipe.optimizer]
    model.compile(optimizer(recipe.learning_rate, epsilon=recipe.epsilon))
    return model


def train(row: Row, recipe: Recipe, seed: int, folder: pathlib.Path, args: Any) -> kv.VAE:
    """Trains to the last pass, from where the folder has it."""
    _check_recipe({**dataclasses.asdict(recipe), **_data_of(row, seed, args)}, folder)

    def callbacks(steps: int) -> list[keras.callbacks.Callback]:
        made = row.callbacks()
        if recipe.cycle:
            numbers = {"warmup": recipe.warmup, "final_division": recipe.final_division}
            rate = recipe.learning_rate
            made.append(kv.callbacks.OneCycleLearningRate(rate, steps, **numbers))
        if recipe.kl_warmup:
            rising = kv.schedules.Linear(0.0, 1.0, max(1, round(recipe.kl_warmup * steps)))
            made.append(kv.callbacks.KLAnnealing(rising))
        return made

    return training.fit(
        folder,
        lambda _: build(row, recipe, seed, args.train),
        lambda done: row.data.load(
            args.train, recipe.batch_size, shuffle=True, seed=seed, initial_epoch=done
        ),
        recipe.passes,
        callbacks,
        every=args.every,
        validation_data=row.data.load(args.test, 500, shuffle=False),
        validation_freq=max(1, recipe.passes // POINTS_OF_A_CURVE),
    )


def _data_of(row: Row, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    return {"data": row.data.name, "train": args.train, "seed": seed}


def _check_recipe(wanted: dict[str, Any], folder: pathlib.Path) -> None:
    """Notes the recipe in a new folder, and ends where the folder has another one."""
    path = folder / "recipe.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(wanted, indent=1) + "\n")
    noted = json.loads(path.read_text())
    if noted != wanted:
        differing = [name for name in wanted if noted.get(name) != wanted[name]]
        raise SystemExit(
            f"{folder} holds a training with another {', '.join(differing)}: remove it, or name "
            "another folder by --runs"
        )


def run(rows: Mapping[str, Row], judge: Judge, args: argparse.Namespace) -> dict[str, Any]:
    """Trains and judges what a command asks for, and returns the results of all rows so far.

    Args:
        rows: By name.
        judge: Measures a trained model.
        args: What `parser` gives.
    """
    for seed in args.seeds:
        for key in args.rows:
            row = rows[key]
            if args.data is not None:
                row = dataclasses.replace(row, data=dataclasses.replace(row.data, name=args.data))
            recipe = row.recipe.changed(args.recipe)
            done = records.read(args.results)["rows"].get(key, {}).get(str(seed), {})
            wanted = _circumstances(recipe, row, args)
            if all(done.get(name) == wanted[name] for name in ("recipe", "configuration")):
                continue
            folder = args.runs / f"{key}_seed_{seed}"
            model = train(row, recipe, seed, folder, args)
            test = row.data.load(args.test, 500, shuffle=False)
            judged = judge(model, test, args)
            found = {**judged, **_course(folder, recipe, row, args), **wanted}
            records.add(args.results, key, seed, found, {})
            print(f"{key}, seed {seed}: {judged}", flush=True)
    return records.read(args.results)["rows"]


def _course(
    folder: pathlib.Path, recipe: Recipe, row: Row, args: argparse.Namespace
) -> dict[str, Any]:
    """Returns how long the training took, and its curve."""
    logs = training.logs(folder)
    seconds = [line["seconds"] for line in logs]
    examples = len(row.data.load(args.train, recipe.batch_size)) * recipe.batch_size
    measured = [line for line in logs if "val_elbo" in line]
    return {
        "training_seconds": sum(seconds),
        "examples_per_second": examples / statistics.median(seconds),
        "curve": {
            "passes": [line["epoch"] + 1 for line in measured],
            "test_elbo": [round(line["val_elbo"], 3) for line in measured],
        },
    }


def _circumstances(recipe: Recipe, row: Row, args: argparse.Namespace) -> dict[str, Any]:
    found = records.circumstances(args)
    given = {name: found["configuration"][name] for name in ("train", "test", "num_samples")}
    given["data"] = row.data.name
    return {**found, "configuration": given, "recipe": dataclasses.asdict(recipe)}


def estimate(seeds: Mapping[str, Mapping[str, Any]], key: str, digits: int = 2) -> str:
    """Returns the mean over the seeds with its standard error over the test examples as text.

    Of several seeds, their standard deviation follows.
    """
    values = [seed[key] for seed in seeds.values()]
    error = statistics.mean(seed[f"{key}_standard_error"] for seed in seeds.values())
    text = f"{statistics.mean(values):.{digits}f} +- {error:.{digits}f}"
    return f"{text} (seeds {statistics.stdev(values):.{digits}f})" if len(values) > 1 else text


def minutes(seeds: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the mean time of a training."""
    return f"{statistics.mean(seed['training_seconds'] for seed in seeds.values()) / 60:.0f} min"


def speed(seeds: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the median number of examples/s."""
    return f"{statistics.median(seed['examples_per_second'] for seed in seeds.values()):,.0f}"


def markdown(heads: Sequence[str], body: Sequence[Sequence[Any]]) -> str:
    """Returns a table."""
    lines = [heads, ["---"] * len(heads), *body]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def parser(doc: str, name: str, rows: Mapping[str, Row]) -> argparse.ArgumentParser:
    """Returns a parser of what all these tables take.

    Args:
        doc: What the command is for, in its first line.
        name: Of the table, for its files.
        rows: By name.
    """
    made = argparse.ArgumentParser(description=doc.splitlines()[0])
    made.add_argument("--rows", nargs="+", choices=rows, default=list(rows))
    made.add_argument("--seeds", type=int, nargs="+", default=[0])
    text = "numbers of the recipe to change, such as passes=30 learning_rate=1e-3"
    made.add_argument("--recipe", nargs="+", default=[], metavar="NAME=VALUE", help=text)
    made.add_argument("--data", help="in place of that of the rows, such as mnist_5k")
    made.add_argument("--every", type=int, default=1, help="epochs from one copy to the next")
    made.add_argument("--num-samples", type=int, default=5000, help="of the NLL")
    made.add_argument("--train", default="train", help="split, such as train[:1000]")
    made.add_argument("--test", default="test")
    made.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs") / name)
    made.add_argument("--results", type=pathlib.Path, default=records.FOLDER / f"{name}.json")
    return made
