"""The bounds as functions of log-densities, against NumPy in float64, and where they overflow."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from scipy import special

from keras_vae import bounds

# Largest and smallest spreads of log-weights that training meets, in nats.
SPREADS = {"equal": 0.0, "close": 1e-3, "usual": 3.0, "wide": 1e3, "huge": 1e5}
LEVELS = {"at 0": 0.0, "at -1e6": -1e6}
CASES = [(k, s, level) for k in (1, 2, 5, 1000) for s in SPREADS for level in LEVELS]

each_case = pytest.mark.parametrize("num_samples, spread, level", CASES)
several = pytest.mark.parametrize("num_samples, spread, level", [c for c in CASES if c[0] > 1])
each_mode = pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])


def log_weights(num_samples, spread, level):
    """Return `[K, 3]`."""
    normal = np.random.default_rng(num_samples).normal(size=(num_samples, 3))
    return LEVELS[level] + SPREADS[spread] * normal


def value_and_gradient(function, *arguments):
    tensors = [tf.constant(argument) for argument in arguments]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    return value.numpy(), tape.gradient(value, tensors)


def without(values, k):
    return np.delete(values, k, axis=0)


def leave_one_out_bound(log_w):
    """Return L_K with each weight replaced by the others' geometric mean (VIMCO, eq. 10)."""
    replaced = [
        np.concatenate([without(log_w, k), without(log_w, k).mean(axis=0, keepdims=True)])
        for k in range(len(log_w))
    ]
    return special.logsumexp(replaced, axis=1) - np.log(len(log_w))


# Values and gradients.


@each_case
def test_importance_weighted_and_its_gradient(num_samples, spread, level):
    log_w = log_weights(num_samples, spread, level)
    value, (gradient,) = value_and_gradient(bounds.importance_weighted, log_w)
    expected = special.logsumexp(log_w, axis=0) - np.log(num_samples)
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(gradient, special.softmax(log_w, axis=0), rtol=1e-6, atol=1e-12)


@each_case
def test_normalized_weights(num_samples, spread, level):
    log_w = log_weights(num_samples, spread, level)
    value, (gradient,) = value_and_gradient(bounds.normalized_weights, log_w)
    np.testing.assert_allclose(value, special.softmax(log_w, axis=0), rtol=1e-6, atol=1e-12)
    assert gradient is None


@several
def test_leave_one_out_mean(num_samples, spread, level):
    values = log_weights(num_samples, spread, level)
    value, (gradient,) = value_and_gradient(bounds.leave_one_out_mean, values)
    expected = [without(values, k).mean(axis=0) for k in range(num_samples)]
    np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-12)
    assert gradient is None


@several
def test_leave_one_out_bound(num_samples, spread, level):
    log_w = log_weights(num_samples, spread, level)
    value, (gradient,) = value_and_gradient(bounds.leave_one_out_bound, log_w)
    np.testing.assert_allclose(value, leave_one_out_bound(log_w), rtol=1e-9, atol=1e-9)
    assert gradient is None


def test_one_sample_left_out_does_not_move_its_own_baseline():
    log_w = log_weights(5, "usual", "at 0")
    moved = log_w.copy()
    moved[2] += 40.0
    for function in (bounds.leave_one_out_bound, bounds.leave_one_out_mean):
        before, after = function(tf.constant(log_w)).numpy(), function(tf.constant(moved)).numpy()
        np.testing.assert_allclose(after[2], before[2], rtol=1e-12)
        assert np.all(after[[0, 1, 3, 4]] > before[[0, 1, 3, 4]] + 1.0)


def test_groups_do_not_mix():
    log_w = np.random.default_rng(0).normal(size=(3, 2, 4))  # [K, M, B]
    for function in (
        bounds.importance_weighted,
        bounds.normalized_weights,
        bounds.leave_one_out_bound,
        bounds.leave_one_out_mean,
    ):
        whole = function(tf.constant(log_w)).numpy()
        for m in range(2):
            one = function(tf.constant(log_w[:, m])).numpy()
            np.testing.assert_allclose(whole[..., m, :], one, rtol=1e-12)


def test_with_gradient_of_adds_a_gradient_and_leaves_the_value():
    a, b = np.array([2.0, -3.0]), np.array([5.0, 7.0])
    value, (by_a, by_b) = value_and_gradient(
        lambda a, b: bounds.with_gradient_of(tf.square(a), a * b), a, b
    )
    np.testing.assert_array_equal(value, a**2)
    np.testing.assert_array_equal(by_a, 2.0 * a + b)
    np.testing.assert_array_equal(by_b, a)


@pytest.mark.parametrize("surrogate", [np.inf, -np.inf, 1e38])
def test_the_size_of_a_surrogate_does_not_touch_the_value(surrogate):
    value = bounds.with_gradient_of(tf.constant([1.5]), tf.constant([surrogate], tf.float32))
    assert value.numpy().tolist() == [1.5]


def test_lagrangian_and_its_gradients():
    rate, constraint = np.array([5.0, 1.0]), np.array([2.0, -4.0])
    value, gradients = value_and_gradient(bounds.lagrangian, rate, constraint, np.array(3.0))
    np.testing.assert_array_equal(value, [11.0, -11.0])
    for gradient, expected in zip(gradients, ([1.0, 1.0], [3.0, 3.0], -2.0), strict=True):
        np.testing.assert_array_equal(gradient, expected)


# Float32, as in training.

IN_FLOAT32 = ("importance_weighted", "leave_one_out_bound", "normalized_weights")


@functools.cache  # Compiled once for each shape: what differs are the numbers alone.
def in_float32(jit_compile):
    """Return a compiled function from log-weights to the three."""

    def compute(log_w):
        return [getattr(bounds, name)(log_w) for name in IN_FLOAT32]

    return tf.function(compute, jit_compile=jit_compile, autograph=False)


@each_mode
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("spread", ["equal", "usual", "huge"])
@pytest.mark.parametrize("num_samples", [2, 1000])
def test_float32_is_finite_and_close(num_samples, spread, level, jit_compile):
    log_w = log_weights(num_samples, spread, level).astype("float32")
    exact = log_w.astype("float64")
    expected = [
        special.logsumexp(exact, axis=0) - np.log(num_samples),
        leave_one_out_bound(exact),
        special.softmax(exact, axis=0),
    ]
    results = in_float32(jit_compile)(tf.constant(log_w))
    for name, found, wanted in zip(IN_FLOAT32, results, expected, strict=True):
        # Rounding of numbers of size 1e6 is 0.06; some of them add up.
        tolerance = 1e-5 + 1e-6 * np.abs(exact).max()
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=tolerance, err_msg=name)


# Samples of density zero.


@each_mode
def test_a_sample_of_density_zero_is_one_that_does_not_count(jit_compile):
    log_w = np.array([[-3.0], [-np.inf], [-1.0]])

    @tf.function(jit_compile=jit_compile, autograph=False)
    def compute(log_w):
        with tf.GradientTape() as tape:
            tape.watch(log_w)
            bound = bounds.importance_weighted(log_w)
        baselines = bounds.leave_one_out_bound(log_w)
        return bound, tape.gradient(bound, log_w), bounds.normalized_weights(log_w), baselines

    bound, gradient, weights, baselines = compute(tf.constant(log_w))
    softmax = special.softmax(log_w, axis=0)
    np.testing.assert_allclose(bound, special.logsumexp(log_w, axis=0) - np.log(3.0))
    np.testing.assert_allclose(gradient, softmax)
    np.testing.assert_allclose(weights, softmax)
    # The geometric mean with it is zero; without it, all is as usual.
    expected = [-1.0, special.logsumexp([-3.0, -1.0, -2.0]), -3.0] - np.log(3.0)
    np.testing.assert_allclose(baselines[:, 0], expected)


def test_no_sample_of_positive_density_is_a_bound_of_minus_infinity():
    # As it is: training stops and names the loss, so the gradient does not matter.
    log_w = tf.fill([4, 2], tf.constant(-np.inf))
    assert np.all(bounds.importance_weighted(log_w).numpy() == -np.inf)
