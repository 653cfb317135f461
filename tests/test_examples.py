"""Every example runs, for the shortest training that is one."""

from __future__ import annotations

import csv
import json
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

import keras_vae as kv
from tests.scripts import load_script

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"
SHORTEST = {
    "mnist_5k": ["--epochs", "1", "--num-samples", "2", "--network", "mlp"],
    "monitoring": ["--epochs", "2", "--every", "2"],
    "train_classifier": ["--data", "digits", "--epochs", "3"],
    "mixture_of_gaussians": ["--epochs", "3", "--examples", "500"],
    "vae_gan": ["--epochs", "1", "--batch-size", "1000"],
}
CHECKS = {"check_saved_model"}  # Run on what the others write.


def _load(name: str):
    return load_script(EXAMPLES / f"{name}.py")


def test_every_example_is_tested():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == SHORTEST.keys() | CHECKS


@pytest.fixture(scope="module")
def mnist_5k(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mnist_5k")
    paths = ["--runs", str(folder / "runs"), "--export", str(folder / "saved" / "1")]
    return folder, _load("mnist_5k").main([*SHORTEST["mnist_5k"], *paths])


@pytest.mark.full
def test_mnist_5k_judges_draws_and_exports(mnist_5k):
    folder, results = mnist_5k
    # K = 2 samples bound log p(x) at least as tightly as the ELBO; the slack is 4 times the largest
    # standard error of their difference seen, about 0.05 nats.
    assert results["log_likelihood"] > results["elbo"] - 0.2
    assert abs(results["elbo"] + results["reconstruction"] + results["kl"]) < 1e-3
    # An untrained model with the bias at the data's mean scores about -206.
    assert results["elbo"] > -200.0
    figures = {path.stem for path in (folder / "runs").glob("*.png")}
    assert figures >= {"learning_curves", "reconstructions", "samples", "traversal", "latent_map"}


@pytest.mark.full
def test_saved_model_equals_the_model_in_a_process_without_the_package(mnist_5k):
    folder, _ = mnist_5k
    command = [
        sys.executable,
        "-P",
        str(EXAMPLES / "check_saved_model.py"),
        str(folder / "saved/1"),
    ]
    if sys.version_info < (3, 11):
        command.remove("-P")
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.count("equals the model's") == 5


@pytest.mark.full
def test_check_notices_outputs_that_differ(mnist_5k):
    folder, _ = mnist_5k
    expected = folder / "saved" / "1" / "assets.extra" / "expected.json"
    original = expected.read_text()
    expected.write_text(original.replace('"seed": 1', '"seed": 2', 1))
    try:
        with pytest.raises(SystemExit, match="sample: the outputs differ"):
            _load("check_saved_model").check(folder / "saved" / "1")
    finally:
        expected.write_text(original)


@pytest.mark.full
def test_each_estimate_of_a_mixture_is_below_the_exact_one(tmp_path):
    short = [*SHORTEST["mixture_of_gaussians"], "--runs", str(tmp_path)]
    results = _load("mixture_of_gaussians").main(short)
    assert results["exact"]["estimate"] == pytest.approx(results["exact"]["exact"], rel=1e-5)
    gaps = {name: row["exact"] - row["estimate"] for name, row in results.items()}
    # An ELBO loses more than the bound of 5 samples; 1,000 points and a few epochs leave no doubt.
    assert gaps["vae"] > gaps["weighted"] > 0.0
    assert results["relaxed"]["exact"] > results["naive"]["exact"]
    assert results["naive"]["exact"] < results["exact"]["exact"]
    assert (tmp_path / "mixture.png").is_file()


@pytest.mark.full
def test_monitoring_leaves_all_there_is_to_see(tmp_path):
    history = _load("monitoring").main([*SHORTEST["monitoring"], "--runs", str(tmp_path)])
    with (tmp_path / "logs.csv").open(newline="") as file:
        logs = [row["active_units"] for row in csv.DictReader(file)]
    assert logs == [str(count) for count in history["active_units"]]
    assert len((tmp_path / "latent.csv").read_text().splitlines()) == 1 + 2 * 32
    assert Image.open(tmp_path / "pictures" / "training.gif").n_frames == 2
    runs = {path.parent.name for path in tmp_path.rglob("events.out.tfevents.*")}
    assert runs == {"train", "validation", "monitors"}
    settings = (tmp_path / "projector_config.pbtxt").read_text()
    files = re.findall(r'_path: "(.*?)"', settings)
    assert len(files) == 3 and all((tmp_path / file).is_file() for file in files)


@pytest.mark.full
def test_classifier_gives_features_of_images_it_tells_apart(tmp_path):
    results = _load("train_classifier").main(
        [*SHORTEST["train_classifier"], "--runs", str(tmp_path)]
    )
    assert results["accuracy"] > 0.5  # of ten classes
    features = kv.evaluation.classifier_features(tmp_path / "digits.keras")
    assert features(np.zeros([3, 8, 8, 1])).shape == (3, 64)


@pytest.mark.full
def test_a_vae_gan_is_drawn_and_judged_beside_a_vae(tmp_path):
    layers = [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(4, "relu")]
    keras.Sequential([*layers, keras.layers.Dense(10)]).save(tmp_path / "classifier.keras")
    paths = ["--classifier", str(tmp_path / "classifier.keras"), "--runs", str(tmp_path)]
    results = _load("vae_gan").main([*SHORTEST["vae_gan"], *paths])
    assert list(results) == ["VAE", "VAE-GAN"]
    assert all(np.isfinite(value) for row in results.values() for value in row.values())
    assert json.loads((tmp_path / "results.json").read_text()) == results
    drawn = {path.stem for path in tmp_path.glob("*.png")}
    of_each = {f"{what}_{n}" for what in ("samples", "reconstructions") for n in ("vae", "vae_gan")}
    assert drawn == {"balance", *of_each}
