"""Discretized logistic mixture: exact to the edges, for narrow, wide and far-off components."""

import decimal

import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from keras_vae.likelihoods import DiscretizedLogisticMixture

PIXELS = np.arange(256.0)
MEANS = [-3.0, -1.0, -0.3, 0.0, 0.123, 1.0, 50.0]
SCALES = [1e-4, 1e-3, 1e-2, 0.1, 1.0, 100.0, 1e4]  # in the decoder's units, 127.5 pixels each


def raw_of(scale):
    """Returns the raw parameter of a scale; the floor of scales is 1e-4."""
    scale = np.asarray(scale) - 1e-4
    return np.where(scale <= 0, -200.0, scale + np.log(-np.expm1(-np.maximum(scale, 1e-9))))


def one_component(loc, scale, dtype="float64"):
    """Returns p(x) of a single pixel with one component."""
    params = tf.constant([[0.0, loc, float(raw_of(scale))]], dtype)
    return DiscretizedLogisticMixture((1,), num_components=1, dtype=dtype)(params)


def log_probs(p, dtype="float64"):
    return p.log_prob(tf.constant(PIXELS[:, None], dtype)).numpy().astype("float64")


def exact_log_prob(x, loc, scale):
    """Takes the difference of two sigmoids with enough digits for it not to cancel."""
    with decimal.localcontext(decimal.Context(prec=600, Emin=-(10**9), Emax=10**9)):
        one, half = decimal.Decimal(1), decimal.Decimal("0.5")
        center = decimal.Decimal("127.5") * (decimal.Decimal(loc) + 1)
        width = decimal.Decimal("127.5") * decimal.Decimal(scale)

        def cdf(edge):
            return one / (one + (-(edge - center) / width).exp())

        upper = one if x == 255 else cdf(x + half)
        lower = 0 if x == 0 else cdf(x - half)
        return float((upper - lower).ln())


@pytest.mark.parametrize("loc", [-1.5, -1.0, 0.123, 1.0])
@pytest.mark.parametrize("scale", [5e-3, 0.1, 3.0, 1e4])
def test_log_prob_against_many_digits(loc, scale):
    """Fails for a difference of sigmoids, for edges without tails, for a lost half pixel."""
    chosen = [0, 1, 2, 60, 127, 128, 142, 143, 144, 200, 253, 254, 255]
    expected = [exact_log_prob(x, loc, scale) for x in chosen]
    np.testing.assert_allclose(log_probs(one_component(loc, scale))[chosen], expected, rtol=1e-9)
    single = log_probs(one_component(loc, scale, "float32"), "float32")[chosen]
    # loc is rounded to 6e-8 and weighs 1 / scale as much.
    np.testing.assert_allclose(single, expected, rtol=1e-5, atol=1e-6 + 1e-7 / scale)


def grid(dtype):
    """Return p(x) of a single pixel for all means and scales, batch [49, 1], and its parameters."""
    rows = [[0.0, loc, float(raw_of(scale))] for loc in MEANS for scale in SCALES]
    params = tf.constant(rows, dtype)[:, None]
    return DiscretizedLogisticMixture((1,), num_components=1, dtype=dtype)(params), params


def test_the_256_probabilities_sum_to_one_in_float32():
    """Fails for epsilon clamps, and for bins whose edges do not meet."""
    log_p = log_probs(grid("float32")[0], "float32")  # [49, 256]
    assert np.isfinite(log_p).all()
    np.testing.assert_allclose(np.exp(log_p).sum(axis=1), 1.0, atol=1e-6)


def test_gradients_are_finite_in_float32():
    _, params = grid("float32")
    rest = tf.broadcast_to(tf.constant([1.0, 0.5, 0.0]), params.shape)
    ours, others = tf.split(params, 3, axis=-1), tf.split(rest, 3, axis=-1)
    params = tf.concat([part for pair in zip(ours, others, strict=True) for part in pair], axis=-1)
    head = DiscretizedLogisticMixture((1,), num_components=2)
    with tf.GradientTape() as tape:
        tape.watch(params)
        log_p = head(params).log_prob(tf.constant(PIXELS[:, None], tf.float32))
    assert log_p.shape == (49, 256) and np.isfinite(log_p).all()
    assert np.isfinite(tape.gradient(log_p, params)).all()


def test_layout_of_the_parameters_and_channels_that_share_a_component():
    """Fails when components and channels are interleaved, or mixed channel by channel."""
    components, channels = 2, 3
    rng = np.random.default_rng(0)
    logits, loc, raw = rng.normal(size=2), rng.normal(size=(2, 3)), rng.normal(size=(2, 3)) - 2
    x = rng.integers(0, 256, size=3)
    per_component = [
        sum(
            exact_log_prob(int(x[c]), loc[m, c], np.log1p(np.exp(raw[m, c])) + 1e-4)
            for c in range(channels)
        )
        for m in range(components)
    ]
    expected = scipy.special.logsumexp(scipy.special.log_softmax(logits) + per_component)
    params = np.concatenate([logits, loc.ravel(), raw.ravel()])[None]
    head = DiscretizedLogisticMixture((3,), num_components=2, dtype="float64")
    assert head.params_shape == (14,)
    np.testing.assert_allclose(head(params).log_prob(x[None].astype(float)), [expected], rtol=1e-9)


def test_pixels_are_independent():
    head = DiscretizedLogisticMixture((2, 3, 1), num_components=2, dtype="float64")
    params = tf.constant(np.random.default_rng(0).normal(size=(4, 2, 3, 6)))
    x = tf.constant(np.random.default_rng(1).integers(0, 256, size=(4, 2, 3, 1)), tf.float64)
    one = DiscretizedLogisticMixture((1,), num_components=2, dtype="float64")
    pixels = one(tf.reshape(params, (-1, 6))).log_prob(tf.reshape(x, (-1, 1)))
    expected = tf.reduce_sum(tf.reshape(pixels, (4, 6)), axis=1)
    np.testing.assert_allclose(head(params).log_prob(x), expected, rtol=1e-12)


def test_mean_is_within_its_bound_of_the_exact_one():
    p, _ = grid("float64")
    exact = np.exp(log_probs(p)) @ PIXELS  # [49]
    mean = p.mean().numpy()[:, 0, 0]
    assert np.all((mean >= 0.0) & (mean <= 255.0))
    bound = np.where(np.array(SCALES) < 0.01, 0.5, 0.01)
    assert np.all(np.abs(mean - exact) < np.tile(bound, len(MEANS)))


def test_mean_weighs_the_components():
    head = DiscretizedLogisticMixture((1,), num_components=2, dtype="float64")
    params = [[np.log(0.25), np.log(0.75), -0.5, 0.5, -4.0, -4.0]]
    expected = 0.25 * 127.5 * 0.5 + 0.75 * 127.5 * 1.5
    np.testing.assert_allclose(head(np.array(params)).mean(), [[expected]], rtol=1e-6)


def test_sample_frequencies():
    params = tf.constant([[0.0, -0.5, -1.0, 0.2, -4.0, -1.0]])
    p = DiscretizedLogisticMixture((1,), num_components=2)(params)
    x = p.sample(50_000, seed=[0, 1]).numpy().ravel()
    assert np.array_equal(x, np.round(x)) and x.min() == 0 and x.max() == 255
    prob = np.exp(log_probs(p, "float32"))
    mean, variance = prob @ PIXELS, prob @ PIXELS**2 - (prob @ PIXELS) ** 2
    # Beyond 4 standard errors with probability 6.3e-5; the edges, where the tails are, likewise.
    assert abs(x.mean() - mean) < 4 * np.sqrt(variance / len(x))
    for edge in (0, 255):
        error = np.sqrt(prob[edge] * (1 - prob[edge]) / len(x))
        assert abs((x == edge).mean() - prob[edge]) < 4 * error
    # Chi-square of 255 degrees of freedom: above 350 with probability 7e-5.
    seen = prob * len(x) > 5
    counts = np.bincount(x.astype(int), minlength=256)
    assert np.sum((counts - prob * len(x))[seen] ** 2 / (prob * len(x))[seen]) < 350


def test_encoder_input_and_loc_share_their_units():
    head = DiscretizedLogisticMixture((4,), num_components=3)
    x = head.standardize(np.array([[0, 255, 51, 204]], np.uint8))
    np.testing.assert_allclose(head.encoder_input(x), [[-1, 1, -0.6, 0.6]], rtol=1e-6)
    params = head.params_from_mean(x[0]).numpy()
    np.testing.assert_allclose(params[3:15].reshape(3, 4), [[-1, 1, -0.6, 0.6]] * 3, rtol=1e-6)
    assert not params[:3].any() and not params[15:].any()
    params[15:] = -6.0  # narrow components, whose mean is their loc
    np.testing.assert_allclose(head(params[None]).mean(), x, atol=0.5)


def test_fractions_and_other_ranges_are_outside_the_support():
    head = DiscretizedLogisticMixture((1,), num_components=1)
    for bad in (-1, 256, 0.5, 2**40, np.int64(2**24 + 1)):
        assert not bool(head.support.contains(head.standardize(np.array([[bad]]))))
    assert "whole numbers in [0, 255]" in str(head.support)


@pytest.mark.parametrize("num_components", [0, -1, 1.5, True, None])
def test_num_components_is_checked(num_components):
    with pytest.raises(ValueError, match="Argument `num_components`"):
        DiscretizedLogisticMixture((1,), num_components)
