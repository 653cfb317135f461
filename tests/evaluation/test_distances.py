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
from keras_vae.evaluation.distances import inception, neighbours
from keras_vae.evaluation.distances import kernel as kernel_module

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


def test_images_themselves_are_features_when_flattened():
    real, generated = np.random.default_rng(0).uniform(size=(2, 60, 4, 4, 1))
    expected = frechet(real.reshape(60, 16), generated.reshape(60, 16))
    assert frechet(real, generated) == expected


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


# The kernel distance.


def mmd2_by_loops(x, y):
    def kernel(a, b):
        return (sum(float(i) * float(j) for i, j in zip(a, b, strict=True)) / len(a) + 1.0) ** 3

    pairs = itertools.permutations
    within = [np.mean([kernel(a, b) for a, b in pairs(z, 2)]) for z in (x, y)]
    return sum(within) - 2.0 * np.mean([kernel(a, b) for a in x for b in y])


def gaussian_mmd2(mean_x, mean_y, cov_x, cov_y):
    """Return sum_p binom(3, p) / F^p |E x^(p) - E y^(p)|^2, with tensors of moments."""

    def moments(m, c):
        three = np.einsum("i,j,k->ijk", m, m, m)
        for path in ("i,jk->ijk", "j,ik->ijk", "k,ij->ijk"):
            three = three + np.einsum(path, m, c)
        return m, c + np.outer(m, m), three

    sizes = [3 / len(mean_x), 3 / len(mean_x) ** 2, 1 / len(mean_x) ** 3]
    pairs = zip(moments(mean_x, cov_x), moments(mean_y, cov_y), strict=True)
    return sum(w * np.sum((a - b) ** 2) for w, (a, b) in zip(sizes, pairs, strict=True))


MEANS = np.array([0.2, -0.1]), np.array([0.5, 0.3])
COVARIANCES = np.array([[1.0, 0.3], [0.3, 0.5]]), np.array([[0.6, -0.1], [-0.1, 0.9]])


def repeat_kernel_distance(repetitions, count, equal, num_subsets, subset_size):
    """Return the results of independent pairs of Gaussian sets."""
    rng = np.random.default_rng(0)
    sides = (0, 0) if equal else (0, 1)
    sets = [rng.multivariate_normal(MEANS[i], COVARIANCES[i], (repetitions, count)) for i in sides]
    # Without the pipelines, which take longer than the estimates.
    for seed, (x, y) in enumerate(zip(*sets, strict=True)):
        yield kernel_module.mean_over_subsets(x, y, num_subsets, subset_size, seed, verbose=False)


def test_kernel_distance_equals_loops():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(9, 3)), rng.normal(size=(9, 3)) + 0.5
    expected = mmd2_by_loops(x, y)
    result = kv.evaluation.kernel_distance(x, y, num_subsets=3, subset_size=9, **QUIET)
    np.testing.assert_allclose(result.per_subset, [expected] * 3, **EXACT)
    np.testing.assert_allclose(result.distance, expected, **EXACT)
    assert math.isnan(result.standard_error) and result.subset_standard_error < 1e-9


def test_all_subsets_average_to_the_whole():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 2)), rng.normal(size=(8, 2)) + 0.5
    result = kv.evaluation.kernel_distance(x, y, num_subsets=4000, subset_size=3, **QUIET)
    # By 4 standard errors over subsets: a false alarm in 16,000.
    assert abs(result.distance - mmd2_by_loops(x, y)) < 4.0 * result.subset_standard_error


def test_kernel_distance_has_the_expectation_of_gaussians():
    results = repeat_kernel_distance(300, 20, equal=False, num_subsets=1, subset_size=20)
    found = np.array([result.distance for result in results])
    expected = gaussian_mmd2(*MEANS, *COVARIANCES)
    # By 4 standard errors: a false alarm in 16,000 seeds.
    assert abs(found.mean() - expected) < 4.0 * found.std(ddof=1) / math.sqrt(300)
    assert found.std(ddof=1) / math.sqrt(300) < expected / 8.0  # zero would be noticed


def test_kernel_distance_of_equal_distributions_is_zero_on_average():
    results = repeat_kernel_distance(400, 12, equal=True, num_subsets=2, subset_size=6)
    found = np.array([result.distance for result in results])
    # By 4 standard errors: a false alarm in 16,000 seeds.
    assert abs(found.mean()) < 4.0 * found.std(ddof=1) / math.sqrt(400)
    assert (found < 0.0).mean() > 0.2  # not cut off at zero


def test_standard_error_is_that_over_new_data():
    results = [*repeat_kernel_distance(200, 300, equal=False, num_subsets=40, subset_size=60)]
    truth = gaussian_mmd2(*MEANS, *COVARIANCES)
    z = np.array([(result.distance - truth) / result.standard_error for result in results])
    # By 4 standard errors of the mean and of the variance of 200 normal numbers, and half as much
    # again for the noise of the standard error itself (chi^2 with 39 degrees: 11 %).
    assert abs(z.mean()) < 6.0 / math.sqrt(200)
    assert abs(z.var(ddof=1) - 1.0) < 6.0 * math.sqrt(2 / 200)
    # The other one is that over subsets: too small by the examples that they share.
    ratio = np.mean([result.subset_standard_error / result.standard_error for result in results])
    np.testing.assert_allclose(ratio, math.sqrt((1 / 40) / (1 / 40 + 60 / 240)), rtol=1e-9)


def test_subsets_follow_the_seed():
    x, y = np.random.default_rng(0).normal(size=(2, 40, 3))
    first, again, other = (
        kv.evaluation.kernel_distance(x, y, num_subsets=4, seed=seed, **QUIET).per_subset
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.any(first == other)


def test_subsets_are_half_of_the_smaller_set_at_most():
    x = np.random.default_rng(0).normal(size=(2100, 1))
    for first, second, size in ((30, 41, 15), (3, 40, 2), (2100, 2100, 1000)):
        result = kv.evaluation.kernel_distance(x[:first], x[:second], num_subsets=2, **QUIET)
        assert result.subset_size == size


# Precision, recall, density, coverage.


def scores_by_loops(x, y, k):
    def radius(points, i):
        others = sorted(math.dist(points[i], p) for j, p in enumerate(points) if j != i)
        return others[k - 1]

    def inside(point, centre, reach):
        # Two equal points are at distance zero in loops, too.
        return math.dist(point, centre) < reach or math.dist(point, centre) == 0.0

    real = [radius(x, i) for i in range(len(x))]
    generated = [radius(y, i) for i in range(len(y))]
    balls = np.array([[inside(b, a, r) for b in y] for a, r in zip(x, real, strict=True)])
    recalled = [any(inside(a, b, r) for b, r in zip(y, generated, strict=True)) for a in x]
    scores = [balls.any(axis=0).mean(), np.mean(recalled), balls.sum() / (k * len(y))]
    return [*scores, balls.any(axis=1).mean()]


def manifold(x, y, k=5):
    scores = kv.evaluation.manifold_scores(x, y, k=k, **QUIET)
    assert scores.k == k
    return [scores.precision, scores.recall, scores.density, scores.coverage]


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("block", [2**22, 70])  # one block, and some of two rows
def test_manifold_scores_equal_loops(monkeypatch, k, block):
    monkeypatch.setattr(neighbours, "_BLOCK", block)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(31, 3)), rng.normal(size=(23, 3)) * 0.7 + 0.4
    expected = scores_by_loops(x, y, k)
    assert len(set(expected)) == 4 and min(expected) > 0.0
    np.testing.assert_allclose(manifold(x, y, k), expected, rtol=1e-12)
    # On a grid there are equal points, and neighbours on the rim of a ball.
    x, y = rng.integers(0, 3, size=(31, 2)) * 1.0, rng.integers(0, 6, size=(23, 2)) * 0.5
    np.testing.assert_allclose(manifold(x, y, k), scores_by_loops(x, y, k), rtol=1e-12)


def test_manifold_scores_of_equal_sets_are_one():
    x = np.random.default_rng(0).normal(size=(200, 8)) + 1000.0
    assert manifold(x, x[::-1]) == [1.0, 1.0, 1.0, 1.0]
    # Five copies of each of nine points: a ball of radius zero, with five points inside.
    copies = np.repeat(np.random.default_rng(0).normal(size=(9, 50)), 5, axis=0)
    np.testing.assert_allclose(manifold(copies, copies, k=3), [1.0, 1.0, 5 / 3, 1.0])


def test_manifold_scores_of_disjoint_sets_are_zero():
    x = np.random.default_rng(0).normal(size=(40, 3))
    assert manifold(x, x + 50.0) == [0.0, 0.0, 0.0, 0.0]


def test_manifold_scores_of_half_of_the_modes():
    x = np.random.default_rng(0).normal(size=(40, 3))
    modes = np.concatenate([x, x + 50.0])
    assert manifold(modes, x) == [1.0, 0.5, 1.0, 0.5]  # one of two modes is lost
    assert manifold(x, modes) == [0.5, 1.0, 0.5, 1.0]  # and one is made up


def test_a_single_outlier_raises_precision_and_not_density():
    rng = np.random.default_rng(0)
    real, far = rng.normal(size=(100, 2)), rng.normal(size=(50, 2)) + 20.0
    scores = kv.evaluation.manifold_scores(np.vstack([real, [[80.0, 80.0]]]), far, k=2, **QUIET)
    assert scores.precision == 1.0 and scores.density == 0.5 and scores.coverage < 0.02


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


# Features.


def classifier(*tail):
    layers = keras.layers
    keras.utils.set_random_seed(1)
    body = [layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(6), *tail]
    return keras.Sequential([keras.Input((8, 8, 1)), *body])


@pytest.mark.parametrize("form", ["model", "path", "functional", "softmax_layer"])
def test_classifier_features_are_what_the_last_layer_is_given(tmp_path, form):
    layers = keras.layers
    tail = [layers.Dropout(0.5), layers.Dense(3)]
    model = classifier(*tail, *[layers.Softmax()] * (form == "softmax_layer"))
    x = np.random.default_rng(0).uniform(size=(5, 8, 8, 1)).astype("float32")
    given = model
    if form == "path":
        given = tmp_path / "classifier.keras"
        model.save(given)
    if form == "functional":
        given = keras.Model(model.inputs, model.outputs)
    found = kv.evaluation.classifier_features(given)(x)
    assert found.shape == (5, 6)
    head = next(layer for layer in reversed(model.layers) if layer.weights)
    logits = found @ head.kernel + head.bias
    expected = tf.nn.softmax(logits) if form == "softmax_layer" else logits
    np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=1e-6)


def test_what_is_no_classifier_is_refused(tmp_path):
    for bad, message in (
        (tmp_path / "none.keras", "path of its file"),
        (keras.Sequential([keras.layers.Dense(3)]), "that is built"),
        (3, "Functional or Sequential"),
        (classifier(keras.layers.LayerNormalization()), "must end with a Dense layer"),
    ):
        with pytest.raises(ValueError, match=message):
            kv.evaluation.classifier_features(bad)


@pytest.fixture
def pixels(monkeypatch):
    """Return `inception_features` with a network that shows what it is given."""
    monkeypatch.setattr(inception, "_network", lambda weights: tf.identity)
    return kv.evaluation.inception_features()


def test_inception_is_given_large_colour_images_from_minus_one_to_one(pixels):
    grey = np.linspace(0.0, 1.0, 2 * 5 * 5, dtype="float64").reshape(2, 5, 5, 1)
    found = pixels(grey)
    assert found.shape == (2, 299, 299, 3) and found.dtype == "float32"
    for channel in range(3):  # corners keep their values
        np.testing.assert_allclose(found[:, 0, 0, channel], 2 * grey[:, 0, 0, 0] - 1, atol=1e-6)
        np.testing.assert_allclose(found[:, -1, -1, channel], 2 * grey[:, -1, -1, 0] - 1, atol=1e-6)
    colour = np.zeros((1, 4, 4, 3), "float32") + [0.0, 0.5, 1.0]
    np.testing.assert_allclose(pixels(colour)[0, 100, 100], [-1.0, 0.0, 1.0], atol=1e-6)
    # Stripes of one pixel, of 1196 on a side, become grey; without antialiasing some would stay.
    stripes = np.tile(np.array([0.0, 1.0], "float32"), 598)[None, None, :, None]
    shrunk = pixels(np.broadcast_to(stripes, (1, 4, 1196, 1)))
    np.testing.assert_allclose(shrunk[0, 0, 5:-5], 0.0, atol=0.05)


def test_inception_takes_some_images_at_a_time(pixels, monkeypatch):
    images = np.random.default_rng(0).uniform(size=(5, 4, 4, 1))
    expected = pixels(images).numpy()
    monkeypatch.setattr(inception, "_AT_ONCE", 2)
    np.testing.assert_array_equal(pixels(images), expected)


@pytest.mark.parametrize(
    "images, message",
    [
        (np.full((1, 4, 4, 1), 255.0), r"must have values in \[0, 1\].*255"),
        (np.full((1, 4, 4, 1), -0.5), r"must have values in \[0, 1\]"),
        (np.full((1, 4, 4, 1), np.nan), r"must have values in \[0, 1\].*nan"),
        (np.zeros((1, 4, 4, 1), "uint8"), "must be floats"),
        (np.zeros((1, 4, 4, 2)), "1 or 3 channels"),
        (np.zeros((4, 4, 1)), "1 or 3 channels"),
    ],
)
def test_inception_refuses_what_is_no_image(pixels, images, message):
    with pytest.raises(ValueError, match=message):
        pixels(images)


def test_inception_says_what_to_do_without_weights(monkeypatch):
    def offline(**kwargs):
        raise Exception("URL fetch failure on https://storage.googleapis.com/...")

    monkeypatch.setattr(keras.applications, "InceptionV3", offline)
    keras.config.set_dtype_policy("mixed_bfloat16")
    with pytest.raises(OSError, match="classifier_features") as error:
        kv.evaluation.inception_features("imagenet")
    assert "URL fetch failure" in str(error.value.__cause__)
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
