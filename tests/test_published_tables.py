"""The tables beside published numbers, on a slice that takes seconds."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import pathlib
import re
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from tests.scripts import load_script

ROOT = pathlib.Path(__file__).parent.parent
FOLDER = f"{ROOT}/tests/../benchmarks/results"  # As a user may write it.
TABLES = ("iwae_table", "priors_table", "baselines", "taming_vaes")
RESULTS = (*TABLES, "recipes")


def load(name):
    return importlib.import_module(f"benchmarks.{name}")


def figures(name):
    return load_script(ROOT / "docs" / "figures" / f"{name}.py")


def small(folder, *options, passes=1):
    recipe = ["--recipe", f"passes={passes}", "batch_size=500"]
    paths = ["--runs", str(folder), "--results", str(folder / "results.json")]
    return ["--data", "mnist_5k", "--num-samples", "3", *recipe, *paths, *options]


@pytest.mark.full
@pytest.mark.default_execution
def test_a_row_goes_on_after_a_real_kill(tmp_path, monkeypatch):
    options = ["--rows", "vae_1", "--seeds", "3", "--every", "2"]
    broken = small(tmp_path / "broken", *options, passes=12)
    command = [sys.executable, "-m", "benchmarks.iwae_table", *broken]
    lines = tmp_path / "broken" / "vae_1_seed_3" / "logs.jsonl"
    with (tmp_path / "output.txt").open("w") as output:
        run = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        while not (lines.exists() and lines.read_text().count("\n") >= 3):
            assert run.poll() is None, (tmp_path / "output.txt").read_text()[-2000:]
            time.sleep(0.02)
    finally:
        run.kill()
    assert run.wait() == -signal.SIGKILL
    trained = lines.read_text().count("\n")
    assert 3 <= trained < 12 and not (tmp_path / "broken" / "results.json").exists()
    table = load("iwae_table")
    again = table.main(broken)["vae_1"]["3"]
    assert 12 <= lines.read_text().count("\n") <= 14  # It began after the last copy, not anew.
    assert [line["epoch"] for line in load("training").logs(lines.parent)] == list(range(12))
    # The same command gives the same numbers, interrupted or not.
    whole = table.main(small(tmp_path / "whole", *options, passes=12))["vae_1"]["3"]
    clocks = ("training_seconds", "examples_per_second")
    assert {**again, **dict.fromkeys(clocks)} == {**whole, **dict.fromkeys(clocks)}
    before = (tmp_path / "broken" / "results.json").read_text()
    table.main(broken)  # Nothing is left to do.
    assert (tmp_path / "broken" / "results.json").read_text() == before
    assert str(tmp_path) not in before, "a path of the machine"
    # What is only judged on another machine was not trained there.
    (tmp_path / "broken" / "results.json").unlink()
    monkeypatch.setattr(load("records"), "processor", lambda: "another")
    assert table.main(broken)["vae_1"]["3"]["machines"] == whole["machines"]


@pytest.mark.full
def test_rows_stand_beside_what_was_published(tmp_path):
    rows = load("iwae_table").main(small(tmp_path, "--rows", "vae_1", "--seeds", "0", "1"))
    assert list(rows) == ["vae_1"] and list(rows["vae_1"]) == ["0", "1"]
    found = rows["vae_1"]["0"]
    assert found["recipe"]["passes"] == 1 and found["recipe"]["learning_rate"] == 8e-3
    # L_3 is above the ELBO, by about half of what the samples spread.
    assert found["nll"] < -found["test"]["elbo"] - 0.5
    assert found["training_seconds"] > 0.0 and found["examples_per_second"] > 0.0
    lines = (tmp_path / "results.md").read_text().splitlines()
    label, published, here, *_ = lines[2].strip("| ").split(" | ")
    mean = np.mean([rows["vae_1"][seed]["nll"] for seed in "01"])
    assert (label, published) == ("VAE, K = 1; passes=1; data=mnist_5k", "86.76")
    assert float(here.split()[0]) == pytest.approx(mean, abs=0.005)
    assert "difference" not in lines[0], "of a number that is of other data"
    for row in rows["vae_1"].values():
        row["data"]["name"] = "mnist"  # As if they were of all digits.
    made = load("likelihood_tables").table(load("iwae_table").ROWS, rows, "")
    assert float(tables(made)[0]["difference"]) == pytest.approx(mean - 86.76, abs=0.005)
    left, right = figures("likelihoods").draw(load("iwae_table").ROWS, rows).axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["VAE, K = 1"]
    assert len(right.lines) == 2  # One row of two seeds.


@pytest.mark.full
def test_priors_are_trained(tmp_path):
    rows = load("priors_table").main(small(tmp_path, "--rows", "vamp_prior"))
    assert list(rows) == ["vamp_prior"]
    # L_3 is a tighter bound than the ELBO, by the same densities.
    row = rows["vamp_prior"]["0"]
    assert 0.0 < row["nll"] < -row["test"]["elbo"] - 0.5


@pytest.mark.full
def test_recipes_are_judged_by_digits_that_trained_nothing(tmp_path, tfds_data_dir, capsys):
    table, key = load("recipes"), "muon_8_b500_both_no_bias"
    with pytest.raises(SystemExit):  # What the table has by default is no change of a row.
        table.main(["--rows", key, "--recipe", "passes=1"])
    assert "--recipe makes another row" in capsys.readouterr().err
    options = ["--recipe", "passes=1", "--runs", str(tmp_path), "--num-samples", "3"]
    options += ["--train", "train[:1000]", "--test", "train[1000:1200]"]
    row = table.main(["--rows", key, *options, "--results", str(tmp_path / "r.json")])[key]["0"]
    assert row["bias_of_data"] is False and row["nll"] < -row["test"]["elbo"] - 0.5
    assert "Trained on train[:1000], judged on train[1000:1200]." in capsys.readouterr().out


@pytest.mark.full
def test_codes_and_their_priors_are_trained(tmp_path):
    table = load("codes")
    splits = ["--train", "train[:200]", "--test", "test[:100]", "--prior-passes", "1"]
    rows = table.main(small(tmp_path, "--rows", "mnist_binary_4x4", *splits))
    found = rows["mnist_binary_4x4"]["0"]
    fitted = found["prior"]
    # The uniform prior is -16 log 256 nats, and the whole differs in the prior alone.
    assert found["test"]["kl"] == pytest.approx(16 * np.log(256), rel=1e-4)
    assert fitted["reconstruction"] == pytest.approx(found["test"]["reconstruction"], rel=1e-4)
    assert fitted["kl"] == pytest.approx(16 * fitted["nats_per_code"])
    assert set(table.PRIORS) <= set(table.ROWS)


def test_results_of_another_setting_are_left_alone(tmp_path):
    table, path = load("iwae_table"), tmp_path / "results.json"
    results = (ROOT / "benchmarks" / "results" / "iwae_table.json").read_text()
    path.write_text(results)
    for seed in ("0", "7"):  # In the place of a result, and beside it.
        paths = ["--runs", str(tmp_path / "mine"), "--results", str(path)]
        for changed, name in (
            (["--recipe", "learning_rate=1e-3"], "learning_rate"),
            (["--data", "mnist_5k", "--num-samples", "3"], "num_samples, data"),
        ):
            with pytest.raises(SystemExit, match=f"holds vae_1 with another {name}: name another"):
                table.main(["--rows", "vae_1", "--seeds", seed, *changed, *paths])
    assert path.read_text() == results and not (tmp_path / "mine").exists()


@pytest.mark.full
def test_geco_is_held_against_the_report(tmp_path):
    recipe = ["--recipe", "passes=1", "batch_size=36"]  # 112 steps.
    rows = load("taming_vaes").main(small(tmp_path, "--rows", "geco", "geco_iwae_own", *recipe))
    found = rows["geco"]["0"]
    assert found["recipe"]["cycle"] is False and found["recipe"]["learning_rate"] == 1e-3
    # What the constraint holds against kappa^2 = 16 is the error of draws, not of the mean of z.
    error = 4.0 * 2**0.5 * found["sse_of_draws_standard_error"]
    assert found["test"]["constraint"] + 16.0 == pytest.approx(found["sse_of_draws"], abs=error)
    assert found["marginal_kl"] < found["mean_kl"] + 3.0 * found["marginal_kl_standard_error"]
    assert found["mean_kl"] == pytest.approx(found["test"]["kl"], rel=0.05)
    # The rule of the report moves lambda every 100 steps, by at most a tenth; the package's own at
    # each.
    own = rows["geco_iwae_own"]["0"]
    assert found["multipliers"] == {"lambda": pytest.approx(0.5 * 1.1)}
    assert own["multipliers"]["lambda"] > 1.0
    assert found["callbacks"]["GECO"]["every"] == 100 and own["callbacks"]["GECO"]["every"] == 1
    assert own["model"]["objective"]["GECO"]["bound"]["ImportanceWeighted"]["num_samples"] == 5
    row = tables((tmp_path / "results.md").read_text())[0]
    assert row["SSE published"] == "14.63"
    assert row["SSE published here"].startswith(f"{found['sse']:.2f} +- ")
    axes = figures("taming_vaes").draw(load("taming_vaes").ROWS, rows).axes[0]
    drawn = [tuple(line.get_data()) for line in axes.lines]
    assert ([found["mean_kl"]], [found["sse"]]) in drawn and ([10.4975], [14.6269]) in drawn


def test_a_folder_of_another_recipe_is_left_alone(tmp_path):
    folder = tmp_path / "vae_1_seed_0"
    folder.mkdir()
    recipe = {"passes": 7, "seed": 0}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(SystemExit, match="training with another passes, batch_size.*remove it"):
        load("iwae_table").main(small(tmp_path, "--rows", "vae_1"))
    assert json.loads((folder / "recipe.json").read_text()) == recipe


def test_a_line_of_the_logs_that_was_cut_off_is_left_out(tmp_path, monkeypatch):
    training = load("training")
    path = tmp_path / "logs.jsonl"
    path.write_text('{"epoch": 0, "seconds": 1.0}\n{"epoch": 1, "sec')
    save = training.SaveEpochs(tmp_path, epochs=9, every=3)
    monkeypatch.setattr(
        save, "_model", keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    )
    for epoch in (1, 2):
        save.on_epoch_end(epoch, {"loss": float(epoch)})
    assert [line["epoch"] for line in training.logs(tmp_path)] == [0, 1, 2]
    assert [line.get("loss") for line in training.logs(tmp_path)] == [None, 1.0, 2.0]


@pytest.mark.full
def test_a_row_is_judged_by_the_average_of_its_weights(tmp_path):
    table, training = load("iwae_table"), load("training")
    options = ["--rows", "dreg_5", "--seeds", "0"]
    judged = {}
    for name, added in (("last", []), ("average", ["ema_momentum=0.99"])):
        command = small(tmp_path / name, *options, passes=2)
        at = command.index("batch_size=500") + 1
        command[at:at] = added
        judged[name] = table.main(command)["dreg_5"]["0"]
    # The training is the same one, of which another point is kept.
    assert judged["average"]["last_pass"] == judged["last"]["last_pass"]
    assert judged["average"]["nll"] > judged["last"]["nll"] + 1.0, "20 steps from the start"
    (tmp_path / "average" / "results.json").unlink()
    assert training.is_done(tmp_path / "average" / "dreg_5_seed_0", 2)
    assert table.main(command)["dreg_5"]["0"]["nll"] == judged["average"]["nll"]


def tables(text):
    """Return the rows of the tables of a text, `[{head: cell}]`; "here" follows what it is of."""
    rows, heads = [], None
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line[:1] == "|" else None
        if cells is None or set(line) <= set("|- "):
            heads = heads if cells else None
        elif heads is None:
            before = ["", *cells]
            heads = [f"{before[i]} {c}" if c == "here" else c for i, c in enumerate(cells)]
        else:
            rows.append(dict(zip(heads, cells, strict=True)))
    return rows


@pytest.mark.parametrize("name", RESULTS)
def test_the_tables_are_those_of_the_results(name):
    path, module = ROOT / "benchmarks" / "results" / f"{name}.json", load(name)
    rows = json.loads(path.read_text())["rows"]
    table = functools.partial(load("likelihood_tables").table, module.ROWS)
    made = module.table(rows) if name == "taming_vaes" else table(rows, module.NOTE)
    assert path.with_suffix(".md").read_text() == made
    given = {"train": "train", "test": "test", "num_samples": 5000}
    held_out = {"train": "train[:50000]", "test": "train[50000:]", "num_samples": 200}
    given |= {"taming_vaes": {"num_samples": 1000}, "recipes": held_out}.get(name, {})
    for key, seeds in rows.items():  # The rows are those of the code, which would train them so.
        row = module.ROWS[key]
        wanted = {"recipe": dataclasses.asdict(row.recipe), **row.setting(), "configuration": given}
        for found in seeds.values():
            assert {part: found[part] for part in wanted} == wanted


def test_columns_without_anything_are_left_out():
    seed = {"nll": 93.6, "nll_standard_error": 0.24, "active_units": 27, "training_seconds": 90}
    seed |= {"examples_per_second": 1e4, "machines": []}
    seed |= {"configuration": {"train": "train", "test": "test", "num_samples": 200}}
    seed["recipe"] = dataclasses.asdict(load("recipes").ROWS["adam_2_b50"].recipe)
    row = {"adam_2_b50": {"0": {**seed, "data": {"name": "mnist"}, "effective_sample_size": 7.2}}}
    made = load("likelihood_tables").table(load("recipes").ROWS, row, "")
    (found,) = tables(made)
    heads = ["model", "NLL", "active units", "effective samples", "passes", "time", "examples/s"]
    assert [*found] == heads
    assert [*found.values()][1:5] == ["93.60 +- 0.24", "27", "7", "30"]


@pytest.mark.parametrize("name", TABLES)
def test_the_page_quotes_the_results(name):
    path = f"benchmarks/results/{name}.md"
    known = {row["model"]: row for row in tables((ROOT / path).read_text())}
    _, _, after = (ROOT / "docs" / "published.md").read_text().partition(f"](../{path})")
    quoted = tables(after[after.index("|") :].partition("\n\n")[0])
    assert known.keys() - {row["model"] for row in quoted} <= {
        "GECO with kappa^2 = 17, `callbacks.GECO()`"
    }
    for row in quoted:
        assert row.items() <= known[row["model"]].items()


@pytest.mark.parametrize("name", [*TABLES, "rate_distortion"])
def test_the_figures_are_drawn_from_the_results(name):
    table = {"rate_distortion": "codes"}.get(name, name)
    results = json.loads((ROOT / "benchmarks" / "results" / f"{table}.json").read_text())
    figure = (ROOT / "docs" / "figures" / f"{name}.svg").read_text()
    assert load("records").digest(results["rows"]) in figure


def test_baselines_are_trained_as_the_best_rows():
    rows, best = load("baselines").ROWS, load("iwae_table").ROWS["dreg_50"]
    assert rows["mnist_dreg_50"].recipe == best.recipe
    flow = load("priors_table").ROWS["flow_prior"].setting()["model"]
    for name in ("mnist", "omniglot"):
        assert rows[f"{name}_dreg_50"].setting()["model"] == best.setting()["model"]
        assert rows[f"{name}_flow_prior"].setting()["model"] == flow


def test_what_a_row_was_trained_on_is_noted(tmp_path, monkeypatch):
    published, records = load("published"), load("records")
    monkeypatch.setattr(records, "processor", lambda: "first")
    published._note_machine(tmp_path)
    published._note_machine(tmp_path)
    monkeypatch.setattr(records, "processor", lambda: "Second(R)")
    published._note_machine(tmp_path)
    found = published._machines(tmp_path)
    assert [machine["processor"] for machine in found] == ["first", "Second(R)"]
    assert found[0]["versions"]["keras"] == keras.__version__
    assert published.processors({"0": {"machines": found}}) == "first, Second"


def test_a_folder_of_another_setting_is_left_alone(tmp_path):
    table = load("taming_vaes")
    row, args = table.ROWS["geco"], ["--rows", "geco", "--seeds", "0"]
    recipe = row.recipe.changed(["passes=1", "batch_size=500"])
    splits = {"train": "train", "test": "test"}
    setting = {**dataclasses.asdict(recipe), **row.setting(), **splits, "seed": 0}
    setting["data"]["name"] = "mnist_5k"
    setting["model"]["objective"]["GECO"]["constraint"][0]["SquaredError"]["kappa"] = 5.0
    (tmp_path / "geco_seed_0").mkdir()
    (tmp_path / "geco_seed_0" / "recipe.json").write_text(json.dumps(setting))
    with pytest.raises(SystemExit, match="training with another model: remove it"):
        table.main(small(tmp_path, *args))


def test_a_folder_that_does_not_say_what_it_holds_is_left_alone(tmp_path):
    folder = tmp_path / "vae_1_seed_0"
    folder.mkdir()
    (folder / "after_0001.keras").write_bytes(b"whose?")
    with pytest.raises(SystemExit, match="not the recipe.json that says which: remove it"):
        load("iwae_table").main(small(tmp_path, "--rows", "vae_1", "--seeds", "0"))
    assert [path.name for path in folder.iterdir()] == ["after_0001.keras"]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["--recipe", "passes=1"], "--recipe makes another row: name another --results and --runs"),
        (["--num-samples", "5"], "--num-samples makes another row: name another --results for it"),
        (["--data", "mnist_5k", "--runs", "mine"], "--data makes another row: name .* --results"),
        (["--every", "0"], "--every: must be at least 1, not 0"),
        (
            ["--train", "train[:9]", "--runs", "mine", "--results", f"{FOLDER}/iwae_table.json"],
            "--train makes another row: name another --results for it",
        ),
        (["--results", f"{FOLDER}/priors_table.json"], "priors_table.json is not of this table"),
    ],
)
def test_other_rows_stay_out_of_a_table(given, wanted, capsys):
    with pytest.raises(SystemExit):
        load("iwae_table").main(["--rows", "vae_1", *given])
    assert re.search(wanted, capsys.readouterr().err)


@pytest.mark.full
def test_baselines_are_trained(tmp_path, tfds_data_dir):
    row = "omniglot_flow_prior"
    data = load("baselines").ROWS[row].data.name
    if not (pathlib.Path(tfds_data_dir) / data).is_dir():
        pytest.skip(f"{data} is not prepared in TFDS_DATA_DIR={tfds_data_dir}")
    slices = ["--train", "train[:1000]", "--test", "test[:200]", "--num-samples", "3"]
    paths = ["--runs", str(tmp_path), "--results", str(tmp_path / "results.json")]
    recipe = ["--recipe", "passes=1", "batch_size=100"]
    found = load("baselines").main(["--rows", row, *recipe, *slices, *paths])[row]["0"]
    assert 100.0 < found["nll"] < min(-found["test"]["elbo"] + 1.0, 784.0 * np.log(2.0))
    assert found["data"]["name"] == data
