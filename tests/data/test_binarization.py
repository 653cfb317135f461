"""Binarization by each rule, through the public function."""

import numpy as np
import pytest
import tensorflow as tf

from keras_vae import data
from keras_vae.data.binarization import binarize


def passes(count=1, **arguments):
    dataset = data.load("mnist_5k", **{"batch_size": 500, "shuffle": False, **arguments})
    found = [np.concatenate(list(dataset.as_numpy_iterator())) for _ in range(count)]
    return found[0] if count == 1 else found


def test_threshold():
    assert np.array_equal(passes(binarize="threshold"), (passes() > 0.5).astype(np.float32))


@pytest.mark.full
def test_dynamic_draws_have_the_intensities_as_means():
    grey = passes()
    draws = np.mean([passes(binarize="dynamic", initial_epoch=e) for e in range(12)], axis=0)
    assert np.all(draws[grey == 0] == 0) and np.all(draws[grey == 1] == 1)
    between = (grey > 0) & (grey < 1)
    deviation = (draws - grey)[between] / np.sqrt((grey * (1 - grey))[between] / 12)
    # 450,000 pixels: 5 standard errors of their mean; the variance of z-scores is one.
    assert abs(deviation.mean()) < 5 / np.sqrt(deviation.size)
    assert deviation.var() == pytest.approx(1, abs=0.05)


def test_draws_of_one_intensity_have_it_as_their_mean():
    images = tf.fill([40, 28, 28, 1], 0.3)
    for rule in ("dynamic", "static"):
        draws = binarize(images, rule, seed=0, epoch=tf.constant(1, tf.int64), index=tf.range(40))
        # 31,360 pixels: 5 standard errors of 0.0026.
        assert abs(float(tf.reduce_mean(draws)) - 0.3) < 0.013


def test_values_are_zeros_and_ones():
    for rule in ("dynamic", "static", "threshold"):
        x = passes(binarize=rule)
        assert x.dtype == np.float32 and set(np.unique(x)) == {0.0, 1.0}


def test_dynamic_changes_with_the_epoch_and_the_seed():
    first = passes(binarize="dynamic")
    for other in ({"initial_epoch": 1}, {"seed": 1}):
        changed = np.mean(first != passes(binarize="dynamic", **other))
        assert 0.03 < changed < 0.08  # the mean of 2 p (1 - p)


@pytest.mark.full
def test_static_changes_with_the_seed_alone():
    first = passes(binarize="static")
    assert np.array_equal(first, passes(binarize="static", initial_epoch=9))
    assert np.array_equal(first, passes(binarize="static", batch_size=77))
    assert not np.array_equal(first, passes(binarize="static", seed=1))


@pytest.mark.full
def test_static_stays_through_shuffled_epochs():
    def rows(images):
        return sorted(image.tobytes() for image in images)

    first, second = passes(2, binarize="static", shuffle=True)
    assert not np.array_equal(first, second) and rows(first) == rows(second)


@pytest.mark.full
def test_draws_do_not_depend_on_the_batch_size_or_the_order():
    expected = passes(binarize="dynamic", initial_epoch=2)
    assert np.array_equal(expected, passes(binarize="dynamic", initial_epoch=2, batch_size=33))
    shuffled = passes(binarize="dynamic", initial_epoch=2, shuffle=True)
    assert sorted(x.tobytes() for x in shuffled) == sorted(x.tobytes() for x in expected)


def test_draws_of_a_held_out_part_are_those_of_the_whole():
    whole = {x.tobytes() for x in passes(binarize="dynamic")}
    part = passes(binarize="dynamic", split="validation", validation_split=0.1)
    assert len(part) == 400 and {x.tobytes() for x in part} <= whole


def test_evaluating_twice_gives_the_same_numbers():
    first, second = passes(2, binarize="dynamic", split="test")
    assert np.array_equal(first, second)
