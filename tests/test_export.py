"""The SavedModel: signatures, any batch size, whole or not at all."""

from __future__ import annotations

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae import export
from keras_vae.core import files

SHAPE = (4, 4, 1)


def _networks():
    return {
        "encoder": kv.networks.MLPEncoder((8,)),
        "decoder": kv.networks.MLPDecoder(SHAPE, (8,)),
        "posterior": kv.posteriors.DiagonalNormal(2),
        "likelihood": kv.likelihoods.Bernoulli(SHAPE),
    }


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return kv.VAE(**_networks())


@pytest.fixture(scope="module")
def served(model, tmp_path_factory):
    loaded = tf.saved_model.load(
        kv.export_saved_model(model, tmp_path_factory.mktemp("served") / "1")
    )
    yield loaded.signatures


@pytest.fixture(scope="module")
def conditional():
    keras.utils.set_random_seed(0)
    return kv.ConditionalVAE(condition=3, **_networks())


@pytest.fixture(scope="module")
def served_conditional(conditional, tmp_path_factory):
    loaded = tf.saved_model.load(
        kv.export_saved_model(conditional, tmp_path_factory.mktemp("served") / "1", temperature=0.5)
    )
    yield loaded.signatures


@pytest.fixture
def unsigned(monkeypatch):
    """Leave out the signatures, which take seconds to trace, where it is about the folder."""
    monkeypatch.setattr(export, "_signatures", lambda model, temperature: {})


def _images(count: int) -> tf.Tensor:
    return tf.random.stateless_uniform([count, *SHAPE], seed=[1, 2])


@pytest.mark.parametrize("batch", [1, 3])
def test_signatures_equal_the_model_for_any_batch_size(model, served, batch):
    x, q = _images(batch), model.encode(_images(batch))
    encoded = served["encode"](x=x)
    np.testing.assert_allclose(encoded["mean"], q.mean(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(encoded["scale"], q.stddev(), rtol=1e-5, atol=1e-6)
    decoded = served["decode"](z=q.mean())["mean"]
    np.testing.assert_allclose(decoded, model.decode(q.mean()).mean(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        served["reconstruct"](x=x)["mean"], model.reconstruct(x), rtol=1e-5, atol=1e-6
    )


def test_samples_and_bounds_equal_those_of_the_model(model, served):
    x, count, seed = _images(3), tf.constant(40), tf.constant(7)
    drawn = served["sample"](count=count, seed=seed)["mean"]
    np.testing.assert_allclose(drawn, model.sample(40, seed=7), rtol=1e-5, atol=1e-6)
    # 40 samples are more than one chunk of 32 and less than two.
    bound = served["log_likelihood"](x=x, count=count, seed=seed)["log_likelihood"]
    expected = kv.evaluation.log_likelihood(model, x, num_samples=40, seed=7).per_example
    np.testing.assert_allclose(bound, expected, rtol=1e-5, atol=1e-6)
    alone = served["log_likelihood"](x=x[:1], count=count, seed=seed)["log_likelihood"]
    assert alone.shape == (1,) and np.all(np.isfinite(alone))


def test_data_outside_the_support_is_refused_when_served(served):
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"`x` must be in \[0, 1\]"):
        served["encode"](x=255.0 * _images(2))


def test_labels_and_the_temperature_are_those_of_the_model(conditional, served_conditional):
    model, served = conditional, served_conditional
    labels = tf.constant([2, 0])
    drawn = served["sample"](count=tf.constant(2), seed=tf.constant(1), y=labels)["mean"]
    expected = model.sample(2, seed=1, y=labels, temperature=0.5)
    np.testing.assert_allclose(drawn, expected, rtol=1e-5, atol=1e-6)
    x = _images(2)
    reconstructed = served["reconstruct"](x=x, y=labels)["mean"]
    np.testing.assert_allclose(reconstructed, model.reconstruct(x, y=labels), rtol=1e-5, atol=1e-6)


def test_a_version_that_exists_is_kept_unless_told(model, tmp_path, unsigned):
    version = tmp_path / "1"
    version.mkdir()
    (version / "mine").write_text("precious")
    with pytest.raises(FileExistsError, match=r"`path` must not exist.*overwrite=True"):
        kv.export_saved_model(model, version)
    assert (version / "mine").read_text() == "precious"
    kv.export_saved_model(model, version, overwrite=True)
    assert not (version / "mine").exists()
    assert (version / "saved_model.pb").exists()


def test_a_bad_temperature_is_refused_before_anything_is_written(model, tmp_path):
    version = tmp_path / "models" / "1"
    with pytest.raises(ValueError, match=r"`temperature` must be a finite number >= 0. Received"):
        kv.export_saved_model(model, version, temperature=-1.0)
    assert not version.parent.exists()


def test_bad_counts_and_labels_are_refused_when_served(served_conditional):
    served, seed = served_conditional, tf.constant(1)
    for count, labels, message in [
        (3, [2, 0], "`y` must have a row for each"),
        (2, [9, 0], "`y` must be whole numbers in \\[0, 2\\]"),
    ]:
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            served["sample"](count=tf.constant(count), seed=seed, y=tf.constant(labels))
    with pytest.raises(tf.errors.InvalidArgumentError, match="`count` must be an integer >= 1"):
        served["log_likelihood"](
            x=_images(2), count=tf.constant(0), seed=seed, y=tf.constant([0, 1])
        )


def test_a_version_comes_back_if_it_cannot_be_replaced(model, tmp_path, monkeypatch, unsigned):
    """Where folders change places in two operations, the second of which fails."""
    version = tmp_path / "1"
    version.mkdir()
    (version / "mine").write_text("precious")
    rename = os.replace

    def refuse_the_new(source, target):
        if "written" in str(source):
            raise OSError("busy")
        rename(source, target)

    monkeypatch.setattr(files, "_exchange_at_once", lambda one, other: False)
    monkeypatch.setattr(os, "replace", refuse_the_new)
    with pytest.raises(OSError, match="busy"):
        kv.export_saved_model(model, version, overwrite=True)
    assert (version / "mine").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


@pytest.mark.parametrize("existing", [False, True])
def test_an_export_that_breaks_off_leaves_what_was_there(
    model, tmp_path, monkeypatch, unsigned, existing
):
    version = tmp_path / "digits" / "1"
    if existing:
        version.mkdir(parents=True)
        (version / "mine").write_text("precious")

    def break_off(module, path, **_):
        tf.io.gfile.makedirs(path)
        tf.io.write_file(path + "/saved_model.pb", "half")
        raise OSError("no space left")

    monkeypatch.setattr(tf.saved_model, "save", break_off)
    with pytest.raises(OSError, match="no space left"):
        kv.export_saved_model(model, version, overwrite=True)
    left = [path.name for path in version.parent.iterdir()]
    assert left == (["1"] if existing else [])
    assert not existing or (version / "mine").read_text() == "precious"


def test_what_is_no_vae_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`model` must be a keras_vae.VAE"):
        kv.export_saved_model(object(), tmp_path / "1")
