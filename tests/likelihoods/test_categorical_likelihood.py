"""Categorical likelihood: two forms of data, and the values that are neither."""

import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from keras_vae.likelihoods import Categorical, OneHotSupport

LABELS = np.random.default_rng(0).integers(0, 4, size=(5, 2, 3))


@pytest.fixture
def head():
    return Categorical((2, 3), num_classes=4, dtype="float64")


def test_log_prob_picks_the_log_softmax_of_each_label(head):
    logits = np.random.default_rng(1).normal(scale=3.0, size=(5, 2, 3, 4))
    log_softmax = scipy.special.log_softmax(logits, axis=-1)
    expected = np.take_along_axis(log_softmax, LABELS[..., None], -1).sum((1, 2, 3))
    p = head(tf.constant(logits))
    np.testing.assert_allclose(p.log_prob(head.standardize(LABELS)), expected, rtol=1e-6)
    np.testing.assert_allclose(p.mean(), np.exp(log_softmax), rtol=1e-9)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int64", "uint64", "float16", "float64"])
def test_labels_of_any_dtype_equal_one_hot_rows(head, dtype):
    one_hot = np.eye(4)[LABELS]
    for x in (LABELS.astype(dtype), one_hot.astype(dtype)):
        standard = head.standardize(x)
        np.testing.assert_array_equal(standard, one_hot)
        assert bool(head.support.contains(standard))


def test_all_256_values_of_a_byte_are_classes():
    """Fails when K - 1 or K itself is taken in the dtype of the data."""
    head = Categorical((256,), num_classes=256)
    for dtype in ("uint8", "int32", "bfloat16"):
        x = tf.cast(np.arange(256)[None], dtype)
        np.testing.assert_array_equal(head.standardize(x)[0], np.eye(256))


@pytest.mark.parametrize("bad", [-1, 4, 2**32, 2**62, 1.5, -0.5, 1e300, np.nan, np.inf])
def test_a_number_that_is_no_class_is_found_and_shown(head, bad):
    """Fails for `tf.one_hot` alone: its rows of zeros say nothing, and 2**32 wraps to class 0."""
    labels = LABELS.astype("int64" if isinstance(bad, int) else "float64")
    labels[3, 1, 2] = bad
    standard = head.standardize(labels)
    assert not bool(head.support.contains(standard))
    np.testing.assert_array_equal(standard[3, 1, 2], [bad] * 4)


def test_the_largest_uint64_is_no_class(head):
    labels = LABELS.astype("uint64")
    labels[0, 0, 0] = 2**64 - 1
    assert not bool(head.support.contains(head.standardize(labels)))


@pytest.mark.parametrize(
    "row",
    [[0, 0, 0, 0], [1, 1, 0, 0], [0.25] * 4, [2, -1, 0, 0], [0.5, 0.5, 0, 0], [1, 0, 0, np.nan]],
)
def test_rows_that_are_not_one_hot_are_found(head, row):
    x = np.eye(4)[LABELS]
    x[4, 0, 1] = row
    assert not bool(head.support.contains(head.standardize(x)))


def test_the_support_says_what_it_wants(head):
    assert str(head.support) == "whole numbers in [0, 3] or one-hot rows of 4 classes"
    assert head.support == OneHotSupport(num_classes=4)


def test_shape_error_names_both_forms(head):
    with pytest.raises(ValueError) as error:
        head.standardize(np.zeros((5, 2, 3, 1)))
    for part in ("[batch, 2, 3] of whole numbers", "[batch, 2, 3, 4] of one-hot", "(5, 2, 3, 1)"):
        assert part in str(error.value)


def test_extreme_logits_in_float32():
    head = Categorical((1,), num_classes=3)
    logits = tf.constant([[[1e4, 0.0, -1e4]]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        log_p = head(logits).log_prob(tf.eye(3)[:, None])
    np.testing.assert_allclose(log_p, [0.0, -1e4, -2e4])
    np.testing.assert_allclose(tape.gradient(log_p, logits), [[[-2.0, 1.0, 1.0]]])


def test_probabilities_of_all_labels_sum_to_one(head):
    logits = np.random.default_rng(2).normal(size=(1, 1, 4))
    one = Categorical((1,), num_classes=4, dtype="float64")
    total = tf.reduce_sum(tf.exp(one(tf.constant(logits)).log_prob(np.eye(4)[:, None])))
    np.testing.assert_allclose(total, 1.0, rtol=1e-12)


def test_sample_frequencies(head):
    logits = np.random.default_rng(3).normal(size=(1, 2, 3, 4))
    p = head(tf.constant(logits))
    x = p.sample(20_000, seed=[0, 1]).numpy()[:, 0]
    prob = scipy.special.softmax(logits[0], axis=-1)
    # Beyond 4 standard errors with probability 6.3e-5 for each of 24 frequencies.
    assert np.all(np.abs(x.mean(0) - prob) < 4 * np.sqrt(prob * (1 - prob) / len(x)))


def test_params_from_mean_are_finite_for_absent_classes(head):
    mean = np.tile([0.0, 0.5, 0.5, 0.0], (2, 3, 1))
    params = head.params_from_mean(mean)
    np.testing.assert_allclose(scipy.special.softmax(params, -1), mean, atol=1e-3)
    np.testing.assert_allclose(params[0, 0], np.log([2.5e-4, 0.5, 0.5, 2.5e-4]), rtol=1e-12)


@pytest.mark.parametrize("num_classes", [1, 0, 2.0, True, None])
def test_num_classes_is_checked(num_classes):
    with pytest.raises(ValueError, match="Argument `num_classes`"):
        Categorical((2,), num_classes)
