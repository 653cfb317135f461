"""Laplace likelihood: its density, and the optimum of a learned scale."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from keras_vae.core.numerics import SCALE_FLOOR
from keras_vae.likelihoods import Laplace
from tests.small_models import normal_values


@pytest.mark.parametrize("scale", [0.3, "shared", "per_dimension"])
def test_log_prob_is_the_sum_of_scipys(scale):
    """Fails for a squared error, and for a normalizer of another density."""
    head = Laplace((4,), scale, initial_scale=0.6, dtype="float64")
    median, x = normal_values(6, 4), normal_values(6, 4, seed=1)
    p = head(median)
    expected = scipy.stats.laplace.logpdf(x, median, 0.6 if isinstance(scale, str) else scale)
    np.testing.assert_allclose(p.log_prob(x), expected.sum(-1), rtol=1e-6)
    np.testing.assert_array_equal(p.mean(), median)


def test_the_best_learned_scale_is_the_mean_absolute_error():
    head = Laplace((3,), "shared", dtype="float64")
    head.build((None, 3))
    median, x = normal_values(50, 3), normal_values(50, 3, seed=1)
    best = np.abs(x - median).mean()
    head.raw_scale.assign(np.log(np.expm1(best - SCALE_FLOOR)))
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(head(median).log_prob(x))
    np.testing.assert_allclose(tape.gradient(loss, head.raw_scale.value), 0.0, atol=1e-9)
