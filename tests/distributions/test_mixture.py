"""Mixtures of diagonal normals, against TFP in float64."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.distributions.mixture import MixtureSameFamily

tfd = tfp.distributions


def mixture(kind, dtype, scale=1.0):
    rng = np.random.default_rng(0)
    logits, loc = rng.normal(size=7), 3.0 * rng.normal(size=(7, 5))
    scales = scale * np.exp(rng.normal(size=(7, 5)))
    logits, loc, scales = (tf.constant(value, dtype) for value in (logits, loc, scales))
    return kind(tfd.Categorical(logits=logits), tfd.MultivariateNormalDiag(loc, scales))


def draws(scale):
    return np.asarray(mixture(tfd.MixtureSameFamily, "float64", scale).sample((4, 6), seed=[0, 1]))


@pytest.mark.parametrize(("scale", "jit"), [(1.0, False), (1e-2, True)])
def test_densities_and_gradients_are_those_of_tfp(scale, jit):
    z = draws(scale)

    def measured(kind, dtype):
        @tf.function(jit_compile=jit)
        def run(z):
            with tf.GradientTape() as tape:
                tape.watch(z)
                log_prob = mixture(kind, dtype, scale).log_prob(z)
            return log_prob, tape.gradient(log_prob, z)

        return [value.numpy() for value in run(tf.constant(z, dtype))]

    wanted = measured(tfd.MixtureSameFamily, "float64")
    for found, exact in zip(measured(MixtureSameFamily, "float64"), wanted, strict=True):
        np.testing.assert_allclose(found, exact, rtol=1e-9, atol=1e-9 / scale)
    found, _ = measured(MixtureSameFamily, "float32")
    assert found.shape == (4, 6) and found.dtype == "float32"
    # In float32 z itself is known to 1e-7, of which (z - loc) / scale makes 1e-7 |z| / scale.
    np.testing.assert_allclose(found, wanted[0], rtol=1e-5, atol=1e-5 / scale)


def test_other_components_are_left_to_tfp():
    normals = tfd.MultivariateNormalTriL(tf.zeros([3, 2]), tf.eye(2, batch_shape=[3]))
    made = MixtureSameFamily(tfd.Categorical(logits=tf.zeros([3])), normals)
    np.testing.assert_allclose(made.log_prob(tf.zeros([4, 2])), -np.log(2.0 * np.pi), rtol=1e-6)


def test_shapes_that_are_not_known_yet(dtype="float32"):
    made = mixture(MixtureSameFamily, dtype)

    @tf.function(input_signature=[tf.TensorSpec([None, None, 5], dtype)])
    def run(z):
        log_prob = made.log_prob(z)
        assert log_prob.shape.as_list() == [None, None]
        return log_prob

    z = tf.constant(draws(1.0), dtype)
    np.testing.assert_allclose(run(z), made.log_prob(z), rtol=1e-6)
