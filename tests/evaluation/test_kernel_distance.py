"""The kernel distance, against loops and the moments of Gaussians."""

import itertools
import math

import numpy as np

import keras_vae as kv
from keras_vae.evaluation.distances import kernel

EXACT = {"rtol": 1e-6, "atol": 1e-9}
QUIET = {"verbose": False}


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
        yield kernel.mean_over_subsets(x, y, num_subsets, subset_size, seed, verbose=False)


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
    # What others print is neither, but the spread of the subsets.
    for result in results[:3]:
        spread = np.std(result.per_subset, ddof=1)
        np.testing.assert_allclose(result.subset_standard_deviation, spread, rtol=1e-12)
        error = spread / math.sqrt(40)
        np.testing.assert_allclose(result.subset_standard_error, error, rtol=1e-12)


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
