"""Data sets of TFDS that are not prepared: made at first use, or an error that says what to run."""

import pathlib
import socket

import numpy as np
import pytest
import tensorflow_datasets as tfds

from keras_vae import data


class TinyGrey(tfds.core.GeneratorBasedBuilder):
    """Twelve images whose values say which they are, made without a network."""

    VERSION = tfds.core.Version("1.0.0")
    DTYPE, SHAPE, LARGEST = np.uint16, (4, 4, 1), 65535

    def _info(self):
        image = tfds.features.Image(shape=self.SHAPE, dtype=self.DTYPE)
        features = tfds.features.FeaturesDict({"image": image, "label": np.int64})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number in range(12):
            image = np.zeros(self.SHAPE, self.DTYPE)
            image[0, 0, 0] = self.LARGEST * number / 11
            yield number, {"image": image, "label": number}


class TinyFloat(TinyGrey):
    """Float images out of range."""

    VERSION = tfds.core.Version("1.0.0")
    DTYPE, LARGEST = np.float32, 2.0


class TinyAnySize(TinyGrey):
    """Images of no fixed size."""

    VERSION = tfds.core.Version("1.0.0")
    SHAPE = (None, None, 1)


class TinyBroken(TinyGrey):
    """Preparing it fails half-way."""

    VERSION = tfds.core.Version("1.0.0")

    def _generate_examples(self):
        yield from list(super()._generate_examples())[:3]
        raise OSError("the disk is full of eels")


@pytest.fixture
def preparable():
    """Skips where TFDS cannot prepare: 4.9.10 needs this package without asking for it."""
    pytest.importorskip("importlib_resources")


@pytest.fixture
def offline(monkeypatch):
    """No name has an address, and no proxy is set."""

    def getaddrinfo(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr("urllib.request.getproxies", dict)


def test_prepared_at_first_use_and_scaled_by_the_dtype(preparable, tmp_path):
    for _ in range(2):
        batch = next(iter(data.load("tiny_grey", batch_size=12, labels=True, data_dir=tmp_path)))
        x, y = (column.numpy() for column in batch)
        np.testing.assert_allclose(x[:, 0, 0, 0], y / 11, atol=2e-5)
    assert (tmp_path / "tiny_grey" / "1.0.0").is_dir()
    with pytest.raises(ValueError, match="not integers 0..255"):
        data.load("tiny_grey", dtype="uint8", data_dir=tmp_path)


def test_the_environment_variable_is_read_at_each_call(preparable, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert len(data.load("tiny_grey", batch_size=5)) == 3
    assert (tmp_path / "tiny_grey").is_dir()


def test_float_images_out_of_range_are_refused(preparable, tmp_path):
    with pytest.raises(ValueError, match=r"must have images in \[0, 1\], and those of .* reach 2"):
        data.load("tiny_float", data_dir=tmp_path)


@pytest.mark.parametrize(
    "name, message",
    [("tiny_any_size", "must have images of one size"), ("squad", "must have a feature `image`")],
)
def test_data_sets_without_images_of_one_size_are_refused_unprepared(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        data.load(name, data_dir=tmp_path)
    assert not any(tmp_path.iterdir())


def test_without_a_network_the_error_says_what_to_run(tmp_path, offline):
    folder = tmp_path / "new"
    with pytest.raises(FileNotFoundError) as caught:
        data.load("fashion_mnist", data_dir=folder)
    message = str(caught.value)
    assert f'"fashion_mnist" is not prepared in {folder}' in message
    assert f"tfds build fashion_mnist --data_dir={folder}\n" in message
    assert f"tfds.load('fashion_mnist', data_dir='{folder}')" in message
    assert "TFDS_DATA_DIR" in message
    assert not folder.exists()


def test_the_cause_is_named(preparable, tmp_path, offline):
    with pytest.raises(FileNotFoundError, match="no network: .* has no address"):
        data.load("fashion_mnist", data_dir=tmp_path)


def test_nothing_half_made_is_left_behind(preparable, tmp_path):
    folder = tmp_path / "new"
    with pytest.raises(FileNotFoundError, match="OSError: the disk is full of eels"):
        data.load("tiny_broken", data_dir=folder)
    assert not any(path.is_file() for path in folder.rglob("*"))
    assert not pathlib.Path(folder, "tiny_broken").exists()


def test_an_unknown_name_lists_what_is_known(tmp_path):
    with pytest.raises(ValueError) as caught:
        data.load("fashion_mist", data_dir=tmp_path)
    message = str(caught.value)
    assert "must be one of ['mnist_5k', 'digits'] or an image data set of TFDS" in message
    assert "similar names: ['fashion_mnist'" in message


def test_an_unknown_name_lists_what_is_prepared(preparable, tmp_path):
    data.load("tiny_grey", data_dir=tmp_path)
    with pytest.raises(ValueError, match=r"prepared in .*: \['tiny_grey'\]"):
        data.load("huge_grey", data_dir=tmp_path)
