"""Calls everything public with values that mean nothing; errors must name the argument.

Every argument of every public callable gets each of `HOSTILE` in turn, beside valid ones. What is
raised is clear if it is a `ValueError`, `TypeError`, `OSError` or `ArithmeticError` with the
argument's name, or a rule, in it; anything else is obscure. What is accepted is counted: much of it
has a meaning. Left out are pure functions of tensors (`bounds`, `penalties`, `adversaries`),
records of results, and callables whose other arguments are not known here.

    python -m tests.campaigns.arguments
"""

import argparse
import dataclasses
import inspect
import os
import re
import signal
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import keras_vae as kv
from tests.campaigns import tables
from tests.registry import ARGUMENTS, public_objects
from tests.small_models import SHAPE, binary_images, make_vae

HOSTILE: dict[str, Any] = {
    "None": None,
    "a string": "nonsense",
    "an empty string": "",
    "-1": -1,
    "zero": 0,
    "5": 5,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "10**30": 10**30,
    "1e308": 1e308,
    "a list": [],
    "a dictionary": {"a": 1},
    "an object": object(),
    "an array of objects": np.array([object(), None], dtype=object),
    "an empty array": np.zeros((0,)),
    "a complex number": 1j,
}
_CLEAR = (ValueError, TypeError, OSError, ArithmeticError, NotImplementedError)
# Too slow for a campaign, or without an effect to look at.
_PURE = ("bounds", "penalties", "adversaries")
_LEFT_OUT = {"find_learning_rate", "evaluation.report", "evaluation.inception_features"}
SECONDS = 20


class TooLong(BaseException):
    """A call that does not come back."""


def examples() -> dict[str, dict[str, Any]]:
    """Return valid arguments of public callables, by name."""
    found = {name: make() for name, make in ARGUMENTS.items()}
    model, x = make_vae(), binary_images(12)
    model.compile("adam", run_eagerly=True)
    model.build((None, *SHAPE))
    rng = np.random.default_rng(0)
    moments = kv.evaluation.feature_moments(rng.normal(size=(20, 3)))
    scored = {"model": model, "data": x}
    data = {"evaluation." + name: scored for name in kv.evaluation.__all__ if name[0].islower()}
    callbacks: dict[str, dict[str, Any]] = {
        "callbacks.Resume": {"directory": tempfile.mkdtemp()},
        "callbacks.KLAnnealing": {"schedule": kv.schedules.Linear(0.0, 1.0, 5)},
        "callbacks.HyperparameterSchedule": {
            "name": "beta",
            "schedule": kv.schedules.Linear(0.0, 1.0, 5),
        },
        "callbacks.LatentMonitor": {"data": x},
        "callbacks.ImageMonitor": {"data": x},
        "callbacks.ProjectorMonitor": {"data": x, "log_dir": tempfile.mkdtemp()},
        "callbacks.OneCycleLearningRate": {"max_lr": 0.1},
        "callbacks.CyclicalLearningRate": {"base_lr": 0.01, "max_lr": 0.1, "step_size": 4},
        "callbacks.CodebookMonitor": {"data": x},
    }
    plots: dict[str, dict[str, Any]] = {
        "plotting.learning_curves": {"history": {"loss": [1.0, 0.5], "elbo": [-1.0, -0.5]}},
        "plotting.image_grid": {"images": x},
        "plotting.reconstructions": {"model": model, "x": x},
        "plotting.latent_traversal": {"model": model, "x": x[:1]},
        "plotting.latent_map": {"means": rng.normal(size=(12, 2))},
        "plotting.kl_by_dimension": {"kl": [1.0, 0.5]},
        "plotting.kl_by_group": {"kl": {"z1": 1.0, "z2": 0.5}},
        "plotting.elbo_parts": {"parts": {"a": 1.0}, "total": "elbo", "beside": {}},
    }
    others: dict[str, dict[str, Any]] = {
        "data.load": {"name": "digits"},
        "export_saved_model": {"model": model, "path": tempfile.mkdtemp() + "/1"},
        "evaluation.feature_moments": {"features": rng.normal(size=(20, 3))},
        "evaluation.frechet_between_moments": {"first": moments, "second": moments},
        "evaluation.frechet_distance": {"real": x, "generated": x},
        "evaluation.fit_posterior": {**scored, "steps": 1},
        "evaluation.annealed_importance_sampling": {
            **scored,
            "num_chains": 2,
            "num_distributions": 3,
            "num_leapfrog_steps": 1,
        },
        "evaluation.log_likelihood": {**scored, "num_samples": 4},
    }
    return {**data, **callbacks, **plots, **others, **found}


def cases(chosen: Callable[[str], bool] = lambda name: True) -> Iterator[tuple[str, Any, Any, str]]:
    """Yield name, callable, valid arguments and the argument that is to be replaced."""
    valid = examples()
    for name, function in sorted(public_objects().items()):
        if name in _LEFT_OUT or not chosen(name) or name.partition(".")[0] in _PURE:
            continue
        if inspect.isclass(function) and issubclass(function, (tuple, Exception)):
            continue
        if dataclasses.is_dataclass(function):
            continue
        parameters = inspect.signature(function).parameters
        arguments = [
            n for n, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        ]
        given = {n: v for n, v in valid.get(name, {}).items() if n in arguments}
        required = {n for n in arguments if parameters[n].default is inspect.Parameter.empty}
        for argument in arguments:
            if not required - given.keys() - {argument}:
                yield name, function, given, argument


def outcome(function: Any, arguments: dict[str, Any], argument: str) -> tuple[str, str]:
    """Return "accepted", "clear", "obscure" or "hangs", and what was said."""
    try:
        function(**arguments)
    except TooLong:
        return "hangs", ""
    except _CLEAR as error:
        text = str(error)
        named = re.search(rf"\b{re.escape(argument)}\b", text) or "Argument `" in text
        return ("clear" if named else "obscure"), f"{type(error).__name__}: {text[:150]}"
    except Exception as error:
        return "obscure", f"{type(error).__name__}: {str(error)[:150]}"
    return "accepted", ""


def _raise_too_long(number: int, frame: Any) -> None:
    raise TooLong


def run(chosen: Callable[[str], bool] = lambda name: True, verbose: bool = False) -> Counter:
    """Try all cases, or those of chosen callables; return how often each outcome came."""
    found: Counter[str] = Counter()
    signal.signal(signal.SIGALRM, _raise_too_long)
    for name, function, given, argument in cases(chosen):
        for what, value in HOSTILE.items():
            signal.alarm(SECONDS)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    kind, told = outcome(function, {**given, argument: value}, argument)
                except TooLong:
                    kind, told = "hangs", ""
            signal.alarm(0)
            plt.close("all")
            found[kind] += 1
            if verbose and kind in ("obscure", "hangs"):
                print(f"{kind}: {name}({argument}={what}): {told}".replace("\n", " "), flush=True)
    return found


def main() -> None:
    """Run the whole campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rooms", nargs="*", default=[])
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()

    def chosen(name: str) -> bool:
        return not args.rooms or name.partition(".")[0] in args.rooms

    # Some of the values are names of files.
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        found = run(chosen, args.verbose)
        os.chdir(before)
    print(dict(found))
    if not args.rooms:
        tried = sum(found.values())
        bad = found["obscure"] + found["hangs"]
        text = "arguments that mean nothing"
        row = tables.row(text, tried, tried - bad, clear=found["clear"], accepted=found["accepted"])
        tables.write("arguments", [row])


if __name__ == "__main__":
    main()
