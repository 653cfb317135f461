"""What the tables beside published numbers have in common: their rows, trainings and records.

A row has parts of a model, callbacks, data and a recipe, which is all that its training depends on
beside the seed, and all of which its results hold. A training that was interrupted goes on after
the last epoch that was kept; one that is done is not repeated, and one that differs in any of them
does not go on in its place.
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
from benchmarks.rows import Recipe, Row
from keras_vae.core.files import write_whole

# How often a training is measured on the test data, for its curve.
POINTS_OF_A_CURVE = 40
# Arguments that change what a row is, and what its number is; which files they then may not share
# with those of the table.
OVERRIDES = {
    **dict.fromkeys(("recipe", "data", "train", "test"), ("results", "runs")),
    "num_samples": ("results",),
}
# Measures a trained model on the test data.
Judge = Callable[[kv.VAE, tf.data.Dataset, argparse.Namespace], dict[str, Any]]


def build(row: Row, recipe: Recipe, seed: int, split: str) -> kv.VAE:
    """Makes and compiles the model of a row."""
    keras.utils.set_random_seed(seed)
    model = row.model(**row.parts(), seed=seed)
    if row.bias_of_data:
        # Of the intensities, not of one draw of them.
        model.initialize_output_bias(row.data.load(split, 500, binarize=None, shuffle=False))
    recipe.compile(model)
    return model


def train(row: Row, recipe: Recipe, seed: int, folder: pathlib.Path, args: Any) -> kv.VAE:
    """Trains to the last pass, from where the folder has it."""
    if not training.is_done(folder, recipe.passes):
        _note_machine(folder)

    def callbacks(steps: int) -> list[keras.callbacks.Callback]:
        made = [getattr(kv.callbacks, name)(**given) for name, given in row.callbacks.items()]
        return [*made, *recipe.callbacks(steps)]

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


def _check_recipe(wanted: dict[str, Any], folder: pathlib.Path) -> None:
    """Notes the recipe in a new folder, and ends where the folder has another one."""
    path = folder / "recipe.json"
    if not path.exists():
        if training.is_begun(folder):
            raise SystemExit(
                f"{folder} holds a training, and not the recipe.json that says which: remove it, "
                "or name another folder by --runs"
            )
        write_whole(path, json.dumps(wanted, indent=1) + "\n")
    differing = _differing(wanted, json.loads(path.read_text()))
    if differing:
        raise SystemExit(
            f"{folder} holds a training with another {differing}: remove it, or name another "
            "folder by --runs"
        )


def _check_results(wanted: dict[str, Any], key: str, path: pathlib.Path) -> dict[str, Any]:
    """Returns the results of a row by seed, and ends where they are of another setting."""
    seeds: dict[str, Any] = records.read(path)["rows"].get(key, {})
    for found in seeds.values():
        differing = _differing(_flat(wanted), _flat({name: found[name] for name in wanted}))
        if differing:
            raise SystemExit(
                f"{path} holds {key} with another {differing}: name another file by --results"
            )
    return seeds


def _flat(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the numbers of recipe and configuration beside all else."""
    nested = ("recipe", "configuration")
    others = {name: value for name, value in wanted.items() if name not in nested}
    return {**wanted["recipe"], **wanted["configuration"], **others}


def _differing(wanted: Mapping[str, Any], noted: Mapping[str, Any]) -> str:
    names = [*wanted, *(noted.keys() - wanted.keys())]
    return ", ".join(name for name in names if noted.get(name) != wanted.get(name))


def _note_machine(folder: pathlib.Path) -> None:
    """Notes what trains from here on, where it is not what trained so far."""
    before, now = _machines(folder), records.machine()
    if before[-1:] != [now]:
        text = json.dumps([*before, now], indent=1)
        write_whole(folder / "machines.json", text + "\n")


def _machines(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the versions and the processors of a training, in their order."""
    path = folder / "machines.json"
    return json.loads(path.read_text()) if path.exists() else []


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
            recipe, setting = row.recipe.changed(args.recipe), row.setting()
            own = argparse.Namespace(**vars(args))
            own.num_samples = args.num_samples or row.num_samples
            wanted = _wanted(recipe, setting, own)
            if str(seed) in _check_results(wanted, key, args.results):
                print(f"{key}, seed {seed}: done; another --results and --runs train it anew")
                continue
            folder = args.runs / f"{key}_seed_{seed}"
            splits = {"train": args.train, "test": args.test}
            _check_recipe({**wanted["recipe"], **setting, **splits, "seed": seed}, folder)
            model = train(row, recipe, seed, folder, args)
            test = row.data.load(args.test, 500, shuffle=False)
            judged = judge(model, test, own)
            found = {**judged, **_course(folder, model, row, args), **wanted}
            records.add(args.results, key, seed, found, {})
            print(f"{key}, seed {seed}: {judged}", flush=True)
    return records.read(args.results)["rows"]


def _course(
    folder: pathlib.Path, model: kv.VAE, row: Row, args: argparse.Namespace
) -> dict[str, Any]:
    """Returns how long the training took, on what, and its curves on the test data."""
    logs = training.logs(folder)
    seconds = [line["seconds"] for line in logs]
    examples = len(row.data.load(args.train, 1, shuffle=False))
    measured = [line for line in logs if "val_elbo" in line]
    curves = {
        f"test_{name[4:]}": [round(line[name], 3) for line in measured]
        for name in measured[0]
        if name[:4] == "val_" and name[4:] not in model.hyperparameters
    }
    last = {name: value for name, value in logs[-1].items() if name not in ("epoch", "seconds")}
    return {
        "last_pass": {name: value for name, value in last.items() if name[:4] != "val_"},
        "training_seconds": sum(seconds),
        "examples_per_second": examples / statistics.median(seconds),
        "curve": {"passes": [line["epoch"] + 1 for line in measured], **curves},
        "machines": _machines(folder),
    }


def _wanted(recipe: Recipe, setting: Mapping[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Returns what makes a result that of a row."""
    given = {name: getattr(args, name) for name in ("train", "test", "num_samples")}
    return {"configuration": given, "recipe": dataclasses.asdict(recipe), **setting}


def units(model: kv.VAE, test: tf.data.Dataset) -> dict[str, Any]:
    """Returns the number of active units, and the variances behind it that are above 0.001.

    Of several groups of latent variables, the number is a list of theirs.
    """
    found = kv.evaluation.active_units(model, test)
    variances = sorted((float(value) for value in found.variances.ravel()), reverse=True)
    groups = model.split(found.variances).values()
    counts = [int(tf.math.count_nonzero(group > found.threshold)) for group in groups]
    return {
        "active_units": counts if len(counts) > 1 else found.count,
        "variances_of_units": [round(value, 4) for value in variances if value > 1e-3],
    }


def units_text(count: int | Sequence[int]) -> str:
    """Returns the number of active units as text, those of groups with a + between them."""
    return str(count) if isinstance(count, int) else "+".join(map(str, count))


def estimate(seeds: Mapping[str, Mapping[str, Any]], key: str, digits: int = 2) -> str:
    """Returns the mean over the seeds with its standard error over the test examples as text.

    Of several seeds, their standard deviation follows.
    """
    values = [seed[key] for seed in seeds.values()]
    error = statistics.mean(seed[f"{key}_standard_error"] for seed in seeds.values())
    text = f"{statistics.mean(values):.{digits}f} +- {error:.{digits}f}"
    return f"{text} (seeds {statistics.stdev(values):.{digits}f})" if len(values) > 1 else text


def label(row: Row, seeds: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns what a row is called, with what a command has changed of it."""
    found = next(iter(seeds.values()))
    own = {**dataclasses.asdict(row.recipe), "data": row.data.name}
    used = {**found["recipe"], "data": found["data"]["name"]}
    changed = [f"{name}={value}" for name, value in used.items() if value != own[name]]
    return "; ".join([row.label, *changed])


def costs(seeds: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns passes, mean time of a training, median speed in examples/s, and processors."""
    passes = sorted({seed["recipe"]["passes"] for seed in seeds.values()})
    seconds = statistics.mean(seed["training_seconds"] for seed in seeds.values())
    speed = statistics.median(seed["examples_per_second"] for seed in seeds.values())
    return [
        ", ".join(map(str, passes)),
        f"{seconds / 60:.0f} min",
        f"{speed:,.0f}",
        processors(seeds),
    ]


def processors(seeds: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns what the trainings ran on."""
    machines = [machine for seed in seeds.values() for machine in seed["machines"]]
    names = [machine["processor"].replace("(R)", "") for machine in machines]
    return ", ".join(dict.fromkeys(names))


def markdown(
    heads: Sequence[str],
    body: Sequence[Sequence[Any]],
    rows: Mapping[str, Mapping[str, Any]],
    note: str,
) -> str:
    """Returns a table, and how to read its numbers."""
    lines = [heads, ["---"] * len(heads), *body]
    table = "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)
    several = any(len(seeds) > 1 for seeds in rows.values())
    given = [seed["configuration"] for row in rows.values() for seed in row.values()]
    samples = sorted({one["num_samples"] for one in given})
    splits = sorted({(one["train"], one["test"]) for one in given})
    notes = [
        "In nats; +- is the standard error over the test images,",
        "(seeds) the standard deviation of trainings; other rows are one training."
        if several
        else "of one training each.",
        *(
            f"Trained on {train}, judged on {test}."
            for train, test in splits
            if (train, test) != ("train", "test")
        ),
        f"NLL is estimated by {', '.join(f'L_{number}' for number in samples)}.",
        "Time is that of the training steps, without validation and files,",
        "and compares where the processor is the same.",
        note,
    ]
    return f"{table}\n{' '.join(notes).strip()}\n"


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
    made.add_argument("--every", type=_positive, default=1, help="epochs from one copy to the next")
    text = "of the NLL, in place of those of the rows"
    made.add_argument("--num-samples", type=int, default=None, help=text)
    made.add_argument("--train", default="train", help="split, such as train[:1000]")
    made.add_argument("--test", default="test")
    made.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs") / name)
    made.add_argument("--results", type=pathlib.Path, default=records.FOLDER / f"{name}.json")
    return made


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def parse(made: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Returns the arguments, or ends the command where they would mix other rows with the table."""
    args = made.parse_args(arguments)
    own = {name: made.get_default(name).resolve() for name in ("results", "runs")}
    asked = {name: getattr(args, name).resolve() for name in own}
    if asked["results"] != own["results"] and asked["results"].parent == records.FOLDER.resolve():
        made.error(f"--results: {asked['results'].name} is not of this table")
    given = [name for name in OVERRIDES if getattr(args, name) != made.get_default(name)]
    for name in given:
        mixed = [files for files in OVERRIDES[name] if asked[files] == own[files]]
        if mixed:
            named = f"--{name.replace('_', '-')}"
            made.error(f"{named} makes another row: name another --{' and --'.join(mixed)} for it")
    return args
