"""Functions of `core.numerics` against those of TensorFlow."""

import numpy as np
import pytest
import tensorflow as tf

from keras_vae.core.numerics import over_one_axis, softplus

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


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((5, 3, 4, 2), (3, 4, 2)),
        ((5, 3, 4, 2), (5, 3, 4, 2)),
        ((4, 2), (5, 3, 4, 2)),
        ((3, 1, 2), (3, 4, 2)),  # Only the last axis is the same.
        ((3, 4, 1), (3, 4, 2)),
        ((2,), (3, 2)),
        ((), (3, 2)),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_over_one_axis(a, b, known):
    a, b = (np.random.default_rng(i).normal(size=shape) for i, shape in enumerate((a, b)))

    def function(a, b):
        return over_one_axis(lambda a, b: a * tf.exp(b), a, b)

    # The first axis, that of the batch, may be unknown.
    specs = [tf.TensorSpec(v.shape if known else (None, *v.shape[1:])[: v.ndim]) for v in (a, b)]
    specs = [tf.TensorSpec(spec.shape, tf.float64) for spec in specs]
    found = tf.function(function, input_signature=specs, autograph=False)(a, b)
    np.testing.assert_allclose(found, a * np.exp(b), rtol=1e-15)
