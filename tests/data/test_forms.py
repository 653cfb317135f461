"""Images of another size, grey for colours, and dark for light."""

import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from keras_vae import data
from keras_vae.data import prepared
from keras_vae.data.forms import Form


def collect(**options):
    batches = data.load(batch_size=100, shuffle=False, **options).as_numpy_iterator()
    return np.concatenate(list(batches))


def test_pixels_are_means_of_their_area():
    stored = collect(name="mnist_5k", split="test")
    small = collect(name="mnist_5k", split="test", image_shape=(14, 7, 1))
    wanted = stored.reshape(-1, 14, 2, 7, 4, 1).mean((2, 4))
    np.testing.assert_allclose(small, wanted, atol=0.5 / 255 + 1e-6)  # kept as integers
    assert small.max() > 0.9


def test_an_area_need_not_be_whole_pixels():
    # Three pixels become two: each has one and a half of them.
    x = np.array([0.0, 0.6, 1.0], np.float32).reshape(1, 3, 1)
    made = Form((1, 2, 1)).apply(x, 1.0).numpy().ravel()
    np.testing.assert_allclose(made, [0.2, 1.3 / 1.5], atol=1e-6)


def test_dark_becomes_light():
    stored = collect(name="digits", split="test", dtype="float32")
    np.testing.assert_allclose(collect(name="digits", split="test", invert=True), 1.0 - stored)


def test_binary_images_have_means_too():
    form = Form((1, 1, 1))
    image = np.array([0, 1, 1, 1], np.uint8).reshape(2, 2, 1)
    assert form.level("uint8", 1.0) == 255.0
    assert form.apply(image, 1.0).numpy().ravel().tolist() == [191]


def test_colours_become_grey():
    red, green, blue = np.eye(3, dtype=np.uint8) * 255
    image = np.stack([red, green, blue, red + green + blue]).reshape(2, 2, 3)
    made = Form((2, 2, 1)).apply(image, 255.0)
    assert made.dtype == tf.uint8
    assert made.numpy().ravel().tolist() == [76, 150, 29, 255]


def test_what_is_as_stored_stays_so():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert np.array_equal(Form((2, 2, 3)).apply(image, 255.0), image)


@pytest.mark.parametrize(
    "given, rule",
    [
        ((28, 28), "must be \\(height, width, channels\\)"),
        ((29, 28, 1), "must be no larger than the stored \\(28, 28, 1\\)"),
        ((28, 28, 3), "its channels or 1 for grey"),
        ((0, 28, 1), "tuple of positive integers"),
        (14, "tuple of positive integers"),
    ],
)
def test_shapes_that_cannot_be_are_refused(given, rule):
    with pytest.raises(ValueError, match=f"(?s)image_shape.*{rule}"):
        data.load("mnist_5k", image_shape=given)


def test_inversion_is_a_boolean():
    with pytest.raises(ValueError, match="invert"):
        data.load("mnist_5k", invert="yes")


@pytest.fixture
def omniglot():
    folder = os.environ.get("TFDS_DATA_DIR")
    if not folder or not pathlib.Path(folder, "omniglot").is_dir():
        pytest.skip(f"omniglot is not prepared in TFDS_DATA_DIR={folder}")


@pytest.mark.full
def test_omniglot_becomes_small_and_binary(omniglot, monkeypatch):
    options = {"name": "omniglot", "split": "small1[:300]", "image_shape": (28, 28, 1)}
    grey = collect(**options, invert=True)
    assert grey.shape == (300, 28, 28, 1) and grey.min() == 0.0
    stored = collect(name="omniglot", split="small1[:300]")
    assert grey.mean() == pytest.approx(1.0 - stored.mean(), abs=1e-3)
    assert set(np.unique(collect(**options, invert=True, binarize="dynamic"))) == {0.0, 1.0}
    monkeypatch.setattr(prepared, "MEMORY_LIMIT_BYTES", 0)  # A stream gives the same.
    assert np.array_equal(collect(**options, invert=True), grey)
