"""The importance-weighted estimate of log p(x), against the exact one of a linear-Gaussian VAE."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import special, stats

import keras_vae as kv
from keras_vae.evaluation.estimate import estimate_of

EXACT = {"rtol": 1e-6, "atol": 1e-9}
COPIES = 2000  # of one x: as many independent estimates


def exact_case(cases, count=9):
    truth = cases.truth()
    return cases.exact(truth, truth.sample(count), kv.posteriors.FullCovarianceNormal(2))


def wide_case(cases, copies=COPIES):
    """Return copies of one x under a q(z|x) that is shifted and too wide: weights are bounded."""
    truth = cases.truth()
    x = np.repeat(truth.sample(1), copies, axis=0)
    case = cases.with_decoder(truth, x, kv.posteriors.FullCovarianceNormal(2))
    mean, covariance = truth.posterior(np.zeros((1, 5)))
    slope = truth.posterior(np.eye(5))[0] - mean
    cases.set_posterior(case.model, slope, mean[0] + 0.1, 1.4 * np.linalg.cholesky(covariance))
    return case


def chi_square(case):
    """Return Var_q[w / p(x)] = int p(z|x)^2 / q(z|x) dz - 1, a Gaussian integral."""
    mean, covariance = case.truth.posterior(case.x[:1])
    q_mean, q_covariance = (moment[0] for moment in case.q(case.x[:1]))
    p, q = np.linalg.inv(covariance), np.linalg.inv(q_covariance)
    linear = 2.0 * p @ mean[0] - q @ q_mean
    precision = 2.0 * p - q
    exponent = (
        linear @ np.linalg.solve(precision, linear)
        - 2.0 * mean[0] @ p @ mean[0]
        + q_mean @ q @ q_mean
    ) / 2.0
    log_dets = [np.linalg.slogdet(matrix)[1] for matrix in (p, q, precision)]
    return np.exp(exponent + log_dets[0] - (log_dets[1] + log_dets[2]) / 2.0) - 1.0


def estimates(case, num_samples, **kwargs):
    result = kv.evaluation.log_likelihood(case.model, case.x, num_samples, batch_size=500, **kwargs)
    return result.per_example


def record_weights(monkeypatch, model):
    """Return a list that receives the log weights of every chunk, with everything run eagerly."""
    tf.config.run_functions_eagerly(True)
    recorded, right = [], model._terms

    def terms(*args, **kwargs):
        made = right(*args, **kwargs)
        recorded.append(made.log_w.numpy())
        return made

    monkeypatch.setattr(model, "_terms", terms)
    return recorded


# At the exact posterior nothing is left to chance.


@pytest.mark.full
def test_one_sample_of_the_exact_posterior_is_exact(cases):
    tf.config.run_functions_eagerly(True)
    case = exact_case(cases)
    evidence = case.truth.log_evidence(case.x)
    result = kv.evaluation.log_likelihood(case.model, case.x, num_samples=1, batch_size=4)
    np.testing.assert_allclose(result.per_example, evidence, **EXACT)
    np.testing.assert_allclose(result.mean, evidence.mean(), **EXACT)
    np.testing.assert_allclose(result.standard_error, evidence.std(ddof=1) / 3.0, **EXACT)
    np.testing.assert_allclose(result.effective_sample_size, 1.0, **EXACT)


def test_more_samples_of_the_exact_posterior_change_nothing(cases):
    tf.config.run_functions_eagerly(True)
    case = exact_case(cases)
    for num_samples, chunk_size in [(7, 3), (6, 3), (3, 7)]:
        result = kv.evaluation.log_likelihood(
            case.model, case.x, num_samples=num_samples, chunk_size=chunk_size
        )
        np.testing.assert_allclose(result.per_example, case.truth.log_evidence(case.x), **EXACT)
        np.testing.assert_allclose(result.effective_sample_size, num_samples, **EXACT)


def test_a_partial_last_batch_counts_by_its_examples(cases):
    case = exact_case(cases, count=5)
    data = tf.data.Dataset.from_tensor_slices(case.x).batch(4)
    result = kv.evaluation.log_likelihood(case.model, data, num_samples=2)
    np.testing.assert_allclose(result.mean, case.truth.log_evidence(case.x).mean(), **EXACT)


def z_scores(results, exact):
    return np.array([(result.mean - exact) / result.standard_error for result in results])


def test_the_standard_error_tells_how_far_another_data_set_would_be(cases):
    case = exact_case(cases, count=200 * 40)
    # E log p(x) = -entropy of N(b, W W^T + s^2 I).
    covariance = case.truth.w @ case.truth.w.T + np.diag(case.truth.noise)
    exact = -np.linalg.slogdet(2.0 * np.pi * np.e * covariance)[1] / 2.0
    values = estimates(case, num_samples=1).reshape(200, 40)
    scores = z_scores([estimate_of([row]) for row in values], exact)
    # Of 40 examples they are t-distributed but for the skewness of log p(x); a false alarm for a
    # new seed has about the probability 1e-3.
    assert stats.kstest(scores, stats.t(39).cdf).pvalue > 1e-3
    for wrong in (0.5, 2.0):
        assert stats.kstest(wrong * scores, stats.t(39).cdf).pvalue < 1e-5


# With a wrong posterior it is a lower bound.


def test_one_sample_gives_the_elbo_on_average(cases):
    case = wide_case(cases)
    draws = estimates(case, num_samples=1)
    # 4 standard errors: 6.3e-5 for a new seed.
    error = draws.mean() - case.truth.elbo(case.x[:1], case.q(case.x[:1]))[0]
    assert abs(error) < 4.0 * draws.std() / np.sqrt(COPIES)


def test_the_bound_rises_with_the_number_of_samples(cases):
    case = wide_case(cases, copies=4 * COPIES)
    draws = [estimates(case, num_samples=count, seed=count) for count in (1, 4, 16)]
    means = np.array([values.mean() for values in draws])
    errors = np.array([values.std() for values in draws]) / np.sqrt(4 * COPIES)
    # By more than chance: 4 standard errors of each difference, and of that to log p(x).
    assert np.all(np.diff(means) > 4.0 * np.hypot(errors[1:], errors[:-1]))
    assert np.all(means + 4.0 * errors < case.truth.log_evidence(case.x[:1]))


def check_gap(case, draws, num_samples):
    """Check that E[L_K] = log p(x) - Var[w / p(x)] / 2K + O(1/K^2)."""
    variance = chi_square(case)
    expected = case.truth.log_evidence(case.x[:1])[0] - variance / (2.0 * num_samples)
    # 4 standard errors: 6.3e-5 for a new seed.
    tolerance = 4.0 * draws.std() / np.sqrt(COPIES) + (1.0 + variance) ** 3 / num_samples**2
    assert abs(draws.mean() - expected) < tolerance


def test_the_gap_of_many_samples_is_the_variance_of_the_weights_by_2k(cases):
    case = wide_case(cases)
    check_gap(case, estimates(case, num_samples=100, chunk_size=50), num_samples=100)


@pytest.mark.parametrize("chunk_size", [3, 16])
def test_chunks_leave_the_mean_weight_unbiased(cases, chunk_size):
    case = wide_case(cases)
    relative = np.exp(estimates(case, 10, chunk_size=chunk_size) - case.truth.log_evidence(case.x))
    # E[exp L_K] = p(x) for every K, with variance chi^2 / K; 4 standard errors: 6.3e-5.
    standard_error = np.sqrt(chi_square(case) / 10 / COPIES)
    assert abs(relative.mean() - 1.0) < 4.0 * standard_error
    # The variance says that all ten samples are different ones (a chunk drawn twice raises it by
    # 30 % at least); its standard error is about sqrt(kurtosis / COPIES), 5 % here.
    np.testing.assert_allclose(relative.var(), chi_square(case) / 10, rtol=0.2)


def test_chunks_hold_all_samples_and_combine_exactly(cases, monkeypatch):
    case = wide_case(cases, copies=3)
    recorded = record_weights(monkeypatch, case.model)
    result = kv.evaluation.log_likelihood(case.model, case.x, num_samples=10, chunk_size=4)
    log_w = np.concatenate(recorded)
    assert [len(chunk) for chunk in recorded] == [4, 4, 2]
    assert len(np.unique(log_w)) == 30
    expected = special.logsumexp(log_w, axis=0) - np.log(10.0)
    np.testing.assert_allclose(result.per_example, expected, rtol=1e-12)
    w = np.exp(log_w - log_w.max(axis=0))
    sizes = np.square(w.sum(axis=0)) / np.square(w).sum(axis=0)
    np.testing.assert_allclose(result.effective_sample_size, sizes.mean(), rtol=1e-9)


@pytest.mark.full
def test_eager_and_graph_give_the_same_estimate(cases):
    case = wide_case(cases, copies=6)
    in_graph = estimates(case, 10, chunk_size=4)
    tf.config.run_functions_eagerly(True)
    np.testing.assert_allclose(estimates(case, 10, chunk_size=4), in_graph, rtol=1e-12)


@pytest.mark.full
def test_every_example_of_every_batch_has_noise_of_its_own_by_the_seed(cases):
    tf.config.run_functions_eagerly(True)
    case = wide_case(cases, copies=1000)
    draws = estimates(case, num_samples=1)  # 2 batches of copies of one x
    assert len(np.unique(draws)) == 1000
    assert np.array_equal(draws, estimates(case, num_samples=1))
    assert not np.any(draws == estimates(case, num_samples=1, seed=2))


def test_effective_sample_size_is_one_over_the_second_moment_of_the_weights(cases):
    case = wide_case(cases)
    result = kv.evaluation.log_likelihood(case.model, case.x[:50], num_samples=4000, chunk_size=400)
    # ESS / K -> 1 / E[(w / p(x))^2] = 1 / (1 + chi^2).
    np.testing.assert_allclose(
        result.effective_sample_size / 4000, 1.0 / (1.0 + chi_square(case)), rtol=0.02
    )
