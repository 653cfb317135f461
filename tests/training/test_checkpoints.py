"""The file of a checkpoint: what is read is what was written, or refused; and its folder."""

import json
import os
import resource
import signal
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vae.training.checkpoints import configuration, format
from keras_vae.training.checkpoints.folder import Folder, Position

FACTS = {"history": {"loss": [0.1, float("nan")]}, "stopped": False}
ARRAYS = {
    "scalar": np.int64(2**40),
    "matrix": np.random.default_rng(0).normal(size=(3, 2)).astype("float32"),
    "half": np.asarray(tf.constant([1.5, -2.0], tf.bfloat16)),
    "none": np.zeros((0, 4), "float16"),
    "flags": np.array([True, False]),
    "seed": np.array([7, 9], "uint32"),
}


def written(path):
    format.write(path, format.Checkpoint(FACTS, ARRAYS))
    return path


def test_a_checkpoint_is_read_as_it_was_written(tmp_path):
    found = format.read(written(tmp_path / "a.checkpoint"))
    assert found.facts["history"]["loss"][0] == 0.1 and np.isnan(found.facts["history"]["loss"][1])
    assert list(found.arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found.arrays[name].dtype == np.asarray(array).dtype
        np.testing.assert_array_equal(found.arrays[name], array)
    assert os.listdir(tmp_path) == ["a.checkpoint"]


def test_no_flipped_bit_and_no_lost_byte_goes_unseen(tmp_path):
    content = written(tmp_path / "a.checkpoint").read_bytes()
    rng = np.random.default_rng(0)
    for bit in rng.choice(8 * len(content), 200, replace=False):
        broken = bytearray(content)
        broken[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(format.Damaged):
            format.unpack(bytes(broken))
    for length in [0, 1, len(content) - 1, *rng.integers(0, len(content), 50)]:
        with pytest.raises(format.Damaged):
            format.unpack(content[:length])
    for added in (b"\0", content):
        with pytest.raises(format.Damaged):
            format.unpack(content + added)


def test_the_last_few_are_kept_and_what_is_damaged_is_told(tmp_path):
    folder = Folder(tmp_path, keep=2)
    positions = [Position(1), Position(1, 5), Position(1, 10), Position(2)]
    for position in positions:
        folder.write(position, format.Checkpoint({"at": list(position)}, ARRAYS))
    names = sorted(os.listdir(tmp_path))
    assert names == ["epoch_1_step_10.checkpoint", "epoch_2.checkpoint"]
    folder.file(Position(2)).write_bytes(b"")
    rule = r"falls back to epoch 1, batch 10: .*epoch_2\.checkpoint: it is no .*to epoch 2 is lost"
    with pytest.warns(UserWarning, match=rule):
        position, checkpoint = folder.newest()
    assert position == Position(1, 10) and checkpoint.facts["at"] == [1, 10]
    # What is damaged is no predecessor, and goes with the next one.
    folder.write(Position(1, 15), checkpoint)
    assert sorted(os.listdir(tmp_path)) == [f"epoch_1_step_{n}.checkpoint" for n in (10, 15)]
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"no checkpoint that can be read .*its checksum is wrong"):
        folder.newest()
    assert Folder(tmp_path / "none", keep=1).newest() is None


@pytest.fixture
def limited_files():
    """Stand in for a full disk: the system refuses to write on from a size on."""
    limit, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [0, 10, 300, 600])
def test_a_full_disk_is_an_error_and_leaves_what_was_there(tmp_path, limited_files, size):
    path = written(tmp_path / "a.checkpoint")
    limited_files(size)
    with pytest.raises(OSError, match="could not be written; checkpoints before it stay valid"):
        format.write(path, format.Checkpoint({"new": True}, {"x": np.ones(2000)}))
    limited_files(resource.RLIM_INFINITY)
    assert format.read(path).facts["stopped"] is False
    assert os.listdir(tmp_path) == ["a.checkpoint"]


def test_a_folder_is_that_of_one_process(tmp_path):
    reading, writing = os.pipe()
    other = os.fork()
    if not other:
        Folder(tmp_path, 2).lock()
        (tmp_path / ".epoch_1.checkpoint-left").mkdir()
        os.write(writing, b"1")
        time.sleep(600)
    os.read(reading, 1)
    rule = f"must be the folder of one training, but process {other} on .* writes to it"
    with pytest.raises(ValueError, match=rule):
        Folder(tmp_path, 2).lock()
    os.kill(other, signal.SIGKILL)
    os.waitpid(other, 0)
    folder = Folder(tmp_path, 2)
    folder.lock()  # of a dead process, taken over
    assert os.listdir(tmp_path) == [".owner.json"], "what the dead process has left"
    assert json.loads((tmp_path / ".owner.json").read_text())["pid"] == os.getpid()
    Folder(tmp_path, 2).lock()  # a training of this process that broke off
    folder.release()


def test_configurations_differ_where_they_do():
    dense = configuration._plain(keras.layers.Dense(3, name="dense_1").get_config())
    same = configuration._plain(keras.layers.Dense(3, name="dense_2").get_config())
    other = configuration._plain(keras.layers.Dense(4, activation="tanh").get_config())
    assert not list(configuration.differences(dense, same))
    assert list(configuration.differences({"layer": dense}, {"layer": other})) == [
        "layer.units: 3, here 4",
        "layer.activation: 'linear', here 'tanh'",
    ]
    assert configuration.told(["a", "b", "c", "d", "e", "f"]) == "a; b; c; d; and 2 more"
