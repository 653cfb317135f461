"""Small models and data for callbacks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv

SHAPE, LATENT = (8, 8, 1), 2


@pytest.fixture
def make_vae():
    """Return a function that makes small models, their weights the same at every call.

    They train eagerly: to trace a graph takes longer than a step or two.
    """

    def make(model_class=kv.VAE, **changes):
        keras.utils.set_random_seed(0)
        parts = {
            "encoder": kv.networks.MLPEncoder((8,)),
            "decoder": kv.networks.MLPDecoder(SHAPE, (8,)),
            "posterior": kv.posteriors.DiagonalNormal(LATENT),
            "likelihood": kv.likelihoods.Bernoulli(SHAPE),
        }
        model = model_class(**{**parts, **changes})
        model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
        return model

    return make


@pytest.fixture
def x():
    """Return 28 binary images; no power of two, so that last batches are partial."""
    return np.random.default_rng(0).integers(0, 2, (28, *SHAPE)).astype("float32")


@pytest.fixture
def fit(x):
    """Return a function that trains for some epochs, and returns the logs."""

    def fit(model, callbacks, epochs=1, data=x, **options):
        options = {"batch_size": 28, "verbose": 0, **options}
        return model.fit(data, epochs=epochs, callbacks=callbacks, **options).history

    return fit


@pytest.fixture
def events():
    """Return a function that reads the events of a folder: `{tag: {step: tensor}}`."""

    def read(folder):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        found = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
        return {
            tag: {event.step: tf.make_ndarray(event.tensor_proto) for event in found.Tensors(tag)}
            for tag in found.Tags()["tensors"]
        }

    return read
