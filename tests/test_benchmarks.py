"""The benchmarks run, on a slice that takes seconds."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import sys

import pytest

FOLDER = pathlib.Path(__file__).parent.parent / "benchmarks"


def load(name):
    spec = importlib.util.spec_from_file_location(f"benchmarks.{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # for its dataclasses
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_a_row_goes_on_where_it_was_interrupted(tmp_path):
    benchmark = load("mnist_objectives")
    small = ["--data", "mnist_5k", "--num-samples", "5", "--batch-size", "500"]

    def run(epochs, folder):
        paths = ["--runs", str(tmp_path / folder), "--results", str(tmp_path / f"{folder}.json")]
        # The rate is that of the whole training, however much of it is done.
        return benchmark.main(["--rows", "geco", "--epochs", str(epochs), *small, *paths])["geco"]

    whole = run(2, "whole")
    assert whole["training"].keys() >= {"constraint", "kl", "elbo"}
    logs = [json.loads(line) for line in (tmp_path / "whole/geco/logs.jsonl").open()]
    assert [line["epoch"] for line in logs] == [0, 1]
    assert logs[1]["lambda"] != logs[0]["lambda"] != 1.0
    again = run(2, "whole")  # Nothing is left to do.
    assert again["training"] == whole["training"]
    assert len((tmp_path / "whole/geco/logs.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
def test_rows_of_bounds_are_judged_by_their_likelihood(tmp_path):
    benchmark = load("mnist_objectives")
    given = ["--data", "mnist_5k", "--num-samples", "5", "--batch-size", "500", "--epochs", "1"]
    paths = ["--runs", str(tmp_path), "--results", str(tmp_path / "results.json")]
    results = benchmark.main(["--rows", "vae", *given, *paths])
    assert results["vae"]["nll"] <= -results["vae"]["test"]["elbo"] + 1.0
    table = (tmp_path / "results.md").read_text()
    assert f"{results['vae']['nll']:.2f}" in table


@pytest.mark.slow
def test_estimators_are_timed(capsys):
    sizes = ["--num-samples", "2", "--batch-size", "4", "--steps", "1", "--repetitions", "1"]
    times = load("estimators").main([*sizes, "--no-jit"])
    assert all(milliseconds > 0.0 for milliseconds in times[2].values())
    assert "doubly_reparameterized" in capsys.readouterr().out
