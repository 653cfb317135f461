"""Features of images: of a classifier, and of Inception."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.evaluation.distances import inception


def classifier(*tail):
    layers = keras.layers
    keras.utils.set_random_seed(1)
    body = [layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(6), *tail]
    return keras.Sequential([keras.Input((8, 8, 1)), *body])


@pytest.mark.parametrize("form", ["model", "path", "functional", "softmax_layer"])
def test_classifier_features_are_what_the_last_layer_is_given(tmp_path, form):
    layers = keras.layers
    tail = [layers.Dropout(0.5), layers.Dense(3)]
    model = classifier(*tail, *[layers.Softmax()] * (form == "softmax_layer"))
    x = np.random.default_rng(0).uniform(size=(5, 8, 8, 1)).astype("float32")
    given = model
    if form == "path":
        given = tmp_path / "classifier.keras"
        model.save(given)
    if form == "functional":
        given = keras.Model(model.inputs, model.outputs)
    found = kv.evaluation.classifier_features(given)(x)
    assert found.shape == (5, 6)
    head = next(layer for layer in reversed(model.layers) if layer.weights)
    logits = found @ head.kernel + head.bias
    expected = tf.nn.softmax(logits) if form == "softmax_layer" else logits
    np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=1e-6)


def test_what_is_no_classifier_is_refused(tmp_path):
    for bad, message in (
        (tmp_path / "none.keras", "path of its file"),
        (keras.Sequential([keras.layers.Dense(3)]), "that is built"),
        (3, "Functional or Sequential"),
        (classifier(keras.layers.LayerNormalization()), "must end with a Dense layer"),
    ):
        with pytest.raises(ValueError, match=message):
            kv.evaluation.classifier_features(bad)


@pytest.fixture
def pixels(monkeypatch):
    """Return `inception_features` with a network that shows what it is given."""
    monkeypatch.setattr(inception, "_network", lambda weights: tf.identity)
    return kv.evaluation.inception_features()


def test_inception_is_given_large_colour_images_from_minus_one_to_one(pixels):
    grey = np.linspace(0.0, 1.0, 2 * 5 * 5, dtype="float64").reshape(2, 5, 5, 1)
    found = pixels(grey)
    assert found.shape == (2, 299, 299, 3) and found.dtype == "float32"
    for channel in range(3):  # corners keep their values
        np.testing.assert_allclose(found[:, 0, 0, channel], 2 * grey[:, 0, 0, 0] - 1, atol=1e-6)
        np.testing.assert_allclose(found[:, -1, -1, channel], 2 * grey[:, -1, -1, 0] - 1, atol=1e-6)
    colour = np.zeros((1, 4, 4, 3), "float32") + [0.0, 0.5, 1.0]
    np.testing.assert_allclose(pixels(colour)[0, 100, 100], [-1.0, 0.0, 1.0], atol=1e-6)
    # Stripes of one pixel, 897 of them, become nearly grey; without antialiasing every third stays.
    stripes = (np.arange(897) % 2).astype("float32")[None, None, :, None]
    shrunk = pixels(np.broadcast_to(stripes, (1, 4, 897, 1)))
    np.testing.assert_allclose(shrunk[0, 0, 5:-5], 0.0, atol=0.15)


@pytest.mark.parametrize(
    "images, message",
    [
        (np.full((1, 4, 4, 1), 255.0), r"must have values in \[0, 1\].*255"),
        (np.full((1, 4, 4, 1), -0.5), r"must have values in \[0, 1\]"),
        (np.full((1, 4, 4, 1), np.nan), r"must have values in \[0, 1\].*nan"),
        (np.zeros((1, 4, 4, 1), "uint8"), "must be floats"),
        (np.zeros((1, 4, 4, 2)), "1 or 3 channels"),
        (np.zeros((4, 4, 1)), "1 or 3 channels"),
    ],
)
def test_inception_refuses_what_is_no_image(pixels, images, message):
    with pytest.raises(ValueError, match=message):
        pixels(images)


def test_inception_says_what_to_do_without_weights(monkeypatch):
    def offline(**kwargs):
        raise Exception("URL fetch failure on https://storage.googleapis.com/...")

    monkeypatch.setattr(keras.applications, "InceptionV3", offline)
    keras.config.set_dtype_policy("mixed_bfloat16")
    with pytest.raises(OSError, match="classifier_features") as error:
        kv.evaluation.inception_features("imagenet")
    assert "URL fetch failure" in str(error.value.__cause__)
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
