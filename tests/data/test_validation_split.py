"""Holding out validation data."""

import numpy as np
import pytest

from keras_vae import data


def rows(split, **arguments):
    dataset = data.load("mnist_5k", split, 500, validation_split=0.1, shuffle=False, **arguments)
    return [image.tobytes() for batch in dataset.as_numpy_iterator() for image in batch]


def test_parts_are_disjoint_and_make_up_the_training_data():
    train, held_out = rows("train"), rows("validation")
    assert (len(train), len(held_out)) == (3600, 400)
    whole = data.load("mnist_5k", "train", 500, shuffle=False)
    whole = [image.tobytes() for batch in whole.as_numpy_iterator() for image in batch]
    assert sorted(train + held_out) == sorted(whole)


def test_choice_depends_on_the_seed_alone():
    assert rows("validation") == rows("validation", initial_epoch=5, binarize=None)
    overlap = len(set(rows("validation")) & set(rows("validation", seed=1)))
    assert overlap < 80  # 40 expected; 80 is 7 standard deviations off


def test_test_split_is_left_alone():
    assert len(rows("test")) == 1000


def test_only_the_training_part_is_shuffled_by_default():
    def first(split):
        dataset = data.load("digits", split, 2000, validation_split=0.2)
        return [next(iter(dataset)).numpy(), *dataset.as_numpy_iterator()]

    # One batch is the whole epoch here, so that looking at it completes a pass.
    assert not np.array_equal(*first("train"))
    assert np.array_equal(*first("validation"))


@pytest.mark.parametrize("value", [-0.1, 1.0, 1.5, float("nan"), "half", True])
def test_fractions_outside_zero_and_one_are_refused(value):
    with pytest.raises(ValueError, match=r"`validation_split` must be a"):
        data.load("digits", validation_split=value)


@pytest.mark.parametrize("value", [1e-6, 1 - 1e-6])
def test_a_part_without_examples_is_refused(value):
    with pytest.raises(ValueError, match=r"must leave examples on both sides of 1442"):
        data.load("digits", validation_split=value)


def test_validation_without_a_fraction_is_an_unknown_split():
    with pytest.raises(ValueError, match=r"`split` must be one of \['train', 'test'\]"):
        data.load("digits", "validation")
