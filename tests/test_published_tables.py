"""The tables beside published numbers, on a slice that takes seconds."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
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

import keras_vae as kv

ROOT = pathlib.Path(__file__).parent.parent
FOLDER = f"{ROOT}/tests/../benchmarks/results"  # As a user may write it.
TABLES = ("iwae_table", "priors_table", "baselines", "taming_vaes")
RESULTS = [
    name
    for name in (*TABLES, "recipes")
    if (ROOT / "benchmarks" / "results" / f"{name}.json").exists()
]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)  # Benchmarks are not installed.


def load(name):
    return importlib.import_module(f"benchmarks.{name}")


def figures(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "figures" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def small(folder, *options, passes=1):
    recipe = ["--recipe", f"passes={passes}", "batch_size=500"]
    paths = ["--runs", str(folder), "--results", str(folder / "results.json")]
    return ["--data", "mnist_5k", "--num-samples", "3", *recipe, *paths, *options]


@pytest.mark.slow
@pytest.mark.default_execution
@pytest.mark.parametrize(("name", "row"), [("taming_vaes", "geco_own"), ("iwae_table", "dreg_5")])
def test_a_row_goes_on_where_it_was_interrupted(name, row, tmp_path, monkeypatch):
    table, training = load(name), load("training")
    options = ["--rows", row, "--seeds", "3", "--every", "2"]
    whole = table.main(small(tmp_path / "whole", *options, passes=4))[row]["3"]
    keep = training.SaveEpochs.on_epoch_end

    def interrupted(self, epoch, logs=None):
        keep(self, epoch, logs)
        if epoch == 2:  # One pass after the last copy, which is made again.
            raise KeyboardInterrupt

    monkeypatch.setattr(training.SaveEpochs, "on_epoch_end", interrupted)
    broken = small(tmp_path / "broken", *options, passes=4)
    with pytest.raises(KeyboardInterrupt):
        table.main(broken)
    monkeypatch.undo()
    monkeypatch.syspath_prepend(ROOT)
    assert not (tmp_path / "broken" / "results.json").exists()
    again = table.main(broken)[row]["3"]
    folder = tmp_path / "broken" / f"{row}_seed_3"
    assert [line["epoch"] for line in training.logs(folder)] == [0, 1, 2, 3]
    assert len((folder / "logs.jsonl").read_text().splitlines()) == 5
    # The same command gives the same numbers, interrupted or not.
    clocks = ("training_seconds", "examples_per_second")
    assert {**again, **dict.fromkeys(clocks)} == {**whole, **dict.fromkeys(clocks)}
    before = (tmp_path / "broken" / "results.json").read_text()
    table.main(broken)  # Nothing is left to do.
    assert (tmp_path / "broken" / "results.json").read_text() == before
    assert str(tmp_path) not in before, "a path of the machine"
    # What is only judged on another machine was not trained there.
    (tmp_path / "broken" / "results.json").unlink()
    monkeypatch.setattr(load("records"), "processor", lambda: "another")
    assert table.main(broken)[row]["3"]["machines"] == whole["machines"]


@pytest.mark.slow
@pytest.mark.default_execution
def test_a_row_goes_on_after_a_real_kill(tmp_path):
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
    again = load("iwae_table").main(broken)["vae_1"]["3"]
    assert 12 <= lines.read_text().count("\n") <= 14  # It began after the last copy, not anew.
    whole = load("iwae_table").main(small(tmp_path / "whole", *options, passes=12))["vae_1"]["3"]
    clocks = ("training_seconds", "examples_per_second")
    assert {**again, **dict.fromkeys(clocks)} == {**whole, **dict.fromkeys(clocks)}


@pytest.mark.slow
def test_rows_stand_beside_what_was_published(tmp_path):
    rows = load("iwae_table").main(
        small(tmp_path, "--rows", "vae_1", "dreg_5", "--seeds", "0", "1")
    )
    assert list(rows) == ["dreg_5", "vae_1"] and list(rows["vae_1"]) == ["0", "1"]
    found = rows["vae_1"]["0"]
    assert found["recipe"]["passes"] == 1 and found["recipe"]["learning_rate"] == 8e-3
    assert found["nll"] < -found["test"]["elbo"] + 1.0
    assert found["training_seconds"] > 0.0 and found["examples_per_second"] > 0.0
    lines = (tmp_path / "results.md").read_text().splitlines()
    label, published, here, difference, *_ = lines[2].strip("| ").split(" | ")
    mean = np.mean([rows["vae_1"][seed]["nll"] for seed in "01"])
    assert (label, published) == ("VAE, K = 1", "86.76")
    assert float(here.split()[0]) == pytest.approx(mean, abs=0.005)
    assert float(difference) == pytest.approx(mean - 86.76, abs=0.005)
    left, right = figures("likelihoods").draw(load("iwae_table").ROWS, rows).axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["VAE, K = 1", "DReG, K = 5"]
    assert len(right.lines) == 4  # Two rows of two seeds.


@pytest.mark.slow
def test_priors_and_flows_are_trained(tmp_path):
    rows = load("priors_table").main(small(tmp_path, "--rows", "mixture_prior", "flow_posterior"))
    assert list(rows) == ["flow_posterior", "mixture_prior"]
    for row in rows.values():
        # L_3 is a tighter bound than the ELBO, by the same densities.
        assert 0.0 < row["0"]["nll"] < -row["0"]["test"]["elbo"] + 1.0


@pytest.mark.slow
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
    axes = figures("taming_vaes").draw(rows).axes[0]
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


def test_numbers_of_a_recipe_can_be_changed():
    recipe = load("rows").Recipe(passes=3)
    changed = recipe.changed(["learning_rate=1e-3", "cycle=False", "batch_size=20"])
    assert (changed.learning_rate, changed.cycle, changed.batch_size) == (1e-3, False, 20)
    assert changed.passes == 3 and type(changed.batch_size) is int
    with pytest.raises(SystemExit, match="no rate, but passes, batch_size"):
        recipe.changed(["rate=3"])
    with pytest.raises(SystemExit, match="optimizer must be one of adam, muon, not sgd"):
        recipe.changed(["optimizer=sgd"])
    with pytest.raises(SystemExit, match="encoder_optimizer must be one of adam, muon, not sgd"):
        recipe.changed(["encoder_optimizer=sgd"])
    for half in ("encoder_optimizer=adam", "encoder_learning_rate=1e-3"):
        with pytest.raises(SystemExit, match="must be given both or neither, not '(adam)?' and 0"):
            recipe.changed([half])
    both = recipe.changed(["encoder_optimizer=adam", "encoder_learning_rate=1e-3"])
    assert (both.encoder_optimizer, both.encoder_learning_rate) == ("adam", 1e-3)
    for wrong in ("passes=1.5", "cycle=2", "epsilon=", "passes"):
        with pytest.raises(SystemExit, match=f"{wrong.split('=')[0]} must be of type"):
            recipe.changed([wrong])


def test_an_encoder_can_have_a_rate_of_its_own():
    rows, steps, seen = load("rows"), 20, []
    parts = load("likelihood_tables").elbo()
    recipe = rows.Recipe(
        5, 10, "muon", 8e-3, encoder_optimizer="adam", encoder_learning_rate=2e-3, kl_warmup=0.5
    )
    model = kv.VAE(**parts, seed=0)
    recipe.compile(model)
    kinds = {part: type(model.optimizer[part]).__name__ for part in ("encoder", "default")}
    assert kinds == {"encoder": "Adam", "default": "Muon"}

    def note(batch, logs):
        names = ("default.learning_rate", "encoder.learning_rate", "beta")
        seen.append([float(model.hyperparameters[name]) for name in names])

    images = np.zeros((40, 28, 28, 1), np.float32)
    callbacks = [*recipe.callbacks(steps), keras.callbacks.LambdaCallback(on_train_batch_end=note)]
    model.fit(images, batch_size=10, epochs=5, callbacks=callbacks, verbose=0)
    rates = np.array(seen)
    cycle = kv.schedules.OneCycle(8e-3, steps, warmup=0.05, final_division=1e3)
    assert rates[:, 0] == pytest.approx([float(cycle(step)) for step in range(steps)])
    assert rates[:, 1] == pytest.approx(rates[:, 0] / 4.0)
    assert rates[:, 2] == pytest.approx(np.minimum(1.0, np.arange(steps) / 10.0))


@pytest.mark.slow
@pytest.mark.default_execution
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
    for key, seeds in rows.items():  # The rows are those of the code, which would train them so.
        row = module.ROWS[key]
        wanted = {"recipe": dataclasses.asdict(row.recipe), **row.setting()}
        for found in seeds.values():
            assert {part: found[part] for part in wanted} == wanted


def test_columns_without_anything_are_left_out():
    seed = {"nll": 93.6, "nll_standard_error": 0.24, "active_units": 27, "training_seconds": 90}
    seed |= {"examples_per_second": 1e4, "machines": [], "recipe": {"passes": 30}}
    row = {"adam_2_b50": {"0": {**seed, "configuration": {"num_samples": 200}}}}
    made = load("likelihood_tables").table(load("recipes").ROWS, row, "")
    assert [*tables(made)[0]] == ["model", "NLL", "active units", "passes", "time", "examples/s"]
    assert [*tables(made)[0].values()][1:4] == ["93.60 +- 0.24", "27", "30"]


@pytest.mark.parametrize("name", [name for name in TABLES if name in RESULTS])
def test_the_readme_quotes_the_results(name):
    path = f"benchmarks/results/{name}.md"
    known = {row["model"]: row for row in tables((ROOT / path).read_text())}
    _, _, after = (ROOT / "README.md").read_text().partition(f"]({path})")
    quoted = tables(after[after.index("|") :].partition("\n\n")[0])
    assert quoted
    for row in quoted:
        assert row.items() <= known[row["model"]].items()


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
        (["--num-samples", "5", "--results", "mine.json"], "name another --runs for it"),
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


@pytest.mark.slow
@pytest.mark.parametrize("row", ["mnist_vae", "omniglot_flow_prior"])
def test_baselines_are_trained(row, tmp_path, tfds_data_dir):
    data = load("baselines").ROWS[row].data.name
    if not (pathlib.Path(tfds_data_dir) / data).is_dir():
        pytest.skip(f"{data} is not prepared in TFDS_DATA_DIR={tfds_data_dir}")
    slices = ["--train", "train[:1000]", "--test", "test[:200]", "--num-samples", "3"]
    paths = ["--runs", str(tmp_path), "--results", str(tmp_path / "results.json")]
    recipe = ["--recipe", "passes=1", "batch_size=100"]
    found = load("baselines").main(["--rows", row, *recipe, *slices, *paths])[row]["0"]
    assert 100.0 < found["nll"] < min(-found["test"]["elbo"] + 1.0, 784.0 * np.log(2.0))
    assert found["data"]["name"] == data


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TABLES, "recipes"])
def test_every_row_is_a_model_that_can_be_saved(name, tmp_path):
    for row in load(name).ROWS.values():
        kv.VAE(**row.parts(), seed=1).save(tmp_path / "model.keras")
        saved = keras.saving.load_model(tmp_path / "model.keras")
        config = saved.get_config()
        assert config.pop("seed") == 1
        found = json.loads(json.dumps(load("rows").described(config)))
        assert found == row.setting()["model"]
