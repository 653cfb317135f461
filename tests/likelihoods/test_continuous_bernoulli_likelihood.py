"""Continuous Bernoulli likelihood: normalizer and mean at every size of logit."""

import numpy as np
import pytest
import scipy.integrate
import tensorflow as tf

from keras_vae.likelihoods import ContinuousBernoulli

LOGITS = [0.0, 1e-8, 1e-3, 0.2999, 0.3001, 2.0, 15.0, 30.0]
LOGITS += [-logit for logit in LOGITS[1:]]


def gradient_of_log_prob(logits, x, dtype):
    logits = tf.constant([[logits]], dtype)
    head = ContinuousBernoulli((1,), dtype=dtype)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        log_p = head(logits).log_prob(tf.constant([[x]], dtype))
    return float(log_p[0]), float(tape.gradient(log_p, logits)[0, 0])


@pytest.mark.parametrize("logit", LOGITS)
def test_density_and_gradient_against_quadrature(logit):
    """Fails for Bernoulli without normalizer, or a series cut too soon at its meeting point."""
    # Centered, so that the integrand stays within float64.
    shift = max(logit, 0.0)
    area, _ = scipy.integrate.quad(lambda x: np.exp(logit * x - shift), 0, 1, epsabs=1e-14)
    moment, _ = scipy.integrate.quad(lambda x: x * np.exp(logit * x - shift), 0, 1, epsabs=1e-14)
    for x in (0.0, 0.3, 1.0):
        log_p, gradient = gradient_of_log_prob(logit, x, "float64")
        np.testing.assert_allclose(log_p, logit * x - shift - np.log(area), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(gradient, x - moment / area, rtol=1e-9, atol=1e-11)
    mean = ContinuousBernoulli((1,), dtype="float64")(tf.constant([[logit]], "float64")).mean()
    np.testing.assert_allclose(mean, [[moment / area]], rtol=1e-9)


@pytest.mark.parametrize("logit", [*LOGITS, 100.0, -100.0, 1e4, -1e4])
def test_float32_equals_float64(logit):
    for x in (0.0, 0.3, 1.0):
        log_p, gradient = gradient_of_log_prob(logit, x, "float32")
        exact, exact_gradient = gradient_of_log_prob(logit, x, "float64")
        # The logit itself is known to 6e-8 of its size.
        np.testing.assert_allclose(log_p, exact, rtol=1e-6, atol=1e-6 * max(1.0, abs(logit)))
        np.testing.assert_allclose(gradient, exact_gradient, rtol=1e-5, atol=2e-6)
    single, double = (
        ContinuousBernoulli((1,), dtype=dtype)(tf.constant([[logit]], dtype)).mean()
        for dtype in ("float32", "float64")
    )
    # Near 0.3 a difference of 3.9 and 3.3 rounds to 5e-7.
    np.testing.assert_allclose(single, double, rtol=2e-6)


@pytest.mark.parametrize(("x", "rest"), [(0.0, -1e4), (0.3, -7e3), (1.0, 0.0)])
def test_large_logits_in_closed_form(x, rest):
    """For l >> 1 the density is l exp(-l (1 - x)), and for l << -1 its mirror image."""
    for logit, at in ((1e4, x), (-1e4, 1.0 - x)):
        log_p, gradient = gradient_of_log_prob(logit, at, "float64")
        np.testing.assert_allclose(log_p, rest + np.log(1e4), rtol=1e-9)
        expected = np.sign(logit) * (x - 1 + 1e-4)
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-9)


def test_density_is_zero_outside_the_unit_interval():
    p = ContinuousBernoulli((1,))(tf.zeros((2, 1)))
    np.testing.assert_array_equal(p.log_prob([[-0.1], [1.1]]), [-np.inf, -np.inf])


def test_params_from_mean_invert_the_mean_up_to_the_margin():
    head = ContinuousBernoulli((6,))
    mean = tf.constant([0.0, 0.001, 0.1, 0.5, 0.73, 1.0])
    recovered = head(head.params_from_mean(mean)[None]).mean()[0]
    np.testing.assert_allclose(recovered, [0.001, 0.001, 0.1, 0.5, 0.73, 0.999], rtol=1e-5)


def test_sample_moments():
    logits = tf.constant([[-20.0, -1.0, 0.0, 1e-6, 5.0]])
    p = ContinuousBernoulli((5,))(logits)
    x = p.sample(40_000, seed=[0, 1]).numpy()[:, 0].astype("float64")
    error = x.std(0) / np.sqrt(len(x))
    # Beyond 4 standard errors with probability 6.3e-5 for each of 5 means.
    assert np.all(np.abs(x.mean(0) - p.mean()[0]) < 4 * error)
    # The standard error of a variance, from the fourth moment; 5 times 6.3e-5 again.
    squares = (x - x.mean(0)) ** 2
    error = squares.std(0) / np.sqrt(len(x))
    assert np.all(np.abs(squares.mean(0) - p.variance()[0]) < 4 * error)
