"""The benchmarks run, on a slice that takes seconds."""

from __future__ import annotations

import importlib
import itertools
import json
import pathlib
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from tests.scripts import load_script

pytestmark = pytest.mark.full

ROOT = pathlib.Path(__file__).parent.parent


def load(name):
    return importlib.import_module(f"benchmarks.{name}")


def test_estimators_are_timed(capsys):
    sizes = ["--num-samples", "2", "--batch-size", "4", "--steps", "1", "--repetitions", "1"]
    times = load("estimators").main([*sizes, "--no-jit"])
    assert all(milliseconds > 0.0 for milliseconds in times[2].values())
    assert "doubly_reparameterized" in capsys.readouterr().out


def test_trainings_take_turns_with_and_without_callbacks(tmp_path, capsys):
    sizes = ["--data", "mnist_5k", "--batch-size", "500", "--epochs", "1"]
    results = tmp_path / "steering.json"
    given = ["--steps-per-execution", "4", "--no-jit", "--results", str(results)]
    rows = load("steering").main([*sizes, *given])
    assert rows["nothing"]["ratio"] == 1.0
    assert str(tmp_path) not in results.read_text(), "a path of the machine"
    speeds = json.loads(results.read_text())["speeds"]
    assert list(speeds) == ["all", "nothing"]
    assert all(len(values) == 1 for row in speeds.values() for values in row.values())
    assert f"{rows['all']['ratio']:.3f}" in capsys.readouterr().out


def test_idle_epochs_are_timed_for_keras_and_for_fit(tmp_path):
    results = tmp_path / "idle_epochs.json"
    given = ["--data", "mnist_5k", "--split", "train", "--batch-size", "1000"]
    given += ["--epochs", "2", "--repetitions", "1", "--results", str(results)]
    rows = load("idle_epochs").main(given)
    assert list(rows)[:3] == ["keras_arrays", "waiting_arrays", "fit_arrays"]
    assert all(row["slowest"] >= row["mean"] > 0.0 for row in rows.values())
    assert all(row["idle"] < 1.0 for row in rows.values())
    calls = json.loads(results.read_text())["calls"]
    assert all(len(call["epochs"]) == 2 for of_name in calls.values() for call in of_name)
    assert "| dataset | fit |" in results.with_suffix(".md").read_text()


def test_checkpoints_are_timed_and_weighed(tmp_path):
    results = tmp_path / "checkpointing.json"
    given = ["--epochs", "1", "--examples", "400", "--repetitions", "1"]
    rows = load("checkpointing").main([*given, "--results", str(results)])
    assert list(rows) == ["none", "every epoch", "every 100 steps"]
    assert rows["every epoch"]["bytes of one"] > 4 * 3 * 400_000 > rows["none"]["bytes of one"]
    assert "| every 100 steps |" in results.with_suffix(".md").read_text()


def test_a_training_that_breaks_off_lets_the_others_go_on(monkeypatch, tmp_path):
    benchmark = load("steering")

    def broken(steps):
        raise ArithmeticError("broken")

    monkeypatch.setitem(benchmark.ROWS, "all", (broken,))
    sizes = ["--data", "mnist_5k", "--batch-size", "500", "--epochs", "1"]
    paths = ["--no-jit", "--results", str(tmp_path / "steering.json")]
    with pytest.raises(ArithmeticError, match="broken"):
        benchmark.main([*sizes, *paths])


def test_trainings_of_several_seeds_are_compared(tmp_path):
    benchmark = load("one_cycle")
    paths = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results.json")]
    sizes = ["--data", "mnist_5k", "--batch-size", "500", "--num-samples", "2", "--epochs", "2"]
    given = [*sizes, *paths, "--rows", "one_cycle"]
    both = benchmark.main(["--seeds", "0", "1", *given])["one_cycle"]
    assert both["1"]["elbo"] != both["0"]["elbo"]
    for result in both.values():
        assert result["epochs"] == len(result["curves"]["elbo"]) == 1  # Half of 2.
        assert result["curves"]["elbo"][-1] == pytest.approx(result["elbo"], abs=1e-3)
    assert " +- " in (tmp_path / "results.md").read_text()


def test_annealed_trainings_end_with_the_whole_kl(tmp_path):
    benchmark = load("annealing")
    paths = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results.json")]
    sizes = ["--data", "mnist_5k", "--batch-size", "500", "--num-samples", "2", "--epochs", "1"]
    given = [*sizes, *paths, "--rows", "warm_up", "--seeds", "0"]
    result = benchmark.main(given)["warm_up"]["0"]
    logs = (tmp_path / "runs" / "warm_up_1_epochs_seed_0" / "logs.jsonl").read_text()
    assert json.loads(logs)["beta"] == 1.0
    assert f"| {result['active_units']} of 50 |" in (tmp_path / "results.md").read_text()
    for schedule in filter(None, benchmark.SCHEDULES.values()):
        assert [float(schedule(1000)(t)) for t in (0, 999)] == [0.0, 1.0]


def test_beta_vaes_stand_beside_representations_of_known_scores(tfds_data_dir, tmp_path):
    if not pathlib.Path(tfds_data_dir, "dsprites").is_dir():
        pytest.skip(f"dsprites is not prepared in TFDS_DATA_DIR={tfds_data_dir}")
    benchmark = load("dsprites")
    paths = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results.json")]
    sizes = ["--train", "train[:640]", "--epochs", "1", "--num-train", "50", "--num-eval", "60"]
    given = [*sizes, *paths, "--seeds", "0", "--betas", "8"]
    rows = benchmark.main([*given, "--constructed", "duplicated"])
    assert rows["beta_8"]["0"]["epochs"] == 1 and rows["beta_8"]["0"]["kl"] >= 0.0
    copies = rows["duplicated"]["0"]
    assert (copies["mutual_information_gap"], copies["factor_vae"]) == (0.0, 1.0)
    assert str(tmp_path) not in (tmp_path / "results.json").read_text(), "a path of the machine"
    assert "| duplicated | 1.00 | 1.00 | 0.00 |" in (tmp_path / "results.md").read_text()


def test_estimates_of_log_p_x_are_timed_in_processes_of_their_own(tmp_path):
    paths = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results.json")]
    options = ["--rows", "0", "3", "--epochs", "1", "--data", "mnist_5k"]
    rows = load("log_likelihood").main([*options, *paths])
    assert rows["0"].keys() == {"peak_mebibytes"} and rows["3"]["seconds"] > 0.0
    assert 100.0 < rows["0"]["peak_mebibytes"] < 4000.0
    model = keras.saving.load_model(tmp_path / "runs" / "model.keras")
    test = kv.data.load("mnist_5k", "test", 128, binarize="dynamic", shuffle=False)
    again = kv.evaluation.log_likelihood(model, test, 3)
    assert rows["3"]["log_likelihood"] == pytest.approx(again.mean, rel=1e-5)
    lines = (tmp_path / "results.md").read_text().splitlines()
    assert len(lines) == 4 and lines[-1].startswith("| 3 | ")


def test_fitted_priors_are_held_against_the_standard_normal(tmp_path):
    paths = ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "samplers.json")]
    sizes = ["--rows", "1", "--epochs", "1", "--fit-epochs", "1", "--num-samples", "2"]
    options = ["--data", "mnist_5k", "--test", "test", *sizes, *paths]
    rows = load("samplers").main(options)
    assert list(rows["1"]) == sorted(load("samplers").PRIORS)
    before = (tmp_path / "samplers.json").read_text()
    load("samplers").main(options)  # Nothing is left to do.
    assert (tmp_path / "samplers.json").read_text() == before
    lines = (tmp_path / "samplers.md").read_text().splitlines()
    standard, mixture = (cells.split(" | ") for cells in lines[2:4])
    assert standard[0] == "| N(0, I)" and standard[2] == ""
    estimates = [rows["1"][name]["log_likelihood"] for name in list(load("samplers").PRIORS)[:2]]
    assert float(mixture[2].split()[0]) == pytest.approx(estimates[1] - estimates[0], abs=0.01)


def test_codes_are_drawn_with_memory_and_by_full_passes(tmp_path):
    results = tmp_path / "code_sampling.json"
    sizes = ["--sizes", "3", "--batch", "2", "--num-codes", "4", "--repetitions", "1"]
    rows = load("code_sampling").main([*sizes, "--results", str(results)])
    assert list(rows) == ["PixelCNN 3x3", "PixelSNAIL 3x3"]
    assert all(row["same_codes"] == 1.0 and row["faster"] > 0.0 for row in rows.values())
    assert json.loads(results.read_text())["rows"] == rows
    assert "| PixelCNN | 3x3 |" in results.with_suffix(".md").read_text()


def test_distances_are_measured_between_all_pairs(tmp_path):
    classifier = tmp_path / "classifier.keras"
    layers = [keras.Input((28, 28, 1)), keras.layers.Flatten()]
    layers += [keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(10)]
    keras.Sequential(layers).save(classifier)
    paths = ["--runs", str(tmp_path), "--results", str(tmp_path / "distances.json")]
    options = ["--data", "mnist_5k", "--count", "40", "--epochs", "1"]
    rows = load("distances").main([*options, "--classifier", str(classifier), *paths])
    assert len(rows) == 7
    assert rows["training digits"]["frechet"] < rows["shuffled pixels"]["frechet"]
    assert len((tmp_path / "distances.md").read_text().splitlines()) == 9
    assert str(tmp_path) not in (tmp_path / "distances.json").read_text()


@pytest.mark.parametrize("name", ["mlp_5_100", "conv_1_100"])
def test_the_hand_written_model_is_that_of_the_package(name):
    row = load("throughput").ROWS[name]
    model = load("throughput").build(row)
    by_hand = load("hand_written").HandWritten(row.network, row.num_samples)
    noise = np.random.default_rng(0)
    for variable in model.trainable_variables:
        # Far from the initial weights, some of which are zero.
        variable.assign_add(noise.normal(0.0, 0.03, variable.shape))
    loc, raw_scale = model.posterior_head.loc, model.posterior_head.raw_scale
    *decoder, bias = model.decoder.trainable_variables
    both = zip(loc.weights, raw_scale.weights, strict=True)
    projection = [tf.concat(pair, axis=-1) for pair in both]
    weights = [*model.encoder.trainable_variables, *projection, *decoder, bias]
    for variable, value in zip(by_hand.variables, weights, strict=True):
        variable.assign(value)
    x = noise.integers(0, 2, (6, 28, 28, 1)).astype("float32")
    terms = model.compute_terms(tf.constant(x), row.num_samples, seed=1)
    q = terms.draws.q
    measures = by_hand.measures(tf.constant(x), (terms.draws.z - q.mean()) / q.stddev())
    wanted = (model.objective.loss(terms), terms.elbo, terms.reconstruction, terms.kl_total)
    for value, same in zip(measures, wanted, strict=True):
        np.testing.assert_allclose(value, same, rtol=1e-5)


def test_the_hand_written_step_trains_and_logs():
    by_hand = load("hand_written").HandWritten("mlp", 5)
    x = np.random.default_rng(0).integers(0, 2, (8, 28, 28, 1)).astype("float32")
    batches = [tf.constant(x), tf.constant(x)]
    first = by_hand.epoch(batches)
    assert first["loss"] == pytest.approx(784 * np.log(2.0), rel=0.1)
    for _ in range(10):
        last = by_hand.epoch(batches)
    assert last["loss"] < 0.9 * first["loss"]
    assert last["elbo"] == pytest.approx(-last["reconstruction"] - last["kl"], rel=1e-5)
    assert last["loss"] < -last["elbo"]  # L_5 is the tighter bound.


def test_operations_of_a_step_are_counted():
    benchmark = load("hand_written")
    encoder = 2 * 784 * 200 + 3 * (200 * 200 + 200 * 100)
    decoder = 3 * (50 * 200 + 200 * 200 + 200 * 784)
    count = benchmark.operations_per_example(benchmark.HandWritten("mlp", 50))
    assert count == 2 * (encoder + 50 * decoder)
    encoder = 2 * 16 * 32 * 14**2 + 3 * (16 * 32 * 64 * 7**2 + 3136 * 256 + 256 * 32)
    decoder = 3 * (16 * 256 + 256 * 3136 + 16 * 64 * 32 * 7**2 + 16 * 32 * 14**2)
    count = benchmark.operations_per_example(benchmark.HandWritten("conv", 1))
    assert count == 2 * (encoder + decoder)


def test_contenders_take_turns(tmp_path, capsys):
    benchmark, path = load("throughput"), tmp_path / "throughput.json"
    sizes = ["--data", "mnist_5k", "--rows", "mlp_1_1000", "--repetitions", "2", "--seconds", "0.1"]
    rows = benchmark.main([*sizes, "--without", "pythae", "jax", "torch", "--results", str(path)])
    assert str(tmp_path) not in path.read_text(), "a path of the machine"
    assert json.loads(path.read_text())["cores"] >= 1
    row = rows["mlp_1_1000"]
    assert row["speeds"].keys() == {"fit", "fit_50", "hand_written", "graph", "products"}
    assert all(len(values) == 2 and min(values) > 0.0 for values in row["speeds"].values())
    found = benchmark.summary(row)["fit"]
    fit, by_hand = (np.array(row["speeds"][name]) for name in ("fit", "hand_written"))
    assert found["to_hand_written"][1] == pytest.approx(np.median(fit / by_hand))
    assert 0.0 < found["of_products"][1] < 1.0
    table = capsys.readouterr().out
    assert f"| fit | {np.median(fit):,.0f} |" in table and "| pythae |" not in table
    assert (tmp_path / "throughput.md").read_text() in table
    assert "JAX" not in table, "a column of a contender that was left out"


def test_hierarchies_and_layers_take_turns(tmp_path, capsys):
    benchmark, path = load("hierarchical_speed"), tmp_path / "speed.json"
    sizes = ["--data", "mnist_5k", "--rows", "hierarchy", "layers_5", "--repetitions", "1"]
    sizes += ["--examples", "256"]
    rows = benchmark.main([*sizes, "--seconds", "0.1", "--without-torch", "--results", str(path)])
    assert list(rows["hierarchy"]) == ["fit"]
    assert sorted(rows["layers_5"]) == ["one_layer", "two_layers"]
    speeds = [speed for row in rows.values() for values in row.values() for speed in values]
    assert len(speeds) == 3 and min(speeds) > 0.0
    table = capsys.readouterr().out
    assert (tmp_path / "speed.md").read_text() in table
    assert "| layers_5 | one_layer |" in table and "torch" not in table


def test_the_hierarchy_of_the_peer_is_asked_for_as_many_parameters():
    benchmark, asked = load("hierarchical_speed"), []

    class Worker:
        def ask(self, **request):
            asked.append(request)
            return {"seconds": 2.0}

    contenders = benchmark.of_hierarchy(None, 256, Worker())
    assert list(contenders) == ["fit", "torch", "torch_compile"]
    assert [contenders[name](3) for name in ("torch", "torch_compile")] == [2.0, 2.0]
    parts = load("hierarchies").ROWS["convolutional"].parts()
    count = kv.HierarchicalVAE(**parts).top_down.count_params() + parts["bottom_up"].count_params()
    assert [request["parameters"] for request in asked] == [count] * 2
    assert [request["compiled"] for request in asked] == [False, True]


def test_contenders_of_other_processes_are_asked_for_the_row():
    benchmark = load("throughput")
    asked = []

    class Worker:
        def ask(self, **request):
            asked.append(request)
            return {"seconds": 2.0}

    row = benchmark.ROWS["mlp_5_100"]
    for name, (of_peer, options) in benchmark.PEERS.items():
        assert of_peer in load("peers.environment").PEERS and name in benchmark.LABELS
        assert benchmark.peer(row, 30_000, Worker(), options)(3) == 2.0
    same = {"network": "mlp", "num_samples": 5, "batch_size": 100, "examples": 30_000, "epochs": 3}
    different = [
        {},
        {"compiled": True},
        {"compiled": False},
        {"gathered": False},
        {"gathered": True},
    ]
    assert asked == [{**same, **options} for options in different]


@pytest.mark.parametrize(
    ("peer", "options"),
    [("jax", {}), ("torch", {"compiled": False}), ("torch", {"compiled": True})],
)
def test_steps_of_peers_are_the_hand_written_one(peer, options, tmp_path):
    environment = load("peers.environment")
    folder = environment.FOLDER / peer
    if environment.versions(peer, folder) is None:
        pytest.skip(f"there is no environment of {peer} in {environment.FOLDER}")
    images = tmp_path / "images.npy"
    np.save(images, np.zeros([6, 784], "uint8"))
    worker = environment.Worker(environment.PEERS[peer].module, folder, images, threads=2)
    for network, num_samples in (("mlp", 1), ("mlp", 5), ("conv", 1)):
        by_hand = load("hand_written").HandWritten(network, num_samples)
        noise = np.random.default_rng(0)
        for variable in by_hand.variables:
            # Far from the initial weights, some of which are zero.
            variable.assign_add(noise.normal(0.0, 0.03, variable.shape))
        given = {f"weight_{i}": v.numpy() for i, v in enumerate(by_hand.variables)}
        x = noise.integers(0, 2, (4, 6, 784)).astype("float32")
        draws = noise.normal(size=(4, num_samples, 6, by_hand.latent_dim)).astype("float32")
        np.savez(tmp_path / "steps.npz", x=x, noise=draws, **given)
        row = {"network": network, "num_samples": num_samples, "batch_size": 6, "examples": 6}
        answer = worker.ask(**row, **options, given=str(tmp_path / "steps.npz"))
        steps = zip(x.reshape(-1, 6, 28, 28, 1), draws, strict=True)
        wanted = [by_hand.advance(tf.constant(one), tf.constant(e))[0] for one, e in steps]
        # From the second on they depend on gradients and Adam; a step lowers the loss by 2 to 5%.
        np.testing.assert_allclose(answer["losses"], np.mean(wanted, axis=1), rtol=1e-4)
        first, later = (worker.ask(**row, **options, epochs=epochs) for epochs in (1, 20))
        assert later["seconds"] > 0.0 and later["loss"] < 0.9 * first["loss"]
    worker.close()


def test_a_peer_that_cannot_be_installed_is_left_out(monkeypatch, tmp_path, capsys):
    peer = load("peers.environment")

    def no_room(*args, **options):
        raise OSError("no room")

    monkeypatch.setattr(peer.venv, "create", no_room)
    assert peer.install("pythae", tmp_path / "pythae") is None
    assert "Without pythae, which cannot be installed: no room" in capsys.readouterr().out


def test_a_worker_answers_line_by_line_or_has_ended(monkeypatch, tmp_path):
    environment = load("peers.environment")
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    script = "import json; print(json.dumps({'seconds': json.loads(input())['epochs']}))"
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "PACKAGE", "package")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "worker.py").write_text(f"{script}; raise SystemExit('no gcc')")
    worker = environment.Worker("worker", tmp_path, tmp_path / "images.npy", threads=1)
    assert worker.ask(epochs=3) == {"seconds": 3}
    with pytest.raises(RuntimeError, match="worker ended at the request .*: no gcc"):
        worker.ask(epochs=4)
        worker.ask(epochs=5)
    worker.close()


def test_the_growth_of_cost_is_measured_and_drawn(monkeypatch, tmp_path):
    benchmark, path = load("cost"), tmp_path / "cost.json"
    children = []

    def child(args, *given):
        # What a process of its own would measure; importing TensorFlow there takes seconds.
        children.append(given)
        args.child = list(map(str, given))
        return benchmark.leaking(args) if given[0] == "leak" else benchmark.peak(args)

    monkeypatch.setattr(benchmark, "child", child)
    sizes = ["--samples", "1", "3", "--samples-wide", "1", "2", "--batch-sizes", "4", "8"]
    sizes += ["--steps", "2", "--examples", "8", "--repetitions", "1", "--size-of-epochs", "200"]
    sizes += ["--sizes", "100", "200", "--array-sizes", "100", "--epochs", "1", "2"]
    sizes += ["--leak-steps", "6", "--interval", "2"]
    rows = benchmark.main([*sizes, "--results", str(path)])
    assert str(tmp_path) not in path.read_text(), "a path of the machine"
    assert list(rows["samples"]["encoder"]) == ["1", "3", "alone"]
    assert rows["memory"].keys() == {"stream/100/1", "stream/200/1", "stream/200/2", "array/100/1"}
    assert list(rows["leak"]) == ["2", "4", "6"]
    assert children[-1] == ("leak", 2, 3) and len(children) == 5
    report = path.with_suffix(".md").read_text()
    assert report.count("| 200-200 |") == 2 and "bytes a step" in report
    figure = load_script(ROOT / "docs" / "figures" / "cost.py")
    evaluation = {str(n): {"peak_mebibytes": 900.0} for n in (0, 50, 500)}
    assert len(figure.draw(rows, evaluation).axes) == 6


def test_lines_are_fitted_to_costs():
    report = load("cost_report")
    counts = np.array([1, 5, 50])
    found = report.line(counts, 2.0 + 3.0 * counts, relative=True)
    assert found["intercept"] == pytest.approx(2.0) and found["slope"] == pytest.approx(3.0)
    assert found["slope_error"] < 1e-6 and found["worst_deviation"] < 1e-6
    # Squares left: 4, of 5 - 2 degrees of freedom; squared distances from the mean: 10.
    found = report.line([0, 1, 2, 3, 4], [11.0, 9.0, 10.0, 9.0, 11.0])
    assert found["slope"] == pytest.approx(0.0, abs=1e-12)
    assert found["slope_error"] == pytest.approx(np.sqrt(4.0 / 3.0 / 10.0))
    rows = {"500": 100.0, "1000": 200.0, "2000": 201.0, "3000": 202.0}
    assert report.growth_of_memory(rows)["slope"] == pytest.approx(1e-3)
    row = {"2": {"wall": [3.0, 1.0, 2.0]}, "10": {"wall": [5.0]}, "alone": {"wall": [9.0]}}
    assert [list(values) for values in report.medians(row, "wall")] == [[2, 10], [2.0, 5.0]]


def test_adversarial_models_stand_beside_vaes(tmp_path):
    benchmark = load("adversaries")
    layers = [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(4, "relu")]
    classifier = keras.Sequential([*layers, keras.layers.Dense(10)])
    classifier.save(file := tmp_path / "classifier.keras")
    given = ["--data", "mnist_5k", "--train", "train[:200]", "--test", "test[:60]"]
    given += ["--epochs", "1", "--num-samples", "2", "--num-likelihood", "10"]
    given += [argument for name in ("--classifier", "--second") for argument in (name, str(file))]
    given += ["--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results.json")]
    with pytest.raises(SystemExit, match=r"needs the rows \['vae', 'vae_gan'\]"):
        benchmark.main([*given, "--rows", "vae_long"])
    rows = benchmark.main([*given, "--rows", "vae", "vae_gan", "vae_long"])
    assert list(rows) == ["vae", "vae_gan", "vae_long"]
    measured = {"squared_error", "log_likelihood", "frechet_reconstructions"}
    kinds = itertools.product(("frechet", "kernel", "coverage"), ("samples", "draws"))
    judged = {"_".join(pair) for pair in kinds}
    measured |= judged | {f"second_{name}" for name in judged}
    for name, row in rows.items():
        assert row["0"].keys() >= measured, name
        assert all(np.isfinite(value) for value in row["0"].values()), name
    assert rows["vae_long"]["0"]["epochs"] >= 1
    assert benchmark.main([*given, "--rows", "vae"]) == rows  # It is not repeated.
    assert str(tmp_path) not in (tmp_path / "results.json").read_text(), "a path of the machine"
    assert "| vae_gan | 1 |" in (tmp_path / "results.md").read_text()


def test_steps_of_a_vae_gan_are_timed(tmp_path, capsys):
    given = ["--data", "mnist_5k", "--repetitions", "1", "--seconds", "0.1"]
    given += ["--batch-size", "100", "--examples", "200", "--without", "jax", "torch", "pythae"]
    row = load("vaegan_speed").main([*given, "--results", str(tmp_path / "results.json")])
    assert set(row["speeds"]) == {"vae", "fit"}
    assert all(speed > 0.0 for speeds in row["speeds"].values() for speed in speeds)
    assert "fit, VAE-GAN" in capsys.readouterr().out
