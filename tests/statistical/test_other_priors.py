"""The likelihood of a model under a prior of its own choice, N(m, C), against the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import keras_vae as kv
from keras_vae.core.numerics import inverse_scale

LOC, TRIL = np.array([1.5, -1.0]), np.array([[0.8, 0.0], [-0.3, 0.5]])


@pytest.fixture
def prior():
    """Return a mixture of one component, which is N(m, C)."""
    prior = kv.priors.MixtureOfNormals(2, 1, covariance="full")
    prior.build()
    raw = [[inverse_scale(scale) for scale in np.diag(TRIL)]]
    prior.set_weights([np.zeros(1), LOC[None], np.array(raw), TRIL[1:, :1]])
    return prior


def posterior_of(truth):
    """Return slope, shift and covariance of p(z|x) under N(m, C) (Bishop, 2006, eq. 2.116)."""
    precision = np.linalg.inv(TRIL @ TRIL.T)
    covariance = np.linalg.inv(precision + truth.w.T @ (truth.w / truth.noise[:, None]))
    slope = (truth.w / truth.noise[:, None]) @ covariance
    return slope, covariance @ precision @ LOC - truth.b @ slope, covariance


def log_evidence(truth, x):
    covariance = truth.w @ TRIL @ TRIL.T @ truth.w.T + np.diag(truth.noise)
    return stats.multivariate_normal(truth.w @ LOC + truth.b, covariance).logpdf(x)


def test_the_exact_posterior_gives_the_evidence_at_every_sample(cases, prior):
    truth = cases.truth()
    x = truth.sample(6)
    case = cases.with_decoder(truth, x, kv.posteriors.FullCovarianceNormal(2))
    slope, shift, covariance = posterior_of(truth)
    cases.set_posterior(case.model, slope, shift, np.linalg.cholesky(covariance))
    other = case.model.with_prior(prior)
    log_w = other.log_weights(x, num_samples=3, seed=1)
    np.testing.assert_allclose(log_w, np.tile(log_evidence(truth, x), (3, 1)), rtol=1e-6)
    # And the model of the standard normal is what it was.
    assert np.ptp(case.model.log_weights(x, num_samples=3, seed=1), axis=0).min() > 1e-3


@pytest.mark.full
def test_log_likelihood_under_the_other_prior(cases, prior):
    truth = cases.truth()
    x = truth.sample(20)
    model = cases.with_decoder(truth, x, kv.posteriors.FullCovarianceNormal(2)).model
    slope, shift, covariance = posterior_of(truth)
    # Wider than the posterior: the weights are bounded, and their noise small.
    cases.set_posterior(model, slope, shift, 1.3 * np.linalg.cholesky(covariance))
    found = kv.evaluation.log_likelihood(model.with_prior(prior), x, num_samples=2_000, seed=2)
    error = np.sqrt(1.0 / found.effective_sample_size - 1.0 / 2_000)
    # Each is off by `error` or so, their mean by less: beyond 4 once in 16,000 seeds.
    exact = log_evidence(truth, x)
    assert abs(found.mean - exact.mean()) < 4 * error / np.sqrt(len(x)) < 0.05
    assert np.all(np.abs(found.per_example - exact) < 6 * error)


def test_two_stage_keeps_the_likelihood_below_in_expectation_and_nearly_there(cases):
    # p(z) = N(m, C) again, by f(u) = L u + m and gamma^2 I, with a q(u|z) that is wrong.
    gamma = 0.4
    truth = cases.truth()
    x = truth.sample(100)
    case = cases.exact(truth, x, kv.posteriors.FullCovarianceNormal(2))
    marginal = TRIL @ TRIL.T + gamma**2 * np.eye(2)
    evidence = stats.multivariate_normal(
        truth.w @ LOC + truth.b, truth.w @ marginal @ truth.w.T + np.diag(truth.noise)
    ).logpdf(x)

    def bound(num_samples, inner):
        prior = kv.priors.TwoStage(2, hidden_units=(4,), num_samples=inner, seed=3)
        prior.build()
        prior.raw_gamma.assign(inverse_scale(gamma))
        hidden = np.zeros((4, 2))
        prior.decoder.out.set_weights([np.concatenate([hidden, TRIL.T]), LOC])
        prior.encoder.out.set_weights([np.zeros((6, 4)), np.zeros(4)])  # q(u|z) = N(0, I)
        log_w = case.model.with_prior(prior).log_weights(x, num_samples, seed=1)
        return kv.bounds.importance_weighted(log_w).numpy()

    gaps = [evidence - bound(*numbers) for numbers in ((30, 1), (30, 30), (300, 30))]
    error = [gap.std(ddof=1) / np.sqrt(len(gap)) for gap in gaps]
    assert gaps[0].mean() > 4 * error[0]  # below, by more than noise
    assert gaps[0].mean() > gaps[1].mean() + 4 * error[1]  # inner samples count
    assert gaps[1].mean() > gaps[2].mean() - 2 * error[1]  # outer ones do too
    assert -4 * error[2] < gaps[2].mean() < 0.5
