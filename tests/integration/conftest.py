"""Small models and data for whole trainings."""

import pytest
import tensorflow as tf

from tests import small_models


@pytest.fixture
def make_vae():
    """Return the function that makes small models."""
    return small_models.make_vae


@pytest.fixture
def make_mean_vae():
    """Return a function that makes small models, of any class, without noise."""
    return small_models.make_mean_vae


@pytest.fixture
def x():
    """Return 28 binary images; no power of two, so that last batches are partial."""
    return small_models.binary_images()


@pytest.fixture
def dataset():
    """Return a function from arrays to a dataset of batches."""
    return lambda *arrays, size=8: tf.data.Dataset.from_tensor_slices(
        arrays[0] if len(arrays) == 1 else arrays
    ).batch(size)


@pytest.fixture
def weights_of():
    """Return the function that copies all weights."""
    return small_models.weights_of


@pytest.fixture
def trainable():
    """Return the function that copies the trainable weights."""
    return small_models.trainable_weights_of
