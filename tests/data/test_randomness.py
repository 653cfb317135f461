"""The hash behind the shuffle and the binarization, held to the statistics of uniform noise.

Inputs are fixed, so a test passes or fails for ever; 5 standard errors is what true uniform noise
would exceed with probability 6e-7 for each number that is looked at.
"""

import numpy as np
import pytest
import tensorflow as tf

from keras_vae.data import randomness

SHAPE = (28, 28, 1)


def draw(seed=0, epoch=0, index=None, shape=SHAPE):
    index = np.arange(1000) if index is None else np.asarray(index)
    u = randomness.uniform(seed, tf.constant(epoch, tf.int64), tf.constant(index, tf.int64), shape)
    return u.numpy().reshape(len(index), -1).astype(np.float64)


def correlation(a, b):
    """z-score of the correlation of two arrays of independent uniforms."""
    product = 12.0 * (a - 0.5) * (b - 0.5)  # mean 0, variance 1
    return product.mean() * np.sqrt(product.size)


@pytest.mark.parametrize("seed, epoch", [(0, 0), (0, 1), (1, 0), (2**40 + 3, 2999)])
def test_mean_variance_and_range(seed, epoch):
    u = draw(seed, epoch)
    assert u.min() >= 0.0 and u.max() < 1.0
    assert abs(u.mean() - 0.5) < 5 * np.sqrt(1 / 12 / u.size)
    assert abs(((u - 0.5) ** 2).mean() - 1 / 12) < 5 * np.sqrt(1 / 180 / u.size)


@pytest.mark.parametrize("bins", [255, 1024])
@pytest.mark.parametrize("seed, epoch", [(0, 0), (0, 1), (123456789, 7)])
def test_chi_square_of_bins(bins, seed, epoch):
    u = draw(seed, epoch)
    counts = np.bincount((u * bins).astype(int).ravel(), minlength=bins)
    chi_square = ((counts - u.size / bins) ** 2 / (u.size / bins)).sum()
    assert abs(chi_square - (bins - 1)) < 5 * np.sqrt(2 * (bins - 1))


def test_every_pixel_is_uniform_over_examples_and_every_example_over_pixels():
    u = draw(index=np.arange(4000))
    # 784 + 4000 numbers are looked at: 5.5 standard errors, 2e-4 in all.
    assert np.abs(u.mean(0) - 0.5).max() < 5.5 * np.sqrt(1 / 12 / 4000)
    assert np.abs(u.mean(1) - 0.5).max() < 5.5 * np.sqrt(1 / 12 / 784)
    # Means of examples vary as those of 784 independent pixels do.
    spread = u.mean(1).var() * 12 * 784
    assert abs(spread - 1) < 5 * np.sqrt(2 / 4000)


@pytest.mark.parametrize("lag", [1, 2, 7, 28, 256, 512])
def test_pixels_are_uncorrelated(lag):
    u = draw()
    assert abs(correlation(u[:, :-lag], u[:, lag:])) < 5


@pytest.mark.parametrize("lag", [1, 2, 16, 128, 512])
def test_examples_are_uncorrelated(lag):
    u = draw()
    assert abs(correlation(u[:-lag], u[lag:])) < 5
    assert abs(correlation(u[:-lag, :-1], u[lag:, 1:])) < 5


@pytest.mark.parametrize("first, second", [(0, 1), (1, 2), (0, 2**16), (255, 256)])
def test_epochs_and_seeds_are_uncorrelated(first, second):
    assert abs(correlation(draw(epoch=first), draw(epoch=second))) < 5
    assert abs(correlation(draw(seed=first), draw(seed=second))) < 5
    assert abs(correlation(draw(seed=first, epoch=second), draw(seed=second, epoch=first))) < 5


@pytest.mark.full
def test_exchanged_coordinates_are_uncorrelated():
    index = np.arange(500)
    by_epoch = np.concatenate([draw(epoch=e, index=[3]) for e in range(200)])
    assert abs(correlation(by_epoch, draw(epoch=3, index=np.arange(200)))) < 5
    assert abs(correlation(draw(index=index)[:, :500], draw(index=index)[:, :500].T)) < 6


def test_high_words_of_the_seed_count():
    assert np.mean(draw(seed=5) == draw(seed=5 + 2**32)) < 0.001


def test_draws_depend_on_the_example_not_on_its_batch():
    everything = draw(index=np.arange(100))
    assert np.array_equal(draw(index=[42]), everything[42:43])
    assert np.array_equal(draw(index=[99, 0, 7]), everything[[99, 0, 7]])


def test_no_two_examples_of_an_epoch_share_their_word():
    index = tf.range(200_000, dtype=tf.int64)
    first, _ = randomness.example_words(0, tf.constant(3, tf.int64), index, randomness.SHUFFLE)
    assert len(np.unique(first.numpy())) == 200_000


def test_graph_and_eager_agree():
    graph = tf.function(lambda e, i: randomness.uniform(1, e, i, SHAPE))
    index = tf.range(10, dtype=tf.int64)
    expected = draw(seed=1, epoch=4, index=np.arange(10))
    assert np.array_equal(graph(tf.constant(4, tf.int64), index).numpy().reshape(10, -1), expected)


def test_known_values_stay_what_they_are():
    # A resumed run must draw what an older version drew.
    u = draw(seed=7, epoch=2, index=[11], shape=(3,))[0] * 2**24
    assert u.astype(int).tolist() == KNOWN_DRAWS
    order = randomness.order(7, 2, tf.range(8, dtype=tf.int64)).numpy().tolist()
    assert order == KNOWN_ORDER


KNOWN_DRAWS = [8701879, 7913197, 5346840]
KNOWN_ORDER = [5, 4, 2, 7, 0, 3, 6, 1]


def orders(epochs, size):
    @tf.function
    def order(epoch):
        return randomness.order(0, epoch, tf.range(size, dtype=tf.int64))

    return np.stack([order(tf.constant(epoch, tf.int64)).numpy() for epoch in range(epochs)])


def test_positions_of_a_permutation_are_uniform():
    found = orders(1500, 10)
    assert np.array_equal(np.sort(found, axis=1), np.tile(np.arange(10), (1500, 1)))
    counts = np.stack([np.bincount(found[:, place], minlength=10) for place in range(10)])
    chi_square = ((counts - 150) ** 2 / 150).sum()
    assert abs(chi_square - 81) < 5 * np.sqrt(2 * 81)  # 9 x 9 degrees of freedom


def test_orders_of_neighbouring_epochs_are_uncorrelated():
    first, second = orders(2, 5000)
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(5000)
    assert abs(np.corrcoef(first, np.arange(5000))[0, 1]) < 5 / np.sqrt(5000)
