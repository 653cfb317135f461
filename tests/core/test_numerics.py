"""Functions of `core.numerics` against those of TensorFlow."""

import numpy as np
import tensorflow as tf

from keras_vae.core.numerics import softplus

X = np.array([-800.0, -30.0, -2.5, -1e-3, 0.0, 1e-3, 2.5, 30.0, 800.0])


def test_softplus_and_its_two_derivatives_are_exact():
    # At zero, where |x| has no derivative, and where exp would overflow, too.
    x = tf.Variable(X)
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            value = softplus(x)
        first = inner.gradient(value, x)
    np.testing.assert_allclose(value, np.logaddexp(0.0, X), rtol=1e-12, atol=1e-15)
    sigmoid = tf.sigmoid(tf.constant(X))
    np.testing.assert_allclose(first, sigmoid, rtol=1e-12)
    np.testing.assert_allclose(outer.gradient(first, x), sigmoid * (1 - sigmoid), atol=1e-12)


def test_softplus_is_exact_to_the_last_digit_of_one_in_float32():
    value = tf.function(softplus, jit_compile=True)(tf.constant(X, tf.float32))
    np.testing.assert_allclose(value, np.logaddexp(0.0, X), rtol=2e-7, atol=1.2e-7)
