"""Small models and data, the same for all tests."""

import functools

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import keras_vae as kv
from keras_vae import bounds
from keras_vae.terms import Draws, Path

tfd = tfp.distributions

SHAPE, LATENT = (8, 8, 1), 2


def parts(shape=SHAPE, latent_dim=LATENT, units=8, **changes):
    """Return the arguments of a small VAE of two perceptrons, some of them changed.

    The decoder fits the likelihood, also one that is changed.
    """
    likelihood = changes.get("likelihood", kv.likelihoods.Bernoulli(shape))
    output = getattr(likelihood, "params_shape", shape)  # some tests give no likelihood at all
    arguments = {
        "encoder": lambda: kv.networks.MLPEncoder((units,)),
        "decoder": lambda: kv.networks.MLPDecoder(output, (units,)),
        "posterior": lambda: kv.posteriors.DiagonalNormal(latent_dim),
        "likelihood": lambda: likelihood,
    }
    made = {name: make() for name, make in arguments.items() if name not in changes}
    return {**made, **changes}


def make_vae(model_class=kv.VAE, **changes):
    """Return a small model, of the arguments of `parts`, whose weights are always the same."""
    keras.utils.set_random_seed(0)
    return model_class(**parts(**changes))


class MeanVAE(kv.VAE):
    """A VAE without noise: z is the mean of q(z|x), or lies on a line through it."""

    def compute_terms(self, x, num_samples=1, training=False, seed=0, y=None):
        condition = self.labels.features(y, training)
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


def make_mean_vae(model_class=kv.VAE, **changes):
    """Return a small model of any class, without noise."""
    if model_class is kv.VAE:
        return make_vae(MeanVAE, **changes)
    return make_vae(type("Mean", (MeanVAE, model_class), {}), **changes)


def binary_images(count=28, shape=SHAPE, seed=0):
    """Return binary images; 28 is no power of two, so that last batches are partial."""
    return np.random.default_rng(seed).integers(0, 2, (count, *shape)).astype("float32")


def weights_of(model):
    """Return copies of all weights by identity, the optimizer's too."""
    optimizer = getattr(model, "optimizer", None)
    variables = [*model.weights, *(optimizer.variables if optimizer else [])]
    return {id(v): v.numpy().copy() for v in variables}


def trainable_weights_of(model):
    """Return copies of the trainable weights."""
    return [w.numpy().copy() for w in model.trainable_variables]


def randomize(*layers, scale=0.4, seed=0):
    """Give every weight a value of its own, so that nothing is zero or the identity."""
    rng = np.random.default_rng(seed)
    for layer in layers:
        for weight in layer.weights:
            weight.assign(rng.normal(0.0, scale, weight.shape))


def normal_values(*shape, dtype="float64", seed=0):
    """Return draws of a standard normal distribution."""
    return tf.constant(np.random.default_rng(seed).normal(size=shape), dtype)
