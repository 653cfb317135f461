"""Annealed importance sampling against the exact log p(x) of a linear-Gaussian VAE."""

import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv

EXACT = {"rtol": 1e-6, "atol": 1e-9}
COPIES = 600  # of one x: as many independent estimates


def copies_of_one(cases, **kwargs):
    truth = cases.truth(noise=1.0)
    return cases.with_decoder(truth, np.repeat(truth.sample(1), COPIES, axis=0), **kwargs)


def anneal(case, *args, **kwargs):
    return kv.evaluation.annealed_importance_sampling(
        case.model, case.x, *args, batch_size=COPIES, num_leapfrog_steps=3, **kwargs
    )


def check_mean_is_one(relative):
    """Check E[w / p(x)] = 1, to 4 standard errors: 6.3e-5 for a new seed."""
    assert 0.0 < relative.std() < 3.0
    assert abs(relative.mean() - 1.0) < 4.0 * relative.std() / np.sqrt(len(relative))


def test_the_mean_weight_is_exact_however_short_the_way(cases):
    case = copies_of_one(cases)
    evidence = case.truth.log_evidence(case.x[:1])[0]
    found = anneal(case, num_distributions=6, num_chains=2)
    check_mean_is_one(np.exp(found.per_example - evidence))
    # E[log w] falls below by half of the variance of w: the estimate is a lower bound.
    assert found.mean < evidence
    assert 1.0 <= found.effective_sample_size <= 2.0 and 0.2 < found.acceptance_rate < 1.0


@pytest.mark.full
def test_the_estimate_of_a_long_way_is_log_p_x(cases):
    truth = cases.truth()
    case = cases.with_decoder(truth, truth.sample(60))
    found = anneal(case, num_distributions=300, num_chains=4, start="prior")
    error = found.per_example - truth.log_evidence(case.x)
    # The bound lies some hundredths of a nat below; 4 standard errors: 6.3e-5 for a new seed.
    assert abs(error.mean()) < 4.0 * error.std() / np.sqrt(60) + 0.02
    assert error.std() < 0.4
    assert 0.5 < found.acceptance_rate < 0.8 and found.effective_sample_size > 3.0
    np.testing.assert_allclose(found.mean, found.per_example.mean(), **EXACT)


@pytest.mark.full
def test_nothing_is_left_to_chance_from_the_exact_posterior(cases):
    tf.config.run_functions_eagerly(True)
    truth = cases.truth()
    case = cases.exact(truth, truth.sample(5), kv.posteriors.FullCovarianceNormal(2))
    for distributions in (1, 2):
        found = anneal(case, num_distributions=distributions, num_chains=2, start="posterior")
        np.testing.assert_allclose(found.per_example, truth.log_evidence(case.x), **EXACT)
        np.testing.assert_allclose(found.effective_sample_size, 2.0, **EXACT)
        # A single distribution has no moves to accept.
        assert np.isnan(found.acceptance_rate) == (distributions == 1)


def bidirectional(case, count, *args, **kwargs):
    kwargs = {"num_leapfrog_steps": 3, "batch_size": count, **kwargs}
    return kv.evaluation.bidirectional_check(case.model, count, *args, **kwargs)


# The encoder is wrong: from q(z|x) the way is longer.
@pytest.mark.full
def test_both_bounds_are_unbiased_in_the_weights(cases):
    case = copies_of_one(cases)
    check = bidirectional(case, 2000, num_distributions=60, num_chains=2, start="posterior")
    evidence = case.truth.log_evidence(check.x)
    check_mean_is_one(np.exp(check.lower.per_example - evidence))
    check_mean_is_one(np.exp(evidence - check.upper.per_example))
    # The data are those of the model: E log p(x) = -entropy of N(b, W W^T + s^2 I).
    covariance = case.truth.w @ case.truth.w.T + np.diag(case.truth.noise)
    exact = -np.linalg.slogdet(2.0 * np.pi * np.e * covariance)[1] / 2.0
    assert abs(evidence.mean() - exact) < 4.0 * evidence.std() / np.sqrt(2000)
    # By more than chance, 4 standard errors.
    assert check.gap.mean > 4.0 * check.gap.standard_error
    gap = check.upper.per_example - check.lower.per_example
    np.testing.assert_allclose(check.gap.per_example, gap, **EXACT)


@pytest.mark.full
def test_the_bounds_are_equal_from_the_exact_posterior(cases):
    tf.config.run_functions_eagerly(True)
    truth = cases.truth()
    case = cases.exact(truth, truth.sample(1), kv.posteriors.FullCovarianceNormal(2))
    check = bidirectional(case, 5, num_distributions=2, num_chains=2, start="posterior")
    np.testing.assert_allclose(check.lower.per_example, truth.log_evidence(check.x), **EXACT)
    np.testing.assert_allclose(check.upper.per_example, truth.log_evidence(check.x), **EXACT)


@pytest.mark.full
def test_the_seed_decides(cases):
    tf.config.run_functions_eagerly(True)
    case = copies_of_one(cases)
    kwargs = {"num_distributions": 2, "num_chains": 1, "num_leapfrog_steps": 1}
    first, same, other = (bidirectional(case, 4, seed=seed, **kwargs) for seed in (1, 1, 2))
    assert np.array_equal(first.lower.per_example, same.lower.per_example)
    assert np.array_equal(first.upper.per_example, same.upper.per_example)
    assert not np.any(first.x == other.x)
    assert len(np.unique(first.lower.per_example)) == 4


BAD = [("num_distributions", 0), ("num_chains", 0), ("num_leapfrog_steps", 0)]
BAD += [("start", "encoder"), ("seed", -1), ("batch_size", 0)]


def test_bad_numbers_are_refused(cases):
    case = copies_of_one(cases)
    for argument, value in BAD:
        arguments = {"num_distributions": 2, "num_chains": 1, argument: value}
        with pytest.raises(ValueError, match=f"`{argument}` must be"):
            kv.evaluation.annealed_importance_sampling(case.model, case.x[:2], **arguments)
        with pytest.raises(ValueError, match=f"`{argument}` must be"):
            kv.evaluation.bidirectional_check(case.model, 2, **arguments)


def test_discrete_z_and_no_data_are_refused(cases):
    case = copies_of_one(cases)
    with pytest.raises(ValueError, match="`data` must hold at least one example"):
        kv.evaluation.annealed_importance_sampling(case.model, case.x[:0])
    with pytest.raises(ValueError, match="`num_examples` must be"):
        kv.evaluation.bidirectional_check(case.model, 0)
    discrete = kv.VAE(
        encoder=kv.networks.MLPEncoder((4,)),
        decoder=kv.networks.MLPDecoder((5,), (4,)),
        posterior=kv.posteriors.Bernoulli(2),
        prior=kv.priors.Bernoulli(2),
        likelihood=kv.likelihoods.Normal((5,)),
        objective=kv.objectives.ELBO(estimator="score_function"),
    )
    with pytest.raises(ValueError, match="`model` must have continuous z.*Bernoulli"):
        kv.evaluation.annealed_importance_sampling(discrete, case.x[:2])


@pytest.mark.full
def test_labels_condition_prior_and_likelihood():
    conditional = kv.ConditionalVAE(
        condition=3,
        encoder=kv.networks.MLPEncoder((4,)),
        decoder=kv.networks.MLPDecoder((5,), (4,)),
        posterior=kv.posteriors.DiagonalNormal(2),
        prior=kv.priors.ConditionalNormal(2),
        likelihood=kv.likelihoods.Normal((5,)),
    )
    labels = np.array([0, 1, 2, 1, 0])
    check = kv.evaluation.bidirectional_check(
        conditional, 5, 100, 8, y=labels, batch_size=3, num_leapfrog_steps=3
    )
    tf.config.run_functions_eagerly(True)
    reference = kv.evaluation.log_likelihood(conditional, (check.x, labels), 5000)
    # After a long way the bounds meet.
    np.testing.assert_allclose(check.lower.per_example, reference.per_example, atol=0.6)
    np.testing.assert_allclose(check.upper.per_example, reference.per_example, atol=0.6)
    assert abs(check.gap.mean) < 0.1
    # With a single step there is nothing but the likelihood of x and y under draws of p(z|y).
    found = kv.evaluation.annealed_importance_sampling(
        conditional, tf.data.Dataset.from_tensor_slices((check.x, labels)).batch(3), 1, 5000
    )
    np.testing.assert_allclose(found.per_example, reference.per_example, atol=0.6)
    alike = [kv.evaluation.bidirectional_check(conditional, 2, 1, 2, y=y) for y in (1, [1, 1])]
    np.testing.assert_array_equal(alike[0].x, alike[1].x)
