"""What the monitors have in common: they watch, resume, survive, and refuse what they must."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_vae as kv


def _both(x, folder, **options):
    latent = kv.callbacks.LatentMonitor(
        x, csv=folder / "latent.csv", log_dir=folder / "logs", **options
    )
    images = kv.callbacks.ImageMonitor(
        x, directory=folder, log_dir=folder / "logs", num_images=10, **options
    )
    return [latent, images]


def _state(model):
    return [v.numpy().copy() for v in [*model.weights, *model.optimizer.variables]]


@pytest.mark.full
def test_the_training_is_the_same_to_the_bit_with_and_without(make_vae, fit, x, tmp_path):
    states, logs = [], []
    for watched in (False, True):
        keras.utils.set_random_seed(1)
        noisy = [keras.layers.BatchNormalization(), keras.layers.Dropout(0.2)]
        model = make_vae(
            encoder=keras.Sequential([kv.networks.MLPEncoder((8,)), *noisy]),
            posterior=kv.posteriors.AutoregressiveFlow(2, num_flows=1, hidden_units=(4,)),
        )
        # Shuffled by Keras, with its own global seed.
        keras.utils.set_random_seed(1)
        options = {"epochs": 2, "batch_size": 14}
        history = fit(model, _both(x, tmp_path) if watched else [], **options)
        states.append(_state(model))
        logs.append({name: history[name] for name in ("loss", "elbo", "kl")})
    assert logs[0] == logs[1]
    for without, watched in zip(*states, strict=True):
        np.testing.assert_array_equal(without, watched)


@pytest.mark.full
def test_two_replicas_are_watched_as_one(make_vae, fit, x, tmp_path, replicas):
    with replicas.scope():
        model = make_vae()
    model.run_eagerly = False
    latent, _ = monitors = _both(x, tmp_path)
    fit(model, monitors, epochs=2)
    kl = kv.bounds.closed_form_kl(model.encode(x), model.prior()).numpy()
    np.testing.assert_allclose(latent.history[1].kl, kl.mean(axis=0), rtol=1e-4)
    assert Image.open(tmp_path / "training.gif").n_frames == 2


KILLED = """
import os, pathlib, signal, sys
import keras, numpy as np
import keras_vae as kv

class Kill(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 2:
            table = folder / "latent.csv"
            with table.open("a") as file:
                file.write("3,0,1,0.1")  # in the middle of a row
            half = folder / "samples" / ".epoch_0004.png-killed"
            half.mkdir()
            (half / "written-epoch_0004.png").write_bytes(b"half of a picture")
            os.kill(os.getpid(), signal.SIGKILL)

folder = pathlib.Path(sys.argv[1])
x = np.random.default_rng(0).integers(0, 2, (28, 8, 8, 1)).astype("float32")
keras.utils.set_random_seed(0)
model = kv.VAE(
    encoder=kv.networks.MLPEncoder((8,)),
    decoder=kv.networks.MLPDecoder((8, 8, 1), (8,)),
    posterior=kv.posteriors.DiagonalNormal(2),
    likelihood=kv.likelihoods.Bernoulli((8, 8, 1)),
)
model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)  # as the test does
latent = kv.callbacks.LatentMonitor(x, csv=folder / "latent.csv", log_dir=folder / "logs")
images = kv.callbacks.ImageMonitor(x, directory=folder, log_dir=folder / "logs", num_images=10)
backup = keras.callbacks.BackupAndRestore(str(folder / "backup"))
model.fit(x, batch_size=28, shuffle=False, epochs=5, verbose=0,
          callbacks=[latent, images, Kill(), backup])
"""


@pytest.mark.full
def test_files_are_whole_after_a_kill_and_a_resume(make_vae, fit, x, tmp_path, events):
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    # What was measured is on disk: of the third epoch, too, which the backup does not know of.
    assert set(events(tmp_path / "logs")["latent/active_units"]) == {0, 1, 2}
    before = (tmp_path / "latent.csv").read_text().splitlines()

    latent, images = _both(x, tmp_path)
    backup = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
    fit(make_vae(), [latent, images, backup], epochs=5, shuffle=False)
    assert list(latent.history) == [2, 3, 4]  # begun where the backup was made
    with (tmp_path / "latent.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    after = (tmp_path / "latent.csv").read_text().splitlines()
    assert after[:5] == before[:5]
    # The third epoch was trained twice, the same way.
    for row, old in zip(rows[4:6], csv.DictReader([before[0], *before[5:7]]), strict=True):
        assert float(row["kl"]) == pytest.approx(float(old["kl"]), rel=1e-4)
    for kind in ("reconstructions", "samples", "traversals"):
        for epoch in range(1, 6):
            Image.open(tmp_path / kind / f"epoch_{epoch:04d}.png").load()
    assert Image.open(tmp_path / "training.gif").n_frames == 5


@pytest.mark.full
def test_a_training_that_breaks_off_leaves_what_was_measured(make_vae, fit, x, tmp_path, events):
    class Break(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise RuntimeError("broken")

    model, monitors = make_vae(), _both(x, tmp_path)
    with pytest.raises(RuntimeError, match="broken"):
        fit(model, [*monitors, Break()], epochs=3)
    assert set(events(tmp_path / "logs")["images/samples"]) == {0, 1}
    fit(model, monitors, epochs=3, initial_epoch=2)
    assert Image.open(tmp_path / "training.gif").n_frames == 3


@pytest.mark.full
def test_without_a_log_dir_nothing_of_tensorboard_is_needed(
    make_vae, fit, x, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    fit(make_vae(), [kv.callbacks.LatentMonitor(x)])
    for monitor in (kv.callbacks.LatentMonitor, kv.callbacks.ImageMonitor):
        with pytest.raises(ImportError, match=r"`log_dir` needs .*keras_vae\[tensorboard\]"):
            monitor(x, log_dir=tmp_path)


@pytest.mark.parametrize("argument", ["csv", "log_dir", "directory"])
def test_what_cannot_be_written_is_told_before_the_first_step(make_vae, fit, x, tmp_path, argument):
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "below"
    kind = kv.callbacks.ImageMonitor if argument == "directory" else kv.callbacks.LatentMonitor
    model = make_vae()
    with pytest.raises(ValueError, match=f"`{argument}` must .*can be written"):
        fit(model, [kind(x, **{argument: path})])
    assert int(model.optimizer.iterations) == 0


@pytest.mark.parametrize("kind", [kv.callbacks.LatentMonitor, kv.callbacks.ImageMonitor])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"every": 0}, "`every` must be an integer >= 1"),
        ({"data": [1, 2]}, "`data` must be an array, a pair of arrays"),
        ({"data": iter([])}, "`data` must be an array, a pair of arrays"),
        ({"data": np.zeros([0, 8, 8, 1])}, "`data` must hold at least one example"),
        ({"data": (np.zeros([4, 8, 8, 1]), np.zeros(3))}, "`data` must hold .* as many"),
        ({"log_dir": 5}, "`log_dir` must be the path of a folder, or None"),
    ],
)
def test_bad_arguments_are_refused(x, tmp_path, kind, change, message):
    with pytest.raises(ValueError, match=message):
        kind(**{"data": x, "log_dir": tmp_path / "new", **change})
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", [kv.callbacks.LatentMonitor, kv.callbacks.ImageMonitor])
def test_data_that_do_not_fit_are_refused_before_the_first_step(make_vae, fit, x, tmp_path, kind):
    model = make_vae()
    for data, message in [
        (255.0 * x, r"must be in \[0, 1\]"),
        (x[..., 0], "Add the channel axis"),
        (tf.data.Dataset.from_tensors(x[:, :4]), "must have shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            fit(model, [kind(data, log_dir=tmp_path / "new")])
    assert int(model.optimizer.iterations) == 0
    assert not (tmp_path / "new").exists()


@pytest.mark.full
def test_values_of_a_dataset_are_checked_as_it_is_read(make_vae, fit, x):
    data = tf.data.Dataset.from_tensor_slices(255.0 * x).batch(8)
    with pytest.raises(ValueError, match=r"must be in \[0, 1\]"):
        fit(make_vae(), [kv.callbacks.LatentMonitor(data)])


def test_a_model_of_another_kind_is_refused(x, fit):
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="`model` must be a VAE for LatentMonitor"):
        fit(model, [kv.callbacks.LatentMonitor(x)], y=np.zeros([28, 1]))
