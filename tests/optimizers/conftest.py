"""Small models and data, and whole optimizers to compare."""

import keras
import numpy as np
import pytest

import keras_vae as kv

SHAPE = (8, 8, 1)


def make_vae(model_class=kv.VAE, **changes):
    """Return a small VAE whose weights are the same at every call."""
    keras.utils.set_random_seed(0)
    parts = {
        "encoder": kv.networks.MLPEncoder((8,)),
        "decoder": kv.networks.MLPDecoder(SHAPE, (8,)),
        "posterior": kv.posteriors.DiagonalNormal(2),
        "likelihood": kv.likelihoods.Bernoulli(SHAPE),
    }
    return model_class(**{**parts, **changes})


@pytest.fixture(name="make_vae")
def make_vae_fixture():
    """Return the function that makes small models."""
    return make_vae


@pytest.fixture
def x():
    """Return 24 binary images."""
    return np.random.default_rng(0).integers(0, 2, (24, *SHAPE)).astype("float32")


@pytest.fixture
def weights():
    """Return a function that copies all weights of a model, and of its optimizer."""
    return lambda model: [w.numpy() for w in [*model.weights, *model.optimizer.variables]]


@pytest.fixture
def float64():
    """Let Keras work in float64; `clean_state` takes it back."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
