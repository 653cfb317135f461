"""Small models and data for whole trainings."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import keras_vae as kv
from keras_vae import bounds
from keras_vae.terms import Draws, Path

tfd = tfp.distributions

SHAPE, LATENT = (8, 8, 1), 2


def make_vae(model_class=kv.VAE, **changes):
    """Return a small VAE whose weights are the same at every call."""
    keras.utils.set_random_seed(0)
    parts = {
        "encoder": kv.networks.MLPEncoder((8,)),
        "decoder": kv.networks.MLPDecoder(SHAPE, (8,)),
        "posterior": kv.posteriors.DiagonalNormal(LATENT),
        "likelihood": kv.likelihoods.Bernoulli(SHAPE),
    }
    return model_class(**{**parts, **changes})


@pytest.fixture(name="make_vae")
def make_vae_fixture():
    """Return the function that makes small models."""
    return make_vae


class MeanVAE(kv.VAE):
    """A VAE without noise: z is the mean of q(z|x), or lies on a line through it."""

    def compute_terms(self, x, num_samples=1, training=False, seed=0, y=None):
        condition = self._condition(y, training)
        p_z, q = self._prior(condition, training), self._posterior(x, condition, training)
        line = tf.linspace(-1.0, 1.0, num_samples) if num_samples > 1 else tf.zeros([1])
        z = q.mean() + line[:, None, None] * q.stddev()  # [S, B, D]
        p_x = self._likelihood(z, condition, training)
        kl = bounds.closed_form_kl(q, p_z)
        likelihood = functools.partial(self._likelihood, condition=condition, training=training)
        # One point for the prior, too, where an objective draws of it.
        point = tfd.MultivariateNormalDiag(p_z.mean(), tf.zeros_like(p_z.mean()))
        draws = Draws(x, z, q, point, p_x, likelihood, Path(), seed, kl_is_exact=True)
        return kv.Terms(p_x.log_prob(x), p_z.log_prob(z), q.log_prob(z), kl, draws)


@pytest.fixture
def make_mean_vae():
    """Return a function that makes small models, of any class, without noise."""

    def make(model_class=kv.VAE, **changes):
        if model_class is kv.VAE:
            return make_vae(MeanVAE, **changes)
        return make_vae(type("Mean", (MeanVAE, model_class), {}), **changes)

    return make


@pytest.fixture
def x():
    """Return 28 binary images; no power of two, so that last batches are partial."""
    return np.random.default_rng(0).integers(0, 2, (28, *SHAPE)).astype("float32")


@pytest.fixture
def dataset():
    """Return a function from arrays to a dataset of batches."""
    return lambda *arrays, size=8: tf.data.Dataset.from_tensor_slices(
        arrays[0] if len(arrays) == 1 else arrays
    ).batch(size)


def weights_of(model):
    """Return copies of all weights, the optimizer's too."""
    optimizer = getattr(model, "optimizer", None)
    variables = [*model.weights, *(optimizer.variables if optimizer else [])]
    return {id(v): v.numpy().copy() for v in variables}


@pytest.fixture(name="weights_of")
def weights_of_fixture():
    """Return the function that copies all weights."""
    return weights_of


@pytest.fixture
def trainable():
    """Return a function that copies the trainable weights."""
    return lambda model: [w.numpy().copy() for w in model.trainable_variables]
