"""Discriminators, and spectral normalization against the singular value decomposition."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.networks import ConvDiscriminator, PatchDiscriminator, SpectralNormalization
from tests.small_models import normal_values, randomize


def normalized(layer, *shape):
    layer = SpectralNormalization(layer, dtype="float64")
    layer.build((None, *shape))
    randomize(layer)
    return layer


@pytest.mark.parametrize("case", ["wide", "tall", "convolution"])
def test_the_kernel_has_a_largest_singular_value_of_one(case):
    """Fails for a kernel that is flattened the other way round, and for too few iterations."""
    layer, shape = {
        "wide": (keras.layers.Dense(40, use_bias=False), (9,)),
        "tall": (keras.layers.Dense(9, use_bias=False), (40,)),
        "convolution": (keras.layers.Conv2D(5, 3, padding="same", use_bias=False), (6, 6, 4)),
    }[case]
    layer = normalized(layer, *shape)
    kernel = layer.layer.kernel.numpy()
    u, s, vt = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), full_matrices=False)
    with tf.GradientTape() as tape:
        sigma = layer.sigma()
    np.testing.assert_allclose(sigma, s[0], rtol=1e-6)
    slope = tape.gradient(sigma, layer.layer.kernel.value)
    expected = np.outer(u[:, 0], vt[0]).reshape(kernel.shape)
    np.testing.assert_allclose(slope, expected, atol=1e-4)
    x = normal_values(3, *shape)
    expected = layer.layer(x) / s[0] + layer.bias
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)


def test_close_singular_values_and_zero_kernels():
    layer = normalized(keras.layers.Dense(4, use_bias=False), 4)
    layer.layer.kernel.assign(np.diag([1.0, 0.999, 0.99, 0.0]))
    np.testing.assert_allclose(layer.sigma(), 1.0, rtol=1e-3)
    layer.layer.kernel.assign(np.zeros((4, 4)))
    with tf.GradientTape() as tape:
        y = layer(tf.ones([1, 4], tf.float64))
    assert np.all(np.isfinite(y)) and np.all(
        np.isfinite(tape.gradient(y, layer.layer.kernel.value))
    )


def test_the_forward_pass_moves_no_weight():
    discriminator = ConvDiscriminator((4, 4), dense_units=4, normalization="spectral")
    discriminator.build((None, 8, 8, 1))
    before = [w.numpy() for w in discriminator.weights]
    discriminator(normal_values(3, 8, 8, 1, dtype="float32"), training=True)
    for weight, old in zip(discriminator.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), old)
    assert not discriminator.non_trainable_weights


@pytest.mark.parametrize("normalization", ["none", "group", "spectral"])
@pytest.mark.parametrize("kind", [ConvDiscriminator, PatchDiscriminator])
def test_logits_and_features(kind, normalization):
    discriminator = kind((4, 6), normalization=normalization)
    discriminator.build((None, 9, 8, 1))
    x = normal_values(3, 9, 8, 1, dtype="float32")
    logits, features = discriminator.judge(x)
    assert features.shape == (3, 3, 2, 6)
    assert logits.shape == ((3, 1) if kind is ConvDiscriminator else (3, 3, 2, 1))
    np.testing.assert_array_equal(logits, discriminator(x))


def test_a_patch_sees_its_receptive_field():
    discriminator = PatchDiscriminator((4,), kernel_size=3, normalization="none")
    discriminator.build((None, 24, 24, 1))
    x = tf.Variable(tf.zeros([1, 24, 24, 1]))
    with tf.GradientTape() as tape:
        logit = discriminator(x)[0, 5, 5, 0]
    seen = tape.gradient(logit, x).numpy()[0, :, :, 0] != 0.0
    assert seen.any(0).sum() == seen.any(1).sum() == 1 + (3 - 1) * (2**2 - 1)


def test_other_layers_are_refused():
    for layer in (
        keras.layers.Dense(3),
        keras.layers.Dense(3, "relu", use_bias=False),
        keras.layers.Conv2DTranspose(3, 3, use_bias=False),
    ):
        with pytest.raises(ValueError, match="`layer` must be a Dense or a convolution without"):
            SpectralNormalization(layer)
    with pytest.raises(ValueError, match=r"one of \('none', 'group', 'spectral'\)|'spectral'\]"):
        ConvDiscriminator(normalization="batch")
    assert kv.networks.ConvDiscriminator is ConvDiscriminator
