"""Distances between real and generated data, against closed forms, loops and constructed sets."""

import itertools
import math
import tracemalloc
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.evaluation.distances import neighbours

EXACT = {"rtol": 1e-6, "atol": 1e-9}
QUIET = {"verbose": False}
DISTANCES = [
    kv.evaluation.frechet_distance,
    kv.evaluation.kernel_distance,
    kv.evaluation.manifold_scores,
]


def rotation(size, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


def data_with(mean, covariance, count=40, seed=0):
    """Return examples whose mean and covariance are these, to rounding."""
    mean, size = np.asarray(mean, float), len(mean)
    raw = np.random.default_rng(seed).normal(size=(count, size))
    raw -= raw.mean(axis=0)
    left, _, right = np.linalg.svd(raw, full_matrices=False)
    white = left @ right * math.sqrt(count - 1)
    values, vectors = np.linalg.eigh(covariance)
    return white @ (vectors * np.sqrt(np.maximum(values, 0.0))).T + mean


def frechet(real, generated, features=None, **kwargs):
    return kv.evaluation.frechet_distance(real, generated, features, **QUIET, **kwargs)


def datasets(x, *sizes):
    """Return the examples as a dataset of batches of these sizes, the rest in one more."""
    cuts = np.cumsum([0, *sizes, len(x) - sum(sizes)])
    parts = [x[low:high] for low, high in itertools.pairwise(cuts)]
    spec = tf.TensorSpec([None, *x.shape[1:]], x.dtype)
    return tf.data.Dataset.from_generator(lambda: iter(parts), output_signature=spec)


# Moments.


def test_moments_are_those_of_numpy_however_the_data_are_cut():
    x = np.random.default_rng(0).normal(size=(57, 5)) @ rotation(5) * [1, 2, 3, 4, 5] + 1.0
    for data in (x, datasets(x, 1, 30, 2), datasets(x, *[1] * 56)):
        moments = kv.evaluation.feature_moments(data, batch_size=8, **QUIET)
        np.testing.assert_allclose(moments.mean, x.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(moments.covariance, np.cov(x.T), rtol=1e-12, atol=1e-12)
        assert moments.count == 57


def test_a_large_mean_costs_no_digits():
    # Sums of x^2 would have 1e16 x 57 of it, and none of the digits of a variance of 1.
    x = np.random.default_rng(0).integers(-3, 4, size=(57, 3)).astype(float)
    moments = kv.evaluation.feature_moments(x + 2.0**27, batch_size=8, **QUIET)
    np.testing.assert_allclose(moments.covariance, np.cov(x.T), rtol=1e-6)


# The Fréchet distance.


def test_frechet_distance_of_commuting_covariances():
    basis, one, two = rotation(4), np.array([1.0, 4.0, 0.25, 9.0]), np.array([4.0, 1.0, 0.25, 0.01])
    real = data_with([0, 1, 2, 3], basis * one @ basis.T)
    generated = data_with([0.5, 1, 2, 5], basis * two @ basis.T, count=50, seed=1)
    result = frechet(real, generated)
    np.testing.assert_allclose(result.mean_term, 0.25 + 4.0, **EXACT)
    expected = np.sum((np.sqrt(one) - np.sqrt(two)) ** 2)
    np.testing.assert_allclose(result.covariance_term, expected, **EXACT)
    np.testing.assert_allclose(result.distance, 4.25 + expected, **EXACT)
    assert (result.num_real, result.num_generated) == (40, 50)


def test_frechet_distance_of_covariances_that_do_not_commute():
    one, two = np.array([[2.0, 0.9], [0.9, 1.0]]), np.array([[1.0, -0.8], [-0.8, 3.0]])
    result = frechet(data_with([0, 0], one), data_with([0, 0], two, seed=1))
    # The eigenvalues of C1 C2 are a, b > 0: sqrt(a) + sqrt(b) = sqrt(a + b + 2 sqrt(a b)).
    root = math.sqrt(np.trace(one @ two) + 2.0 * math.sqrt(np.linalg.det(one @ two)))
    np.testing.assert_allclose(result.distance, np.trace(one + two) - 2.0 * root, **EXACT)


@pytest.mark.parametrize(
    "one, two, expected",
    [
        ([1, 4, 0, 0], [0, 9, 0, 0], 1 + 1),
        ([1, 4, 0, 0], [0, 0, 9, 1], 1 + 4 + 9 + 1),
        ([1, 4, 0, 0], [1, 4, 1, 2], 1 + 2),
        ([0, 0, 0, 0], [1, 4, 0, 0], 1 + 4),
        ([0, 0, 0, 0], [0, 0, 0, 0], 0),
    ],
)
def test_frechet_distance_of_singular_covariances(one, two, expected):
    basis = rotation(4)
    sets = (data_with([1, 0, 0, 0], basis * np.array(values) @ basis.T) for values in (one, two))
    np.testing.assert_allclose(frechet(*sets).distance, expected, **EXACT)


@pytest.mark.parametrize("count", [12, 100])  # fewer and more than features
@pytest.mark.filterwarnings("ignore:`(real|generated)` has")
def test_frechet_distance_of_equal_sets_is_zero(count):
    x = np.random.default_rng(0).normal(size=(count, 20)) * np.logspace(-4, 2, 20) + 5.0
    assert 0.0 <= frechet(x, x[::-1]).distance < 1e-9


def test_frechet_distance_takes_a_shift_at_its_square():
    x = np.random.default_rng(0).normal(size=(50, 3))
    np.testing.assert_allclose(frechet(x, x + [3, 0, 4]).distance, 25.0, **EXACT)


def test_frechet_distance_of_arrays_datasets_and_features_agree():
    rng = np.random.default_rng(0)
    real, generated = rng.uniform(size=(2, 60, 4, 4, 1)).astype("float32")
    head = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(5)])
    expected = frechet(head(real).numpy(), head(generated).numpy()).distance
    labelled = tf.data.Dataset.from_tensor_slices((generated, np.arange(60))).batch(7)
    for second in (generated, (generated, np.arange(60)), labelled, datasets(generated, 59)):
        # float32 features differ in their last digit with the size of a batch.
        found = frechet(real, second, head, batch_size=13).distance
        np.testing.assert_allclose(found, expected, rtol=1e-4)
        found = frechet(real, second, lambda x: head(x).numpy(), batch_size=13).distance
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_images_themselves_are_features_in_units_of_the_largest_real_pixel():
    real, generated = np.random.default_rng(0).uniform(size=(2, 60, 4, 4, 1))
    largest = np.abs(real).max()
    expected = frechet(real.reshape(60, 16) / largest, generated.reshape(60, 16) / largest)
    np.testing.assert_allclose(frechet(real, generated).distance, expected.distance, rtol=1e-9)
    moments = [kv.evaluation.feature_moments(x, **QUIET) for x in (real, generated)]
    in_pixels = kv.evaluation.frechet_between_moments(*moments)  # moments know of no other data
    np.testing.assert_allclose(in_pixels.distance, expected.distance * largest**2, rtol=1e-9)


@pytest.mark.parametrize("distance", [*DISTANCES, kv.evaluation.frechet_at_infinity])
def test_the_unit_of_pixels_makes_no_difference(distance):
    rng = np.random.default_rng(0)
    real, generated = rng.uniform(size=(80, 3, 1, 1)), rng.uniform(size=(70, 3, 1, 1)) ** 2 * 1.5
    expected = vars(distance(real, generated, **QUIET))
    for unit in (255.0, 1e-3):
        found = vars(distance(datasets(unit * real, 30), unit * generated, **QUIET))
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-8, err_msg=name)


def test_features_keep_their_unit():
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(60, 2, 2, 1)), rng.normal(size=(60, 2, 2, 1)) + 1.0
    once = frechet(real, generated, lambda x: x).distance
    assert frechet(3.0 * real, 3.0 * generated, lambda x: x).distance == pytest.approx(9.0 * once)
    # Arrays [N, F] are features already, such as those that published numbers are made of.
    flat = frechet(real.reshape(60, 4), generated.reshape(60, 4)).distance
    assert flat == pytest.approx(once, rel=1e-9)
    assert frechet(np.zeros((9, 2, 2, 1)), np.ones((9, 2, 2, 1))).distance == pytest.approx(4.0)


def test_moments_kept_or_published_give_the_same_distance():
    real, generated = np.random.default_rng(0).normal(size=(2, 60, 4))
    first = kv.evaluation.feature_moments(real, **QUIET)
    second = kv.evaluation.Moments(generated.mean(axis=0), np.cov(generated.T), 60)
    result = kv.evaluation.frechet_between_moments(first, second)
    np.testing.assert_allclose(result.distance, frechet(real, generated).distance, rtol=1e-9)


def test_no_more_examples_than_features_are_told():
    x = np.random.default_rng(0).normal(size=(20, 6))
    with pytest.warns(UserWarning, match="`generated` has 6 examples for 6 features.*upwards"):
        frechet(x, x[:6])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frechet(x, x[:7])


# Its value at infinitely many examples.


def test_extrapolation_fits_a_line_in_one_over_n():
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(2, 300, 3))
    result = kv.evaluation.frechet_at_infinity(
        real, datasets(generated, 100), num_sizes=4, smallest=60, seed=1, **QUIET
    )
    assert result.sizes.tolist() == [60, 140, 220, 300]
    np.testing.assert_allclose(result.distances[-1], frechet(real, generated).distance, rtol=1e-9)
    inverse = 1.0 / result.sizes
    slope = np.cov(inverse, result.distances)[0, 1] / np.var(inverse, ddof=1)
    np.testing.assert_allclose(result.slope, slope, rtol=1e-9)
    expected = result.distances.mean() - slope * inverse.mean()
    np.testing.assert_allclose(result.distance, expected, rtol=1e-9)


@pytest.mark.full
def test_extrapolation_takes_the_bias_away():
    size, count = 20, 400
    real = data_with([0.0] * size, np.eye(size), count=50)
    rng, plain, extrapolated = np.random.default_rng(0), [], []
    for seed in range(40):
        generated = rng.normal(size=(count, size)) * 1.2
        result = kv.evaluation.frechet_at_infinity(
            real, generated, seed=seed, smallest=100, **QUIET
        )
        plain.append(result.distances[-1])
        extrapolated.append(result.distance)
    truth = size * (1.2 - 1.0) ** 2
    errors = [np.std(x, ddof=1) / math.sqrt(40) for x in (plain, extrapolated)]
    # By 4 standard errors, of which one is left for terms in 1 / N^2: a false alarm in 700 seeds.
    assert np.mean(plain) - truth > 20.0 * errors[0]
    assert abs(np.mean(extrapolated) - truth) < 4.0 * errors[1]


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"num_sizes": 1}, "`num_sizes` must be an integer >= 2"),
        ({"smallest": 4}, "`smallest` must be > 4, the number of features"),
        ({"smallest": 7}, "`generated` must hold at least 14 examples.*Received: 12"),
        ({"seed": -1}, "`seed` must be an integer >= 0"),
        ({}, "`generated` must hold at least 16 examples"),
    ],
)
def test_too_little_to_extrapolate_is_refused(kwargs, message):
    for generated in (X, datasets(X)):
        with pytest.raises(ValueError, match=message):
            kv.evaluation.frechet_at_infinity(X, generated, **QUIET, **kwargs)


# All of them.


@pytest.mark.parametrize("distance", DISTANCES)
def test_batches_make_no_difference(distance):
    real, generated = np.random.default_rng(0).normal(size=(2, 60, 4))
    expected = vars(distance(real, generated + 0.5, **QUIET))
    for first, second in (
        (datasets(real, 1, 20), datasets(generated + 0.5, 40, 3)),
        (real, (generated + 0.5, np.zeros(60))),
    ):
        found = vars(distance(first, second, batch_size=11, **QUIET))
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-9)


def peak_memory(work):
    work()  # what is made once does not count
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_moments_do_not_keep_the_data():
    part = np.random.default_rng(0).normal(size=(100, 40))
    spec = tf.TensorSpec([None, 40], tf.float64)

    def moments(count):
        data = tf.data.Dataset.from_generator(lambda: [part] * count, output_signature=spec)
        return lambda: kv.evaluation.feature_moments(data, **QUIET)

    few, many = peak_memory(moments(5)), peak_memory(moments(50))
    assert many < few + part.nbytes


def test_distances_between_all_pairs_are_never_held_at_once(monkeypatch):
    monkeypatch.setattr(neighbours, "_BLOCK", 1000 * 20)
    x, y = np.random.default_rng(0).normal(size=(2, 1000, 2))
    peak = peak_memory(lambda: kv.evaluation.manifold_scores(x, y, **QUIET))
    assert peak < 1000 * 1000 * 8 / 4


X = np.zeros((12, 4))
BAD = [
    ((X[:0], X), {}, "`real` must hold at least one example"),
    ((X, X[:0]), {}, "`generated` must hold at least one example"),
    ((X, 3), {}, "`generated` must be an array"),
    ((datasets(X), datasets(X[:0])), {}, "`generated` must hold at least one example"),
    ((X, X[:1]), {}, "`generated` must hold at least"),
    ((X, datasets(X[:1])), {}, "`generated` must hold at least"),
    ((X, X[:, :3]), {}, "`generated` must have as many features as `real`, 4. Received: 3"),
    ((X, np.where(np.arange(12)[:, None] == 9, np.nan, X)), {}, "`generated` .* finite .* nan"),
    ((np.full((12, 4), np.inf), X), {}, "`real` .* finite .* inf"),
    ((X, X[:, 0]), {}, r"`generated` must give features \[B, F\] of 4 examples"),
    ((X, X), {"features": 3}, "`features` must be a function"),
    ((X, X), {"features": lambda x: x[:1]}, r"`real` must give features \[B, F\] of 4 examples"),
    ((X, X), {"batch_size": 0}, "`batch_size` must be an integer >= 1"),
    ((X, X), {"verbose": 7}, "`verbose` must be one of"),
]


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("data, kwargs, message", BAD)
def test_bad_input_is_refused(distance, data, kwargs, message):
    with pytest.raises(ValueError, match=message):
        distance(*data, **{"batch_size": 4, **QUIET, **kwargs})


@pytest.mark.parametrize(
    "distance, kwargs, message",
    [
        ("kernel_distance", {"subset_size": 13}, "`subset_size` must be <= 12.*of `real`"),
        ("kernel_distance", {"subset_size": 1}, "`subset_size` must be an integer >= 2"),
        ("kernel_distance", {"num_subsets": 0}, "`num_subsets` must be an integer >= 1"),
        ("kernel_distance", {"seed": -1}, "`seed` must be an integer >= 0"),
        ("manifold_scores", {"k": 0}, "`k` must be an integer >= 1"),
        ("manifold_scores", {"k": 12}, "`real` must hold at least 13 examples.*Received: 12"),
    ],
)
def test_numbers_out_of_range_are_refused_before_all_is_read(distance, kwargs, message):
    looks = []
    with pytest.raises(ValueError, match=message):
        getattr(kv.evaluation, distance)(
            X, X, lambda x: looks.append(len(x)) or x, batch_size=3, **QUIET, **kwargs
        )
    assert sum(looks) <= 6  # the first batch of either


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([[0.0]], np.eye(1), 9), r"`mean` must be finite numbers \[F\]"),
        (([0.0, np.nan], np.eye(2), 9), "`mean` must be finite"),
        (([0.0, 0.0], np.eye(3), 9), r"`covariance` must be finite numbers of shape \(2, 2\)"),
        (([0.0, 0.0], [[1.0, 0.5], [0.0, 1.0]], 9), "`covariance` must be symmetric"),
        (([0.0, 0.0], np.eye(2), 1), "`count` must be an integer >= 2"),
    ],
)
def test_moments_that_are_none_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        kv.evaluation.Moments(*arguments)


def test_moments_of_no_distribution_are_refused():
    good = kv.evaluation.Moments(np.zeros(2), np.eye(2), 9)
    bad = kv.evaluation.Moments(np.zeros(2), np.diag([1.0, -0.5]), 9)
    with pytest.raises(ValueError, match="`generated` must have a covariance without negative"):
        kv.evaluation.frechet_between_moments(good, bad)
    with pytest.raises(ValueError, match="as many features"):
        kv.evaluation.frechet_between_moments(good, kv.evaluation.Moments([0.0], [[1.0]], 9))


@pytest.mark.full
def test_real_digits_are_nearer_to_digits_than_to_noise():
    digits = next(iter(kv.data.load("mnist_5k", "train", batch_size=1200))).numpy()
    real, others = digits[:600], digits[600:]
    noise = np.random.default_rng(0).permuted(others.reshape(-1, 784), axis=1)
    noise = noise.reshape(others.shape)
    sets = [others, np.concatenate([others[:300], noise[:300]]), noise]

    def coarse(x):
        return tf.nn.avg_pool2d(x, 4, 4, "VALID")

    for distance, kwargs in zip(DISTANCES[:2], ({}, {"num_subsets": 20}), strict=True):
        found = [distance(real, x, coarse, **kwargs, **QUIET).distance for x in sets]
        assert found[2] > 2.0 * found[1] > 10.0 * abs(found[0])
    better, between, worse = (DISTANCES[2](real, x, coarse, **QUIET) for x in sets)
    assert better.density > 0.9 > between.density > 0.4 > 0.1 > worse.density
    assert better.recall > 0.8 and worse.coverage < 0.05
