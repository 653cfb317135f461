"""Two processes train as two replicas of one process do, and go on after one was killed."""

import pathlib
import re
import signal

import numpy as np
import pytest
import tensorflow as tf

pytestmark = pytest.mark.full

HERE = pathlib.Path(__file__).parent
NAMES = ["arrays", "loaded_data", "geco", "skipped_step"]


@pytest.fixture(scope="module")
def mirrored(script, replicas):
    return script("scenarios").run(replicas)


@pytest.fixture(scope="module")
def folder(script, tmp_path_factory):
    """Return where two workers have left what they found."""
    folder = tmp_path_factory.mktemp("workers")
    for process in script("cluster").run(HERE / "scenarios.py", folder):
        assert process.returncode == 0, process.output[-3000:]
    return folder


@pytest.fixture(scope="module")
def found(folder):
    return [dict(np.load(folder / f"worker_{index}.npz")) for index in range(2)]


def test_every_scenario_is_compared(mirrored):
    assert {key.partition("/")[0] for key in mirrored} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_workers_equal_replicas(mirrored, found, name):
    keys = {key for key in mirrored if key.startswith(f"{name}/") and "/batches/" not in key}
    assert any("/weights/" in key for key in keys) and any("/logs/" in key for key in keys)
    for worker in found:
        assert keys <= worker.keys()
        for key in keys:
            close = {"rtol": 1e-6, "atol": 1e-6, "err_msg": key}
            np.testing.assert_allclose(worker[key], mirrored[key], **close)
    for key in keys:
        np.testing.assert_array_equal(found[0][key], found[1][key], err_msg=key)


@pytest.mark.parametrize("log", ["loss", "elbo", "reconstruction", "kl"])
def test_logs_of_batches_are_those_of_each_worker(found, log):
    one, two = (worker[f"geco/batches/{log}"] for worker in found)
    assert one.shape == two.shape == (6,)
    # The parts of the workers are equal, and so the means of both are those of the epochs.
    epochs = found[0][f"geco/logs/{log}"]
    np.testing.assert_allclose((one + two)[[2, 5]] / 2, epochs, rtol=1e-6)


def test_steps_were_skipped_on_both(found):
    assert found[1]["skipped_step/logs/skipped_steps"].tolist() == [1, 2]


def test_chief_alone_writes_and_all_read(folder, found):
    written = {path.name for path in folder.iterdir()} - {"worker_0.npz", "worker_1.npz"}
    assert written == {"1.keras", "2.keras", "all.weights.h5", "chief.keras", "exported"}
    assert np.isfinite(found[0]["files/log_likelihood"])
    for worker in found:
        trained, loaded = worker["files/goes_on"]
        np.testing.assert_array_equal(trained, loaded)


def test_exported_model_serves(folder, found):
    served = tf.saved_model.load(str(folder / "exported" / "1")).signatures["sample"]
    sample = served(count=tf.constant(2), seed=tf.constant(0))["mean"]
    np.testing.assert_allclose(sample, found[0]["files/sample"], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("backup", "`callbacks` must hold keras_vae.callbacks.Resume, not BackupAndRestore"),
        ("folders", r"`directory` must be one folder .*by worker: \[0, 1\]"),
        ("order", "`x` must be shuffled the same way on every worker"),
    ],
)
def test_what_would_go_wrong_is_refused_on_all(found, name, message):
    for worker in found:
        assert re.search(message, str(worker[f"refusals/{name}"]))


def assert_told(process, gone):
    assert process.returncode == 1
    *_, last = process.output.strip().splitlines()
    assert last.startswith(f"RuntimeError: A worker of this cluster is gone: worker {gone} (")
    assert "resumes from the last checkpoint" in last
    assert "grpc" not in process.output.lower()


def test_a_job_goes_on_after_a_worker_and_after_the_chief_was_killed(script, replicas, tmp_path):
    cluster, killed = script("cluster"), script("killed")
    # The chief tells of a silent worker, others find out themselves that they cannot reach it.
    for victim, epoch, patience in ((1, 1, 20), (0, 3, 200)):
        for _ in range(3):  # Workers give up early on a machine that stands still.
            arguments = (tmp_path, victim, epoch)
            processes = cluster.run(HERE / "killed.py", *arguments, patience=patience)
            if processes[victim].returncode == -9:
                break
        assert processes[victim].returncode == -9, processes[victim].output[-3000:]
        assert_told(processes[1 - victim], gone=victim)
        kept = sorted(path.name for path in (tmp_path / "checkpoints").glob("*.checkpoint"))
        assert kept[-1] == f"epoch_{epoch}.checkpoint" and len(kept) <= 2

    for process in cluster.run(HERE / "killed.py", tmp_path):
        assert process.returncode == 0, process.output[-3000:]
    unbroken = killed.train(replicas, tmp_path / "unbroken")
    for index in range(2):
        weights = np.load(tmp_path / f"weights_{index}.npz")
        for a, b in zip(weights.values(), unbroken.weights, strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=0, atol=1e-6)


def test_all_workers_stop_where_one_is_told_to(script, tmp_path):
    arguments = (tmp_path, 1, 1, int(signal.SIGTERM))
    for process in script("cluster").run(HERE / "killed.py", *arguments):
        assert process.returncode == 128 + signal.SIGTERM, process.output[-3000:]
        assert "up to epoch 2, and goes on when" in process.output
    kept = sorted(path.name for path in (tmp_path / "checkpoints").glob("*.checkpoint"))
    assert kept == ["epoch_1.checkpoint", "epoch_2.checkpoint"]
