"""Bernoulli likelihood: values, normalization, safety far from zero."""

import itertools

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from keras_vae.likelihoods import Bernoulli


def test_log_prob_is_the_sum_of_scipys():
    logits = np.random.default_rng(0).normal(scale=5.0, size=(6, 4))
    x = np.random.default_rng(1).integers(0, 2, size=(6, 4))
    p = Bernoulli((4,), dtype="float64")(tf.constant(logits))
    expected = scipy.stats.bernoulli.logpmf(x, scipy.special.expit(logits)).sum(-1)
    np.testing.assert_allclose(p.log_prob(x.astype("float64")), expected, rtol=1e-6)
    np.testing.assert_allclose(p.mean(), scipy.special.expit(logits), rtol=1e-12)


def test_probabilities_of_all_binary_vectors_sum_to_one():
    logits = tf.constant(np.random.default_rng(2).normal(size=(1, 5)))
    x = np.array(list(itertools.product([0.0, 1.0], repeat=5)))
    total = tf.reduce_sum(tf.exp(Bernoulli((5,), dtype="float64")(logits).log_prob(x)))
    np.testing.assert_allclose(total, 1.0, rtol=1e-12)


def test_soft_targets_give_the_negative_cross_entropy():
    logits, x = np.array([[-2.0, 0.5, 3.0]]), np.array([[0.25, 0.5, 0.9]])
    log_p, log_not_p = scipy.special.log_expit(logits), scipy.special.log_expit(-logits)
    expected = (x * log_p + (1 - x) * log_not_p).sum(-1)
    actual = Bernoulli((3,), dtype="float64")(tf.constant(logits)).log_prob(x)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_extreme_logits_in_float32(jit_compile):
    """Fails for log(sigmoid(l)), which is -inf, and for its gradient, which is NaN."""
    head = Bernoulli((1,))
    logits = tf.constant([[1e4], [1e4], [-1e4], [-1e4], [1e4], [0.0], [0.0], [100.0], [-100.0]])
    x = tf.constant([[0.0], [1.0], [0.0], [1.0], [0.5], [0.0], [1.0], [1.0], [1.0]])

    @tf.function(jit_compile=jit_compile)
    def value_and_gradient(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            log_p = head(logits).log_prob(x)
        return log_p, tape.gradient(log_p, logits)

    log_p, gradient = value_and_gradient(logits)
    half = np.log(0.5)
    np.testing.assert_allclose(log_p, [-1e4, 0, 0, -1e4, -5e3, half, half, 0, -100], rtol=1e-6)
    expected = [-1, 0, 0, 1, -0.5, -0.5, 0.5, 0, 1]  # x - sigmoid(l), also where l is zero
    np.testing.assert_allclose(gradient[:, 0], expected, atol=1e-6)


def test_sample_mean():
    logits = tf.constant([[-2.0, 0.0, 3.0]])
    p = Bernoulli((3,))(logits)
    x = p.sample(40_000, seed=[0, 1]).numpy()[:, 0]
    prob = scipy.special.expit(logits.numpy()[0])
    error = np.sqrt(prob * (1 - prob) / len(x))
    # Beyond 4 standard errors with probability 6.3e-5 for each of 3 means.
    assert np.all(np.abs(x.mean(0) - prob) < 4 * error)


def test_params_from_mean_are_clipped_logits():
    params = Bernoulli((3,), dtype="float64").params_from_mean(np.array([0.0, 0.3, 1.0]))
    np.testing.assert_allclose(params, scipy.special.logit([1e-3, 0.3, 1 - 1e-3]), rtol=1e-9)


def test_kl_divergence_is_still_registered():
    """The distribution is a subclass of TFP's; its other methods must keep working."""
    p, q = Bernoulli((1,))(tf.zeros((1, 1))), Bernoulli((1,))(tf.ones((1, 1)))
    expected = np.log(0.5) - 0.5 * (
        np.log(scipy.special.expit(1)) + np.log(scipy.special.expit(-1))
    )
    np.testing.assert_allclose(p.kl_divergence(q), [expected], rtol=1e-5)
    np.testing.assert_allclose(p.entropy(), [np.log(2)], rtol=1e-6)
