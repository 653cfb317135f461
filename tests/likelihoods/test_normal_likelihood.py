"""Normal likelihood: values, and scales that are fixed or learned."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from keras_vae.core.numerics import SCALE_CEILING, SCALE_FLOOR
from keras_vae.likelihoods import Normal


def draw(seed, *shape, scale=1.0):
    return np.random.default_rng(seed).normal(scale=scale, size=shape)


@pytest.mark.parametrize("scale", [1.0, 0.03, 40, "shared", "per_dimension"])
def test_log_prob_is_the_sum_of_scipys(scale):
    """Fails for a missing normalizer, and for a variance in place of a scale."""
    head = Normal((4,), scale, initial_scale=0.6, dtype="float64")
    mean, x = draw(0, 6, 4), draw(1, 6, 4)
    p = head(tf.constant(mean))
    sigma = 0.6 if isinstance(scale, str) else scale
    expected = scipy.stats.norm.logpdf(x, mean, sigma).sum(-1)
    np.testing.assert_allclose(p.log_prob(x), expected, rtol=1e-6)
    np.testing.assert_array_equal(p.mean(), mean)


def test_each_dimension_has_its_own_scale():
    head = Normal((2, 3), "per_dimension", dtype="float64")
    head.build((None, 2, 3))
    head.raw_scale.assign(draw(0, 2, 3))
    scale = np.log1p(np.exp(draw(0, 2, 3))) + SCALE_FLOOR
    np.testing.assert_allclose(head.scale, scale, rtol=1e-12)
    mean, x = draw(1, 5, 2, 3), draw(2, 5, 2, 3)
    expected = scipy.stats.norm.logpdf(x, mean, scale).sum((1, 2))
    np.testing.assert_allclose(head(tf.constant(mean)).log_prob(x), expected, rtol=1e-6)


@pytest.mark.parametrize(("option", "axes"), [("shared", None), ("per_dimension", 0)])
def test_the_best_learned_scale_is_the_spread_of_the_residuals(option, axes):
    """Fails when the scale is no weight, or its gradient is lost or of the wrong sign."""
    mean = draw(0, 500, 3)
    x = mean + draw(1, 500, 3, scale=[0.2, 0.5, 2.0])
    best = np.sqrt(((x - mean) ** 2).mean(axes))
    head = Normal((3,), option, dtype="float64")
    head.build((None, 3))
    (weight,) = head.trainable_weights

    def gradient(scale):
        weight.assign(np.log(np.expm1(scale - SCALE_FLOOR)))
        np.testing.assert_allclose(head.scale, scale, rtol=1e-9)
        with tf.GradientTape() as tape:
            neg_log_p = -tf.reduce_mean(head(tf.constant(mean)).log_prob(x))
        return tape.gradient(neg_log_p, weight.value).numpy()

    np.testing.assert_allclose(gradient(best), 0.0, atol=1e-12)
    assert np.all(gradient(0.9 * best) < -1e-3)
    assert np.all(gradient(1.1 * best) > 1e-3)


def test_scale_can_be_read_before_and_after_building():
    for option, shape in (("shared", ()), ("per_dimension", (3,))):
        head = Normal((3,), option, initial_scale=0.25)
        before = head.scale
        head.build((None, 3))
        assert before.shape == head.scale.shape == shape
        np.testing.assert_allclose(before, head.scale, rtol=1e-6)
        np.testing.assert_allclose(head.scale, np.full(shape, 0.25), rtol=1e-6)
    fixed = Normal((3,), 0.5)
    fixed.build((None, 3))
    assert float(fixed.scale) == 0.5 and not fixed.weights


def test_a_learned_scale_stays_within_floor_and_ceiling():
    head = Normal((1,), "shared")
    head.build((None, 1))
    for raw, scale in ((-1e6, SCALE_FLOOR), (1e6, SCALE_CEILING)):
        head.raw_scale.assign(raw)
        np.testing.assert_allclose(head.scale, scale, rtol=1e-6)
        assert np.isfinite(head(tf.zeros((1, 1))).log_prob([[1.0]])[0])


@pytest.mark.parametrize(
    "scale", ["learned", "", 0.0, -1.0, float("nan"), float("inf"), True, None]
)
def test_unknown_scales_are_refused(scale):
    with pytest.raises(ValueError, match="Argument `scale` must be") as error:
        Normal((2,), scale)
    assert "'shared', 'per_dimension'" in str(error.value)


@pytest.mark.parametrize("initial_scale", [0.0, SCALE_FLOOR, SCALE_CEILING, "1"])
def test_initial_scales_out_of_bounds_are_refused(initial_scale):
    with pytest.raises(ValueError, match="Argument `initial_scale`"):
        Normal((2,), "shared", initial_scale=initial_scale)


def test_sample_moments():
    p = Normal((2,), 3.0)(tf.constant([[-1.0, 5.0]]))
    x = p.sample(40_000, seed=[0, 1]).numpy()[:, 0].astype("float64")
    # Beyond 4 standard errors with probability 6.3e-5 for each of 2 means and 2 variances.
    assert np.all(np.abs(x.mean(0) - [-1.0, 5.0]) < 4 * 3.0 / np.sqrt(len(x)))
    assert np.all(np.abs(x.var(0) - 9.0) < 4 * 9.0 * np.sqrt(2 / len(x)))
