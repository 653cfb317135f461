"""Mean KL, marginal KL and mutual information, against quadrature and closed forms."""

import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import special, stats

import keras_vae as kv
from keras_vae.evaluation import aggregate_posterior
from keras_vae.evaluation.aggregate_posterior import AggregatePosterior, Reading, given_the_data

tfd = tfp.distributions
EXACT = {"rtol": 1e-6, "atol": 1e-9}


@pytest.fixture
def line(cases):
    """Return a case of one latent dimension: five posteriors of different means and scales."""
    truth = cases.truth(latent_dim=1)
    return cases.with_decoder(truth, truth.sample(5))


def by_quadrature(case):
    """Return marginal KL and mutual information of one latent dimension, to 1e-9."""
    mean, covariance = case.q()
    z = np.linspace(-30.0, 30.0, 60_001)  # the trapezoidal rule converges geometrically here
    log_q = stats.norm(mean, np.sqrt(covariance[:, 0])).logpdf(z)  # [N, Z]
    log_aggregate = special.logsumexp(log_q, axis=0) - np.log(len(mean))
    marginal = np.exp(log_aggregate) * (log_aggregate - stats.norm.logpdf(z))
    information = np.mean(np.exp(log_q) * (log_q - log_aggregate), axis=0)
    return np.trapezoid(marginal, z), np.trapezoid(information, z)


def apart(cases, distance, count=2):
    """Return a case whose posteriors are unit normals, their means `distance` apart."""
    truth = cases.truth(num_pixels=2, latent_dim=1)
    case = cases.with_decoder(truth, distance * np.arange(count)[:, None] * [[1.0, 0.0]])
    cases.set_posterior(case.model, np.array([[1.0], [0.0]]), np.zeros(1), np.eye(1))
    return case


def check(estimate, exact, slack=0.0):
    # 4 standard errors: 6.3e-5 for a new seed.
    assert abs(estimate.mean - exact) < 4.0 * estimate.standard_error + slack


# The mean KL.


def test_mean_kl_is_the_closed_form(generic):
    result = kv.evaluation.mean_kl(generic.model, generic.x, batch_size=3)
    np.testing.assert_allclose(result.per_example, generic.q().kl().sum(axis=-1), **EXACT)
    np.testing.assert_allclose(result.mean, result.per_example.mean(), **EXACT)
    assert result.per_example.dtype == np.float64


def test_mean_kl_by_samples_is_unbiased_and_of_noise_of_its_own(cases, monkeypatch):
    truth = cases.truth()
    case = cases.with_decoder(truth, np.repeat(truth.sample(1), 400, axis=0))
    monkeypatch.setattr(kv.bounds, "closed_form_kl", lambda q, p: None)
    result = kv.evaluation.mean_kl(case.model, case.x, num_samples=5)
    check(result, case.q().kl().sum(axis=-1)[0])
    assert len(np.unique(result.per_example)) == 400
    more = kv.evaluation.mean_kl(case.model, case.x, num_samples=20)
    # Standard deviations of 400 numbers: each to 3.5 %, their ratio to 5 %.
    np.testing.assert_allclose(result.per_example.std() / more.per_example.std(), 2.0, rtol=0.25)


def test_rate_and_distortion_are_those_of_the_oracle(cases):
    truth = cases.truth()
    x = np.repeat(truth.sample(1), 2000, axis=0)  # so that the error is that of the draws
    case = cases.with_decoder(truth, x)
    curve = kv.evaluation.rate_distortion({1.0: case.model}, x, num_samples=3, batch_size=500)
    np.testing.assert_allclose(curve.rates, case.q(x[:1]).kl().sum(axis=-1), **EXACT)
    error = curve.distortions + truth.expected_log_p_x(x[:1], case.q(x[:1]))
    # 4 standard errors: 6.3e-5 for a new seed.
    assert abs(error) < 4.0 * curve.distortion_errors < 0.05 * curve.distortions


# Both parts, exactly.


@pytest.mark.full
def test_both_parts_are_those_of_quadrature(line):
    marginal, information = by_quadrature(line)
    np.testing.assert_allclose(marginal + information, line.q().kl().sum(-1).mean(), **EXACT)
    check(kv.evaluation.marginal_kl(line.model, line.x, 4000), marginal)
    check(kv.evaluation.mutual_information(line.model, line.x, 4000), information)
    parts = kv.evaluation.kl_decomposition(line.model, line.x, 4000)
    check(parts.marginal_kl, marginal)
    check(parts.mutual_information, information)
    np.testing.assert_allclose(parts.exact_mean_kl, marginal + information, **EXACT)


@pytest.mark.full
def test_more_draws_and_data_than_fit_at_once_change_nothing(line, monkeypatch):
    monkeypatch.setattr(aggregate_posterior, "_BUDGET", 9)  # three draws, three posteriors
    marginal, information = by_quadrature(line)
    parts = kv.evaluation.kl_decomposition(line.model, line.x, 200)
    check(parts.marginal_kl, marginal)
    check(parts.mutual_information, information)


def test_every_draw_has_noise_of_its_own(cases, monkeypatch):
    monkeypatch.setattr(aggregate_posterior, "_BUDGET", 25)  # five draws at once
    case = apart(cases, 0.0, count=4)
    densities = AggregatePosterior(case.model, case.x, Reading(6, 0, "mixture", 128, False))
    assert len(np.unique(densities.densities().log_q)) == 24


@pytest.mark.full
def test_the_density_does_not_depend_on_the_chunks(line):
    aggregate = AggregatePosterior(line.model, line.x, Reading(2, 0, "mixture", 128, False))
    rows, seed = np.array([4, 0, 0, 2], np.int32), tf.constant([1, 2])
    weights = np.full(2, -np.log(5.0))
    densities = [
        aggregate._trace(num_columns)(
            aggregate.parameters, rows, np.arange(5, dtype=np.int32), weights, seed
        )
        for num_columns in (2, 7)
    ]
    np.testing.assert_allclose(densities[1], densities[0], rtol=1e-12)


@pytest.mark.full
def test_posteriors_far_apart_tell_log_n_and_equal_ones_nothing(cases):
    far = apart(cases, 100.0, count=7)
    information = kv.evaluation.mutual_information(far.model, far.x)
    np.testing.assert_allclose(information.mean, np.log(7), rtol=1e-9)
    equal = apart(cases, 0.0, count=7)
    parts = kv.evaluation.kl_decomposition(equal.model, equal.x)
    assert abs(parts.mutual_information.mean) < 1e-12
    assert abs(parts.mutual_information.standard_error) < 1e-12


@pytest.mark.full
def test_of_data_from_the_model_the_aggregate_posterior_tends_to_the_prior(cases):
    truth = cases.truth(noise=1.0, orthogonal=True)
    case = cases.exact(truth, truth.sample(1000))
    many = kv.evaluation.kl_decomposition(case.model, case.x, 2)
    check(many.marginal_kl, 0.0, slack=0.01)
    information = np.linalg.slogdet(truth.precision)[1] / 2.0  # of x and z under the model
    # Of 1000 data, whose own error is that of the mean KL.
    error = case.q().kl().sum(axis=-1).std() / np.sqrt(1000.0)
    check(many.mutual_information, information, slack=4.0 * error)


# Standard errors.


def test_standard_errors_are_calibrated(line):
    # 200 repetitions in one: of 20 draws from each of 5 posteriors.
    reading = Reading(200 * 20, 3, "mixture", 128, False)
    densities = AggregatePosterior(line.model, line.x, reading).densities()
    marginal, information = by_quadrature(line)
    for values, exact in [
        (densities.log_aggregate - densities.log_p_z, marginal),
        (densities.log_q - densities.log_aggregate, information),
    ]:
        repetitions = np.split(values, 200, axis=1)
        results = [given_the_data(some) for some in repetitions]
        z = np.array([(one.mean - exact) / one.standard_error for one in results])
        # For a new seed the p-value is below by a chance of 1e-4, the spread off by 6e-5.
        assert stats.kstest(z, "norm").pvalue > 1e-4
        np.testing.assert_allclose(z.std(), 1.0, atol=0.2)


def test_the_spread_over_examples_would_be_no_error_of_the_draws(line):
    # What strata save: each posterior is drawn from equally often.
    values = kv.evaluation.marginal_kl(line.model, line.x, 400)
    plain = np.std(values.per_example, ddof=1) / np.sqrt(5.0)
    assert plain > 3.0 * values.standard_error


# Minibatches.


@pytest.mark.first_is_quick
@pytest.mark.parametrize(("distance", "bias"), [(0.0, np.log(12.0)), (100.0, np.log(4.0))])
def test_minibatch_weights_are_too_low_by_a_constant(cases, distance, bias):
    case = apart(cases, distance, count=12)
    exact = kv.evaluation.marginal_kl(case.model, case.x, 200, method="mixture")
    options = {"num_samples": 200, "batch_size": 4}
    low = kv.evaluation.marginal_kl(case.model, case.x, method="minibatch", **options)
    error = np.hypot(exact.standard_error, low.standard_error)
    assert abs(exact.mean - low.mean - bias) < 4.0 * error + 1e-9
    high = kv.evaluation.mutual_information(case.model, case.x, method="minibatch", **options)
    np.testing.assert_allclose(high.mean, (distance > 0) * np.log(12.0) + bias, rtol=1e-9)
    right = kv.evaluation.mutual_information(
        case.model, case.x, method="minibatch_stratified", **options
    )
    np.testing.assert_allclose(right.mean, (distance > 0) * np.log(12.0), atol=1e-9)


@pytest.mark.full
def test_stratified_minibatches_are_too_low_the_less_the_larger_the_batch(cases):
    case = apart(cases, 0.3, count=64)
    exact = kv.evaluation.mutual_information(case.model, case.x, 50)
    by_size = [
        kv.evaluation.mutual_information(
            case.model, case.x, 50, method="minibatch_stratified", batch_size=batch_size
        )
        for batch_size in (2, 64)
    ]
    gaps = [high.mean - exact.mean for high in by_size]
    errors = [4.0 * np.hypot(exact.standard_error, high.standard_error) for high in by_size]
    assert gaps[0] > 2.0 * errors[0]
    assert abs(gaps[1]) < errors[1]  # all data in a batch


def test_minibatches_are_of_data_in_any_order(cases):
    case = apart(cases, 100.0)
    case = dataclasses.replace(case, x=np.repeat(case.x, 32, axis=0))
    result = kv.evaluation.mutual_information(
        case.model, case.x, 4, method="minibatch_stratified", batch_size=8
    )
    # log 2, and some too much; batches of equal data would tell nothing.
    assert 0.6 < result.mean < 0.9


def test_values_belong_to_their_examples(cases):
    case = apart(cases, 3.0, count=7)
    parts = kv.evaluation.kl_decomposition(
        case.model, case.x, 400, method="minibatch", batch_size=2
    )
    exact = np.square(3.0 * np.arange(7)) / 2.0
    # A standard deviation of a draw is 3 n, of the mean of 400 at most 0.9.
    np.testing.assert_allclose(parts.mean_kl.per_example, exact, atol=4.0)


# The sum.


@pytest.mark.parametrize("method", ["mixture", "minibatch"])
def test_the_parts_add_up_and_agree_with_the_closed_form(generic, method):
    parts = kv.evaluation.kl_decomposition(generic.model, generic.x, 500, method=method)
    added = parts.mutual_information.per_example + parts.marginal_kl.per_example
    np.testing.assert_allclose(parts.mean_kl.per_example, added, rtol=1e-12)
    exact = generic.q().kl().sum(axis=-1).mean()
    np.testing.assert_allclose(parts.exact_mean_kl, exact, **EXACT)
    expected = (parts.mean_kl.mean - exact) / parts.mean_kl.standard_error
    np.testing.assert_allclose(parts.z_score, expected, rtol=1e-6)
    assert abs(parts.z_score) < 4.0  # 6.3e-5 for a new seed


def test_a_density_that_is_not_that_of_the_draws_is_told(generic, monkeypatch):
    right = tfd.MultivariateNormalDiag.log_prob
    shifted = lambda self, z, **kwargs: right(self, z + 0.3, **kwargs)  # noqa: E731
    monkeypatch.setattr(tfd.MultivariateNormalDiag, "log_prob", shifted)
    with pytest.warns(UserWarning, match="standard errors off the exact one"):
        parts = kv.evaluation.kl_decomposition(generic.model, generic.x, 2000)
    assert abs(parts.z_score) > 5.0


def test_a_collapsed_posterior_is_no_discrepancy(cases, recwarn):
    keras.config.set_dtype_policy("float32")
    truth = cases.truth()
    case = cases.untrained(truth, truth.sample(50))
    cases.set_posterior(case.model, np.zeros((5, 2)), np.zeros(2), np.eye(2))
    parts = kv.evaluation.kl_decomposition(case.model, case.x)
    assert abs(parts.z_score) < 5.0 and abs(parts.mean_kl.mean) < 1e-6
    assert not [w for w in recwarn if "standard errors" in str(w.message)]


# Densities of every kind.


@pytest.mark.parametrize("kind", ["Categorical", "Bernoulli"])
def test_of_discrete_variables_the_parts_are_those_of_enumeration(kind):
    sizes = {"Categorical": (1, 3), "Bernoulli": (2,)}[kind]
    rng = np.random.default_rng(0)
    model = kv.VAE(
        encoder=keras.layers.Dense(6),
        decoder=keras.layers.Dense(4),
        posterior=getattr(kv.posteriors, kind)(*sizes),
        prior=getattr(kv.priors, kind)(*sizes),
        likelihood=kv.likelihoods.Normal((4,)),
        objective=kv.objectives.ELBO(estimator="score_function"),
    )
    x = 2.0 * rng.normal(size=(6, 4))
    if kind == "Categorical":
        values = np.eye(3)[:, None, None]  # [Z, 1, D, K]
    else:
        values = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float64)[:, None]
    log_q = model.encode(x).log_prob(values).numpy()  # [Z, N]
    log_p = model.prior().log_prob(values[:, 0]).numpy()
    log_aggregate = special.logsumexp(log_q, axis=1) - np.log(6.0)
    parts = kv.evaluation.kl_decomposition(model, x, 3000)
    check(parts.marginal_kl, np.sum(np.exp(log_aggregate) * (log_aggregate - log_p)))
    information = np.sum(np.exp(log_q) * (log_q - log_aggregate[:, None]), axis=0).mean()
    assert information > 0.1
    check(parts.mutual_information, information)
    assert abs(parts.z_score) < 4.0


@pytest.mark.full
def test_under_flows_equal_data_tell_nothing_and_different_ones_less_than_log_n():
    model = kv.VAE(
        encoder=keras.layers.Dense(6),
        decoder=keras.layers.Dense(4),
        posterior=kv.posteriors.AutoregressiveFlow(2, num_flows=2, hidden_units=(8,)),
        likelihood=kv.likelihoods.Normal((4,)),
    )
    rng = np.random.default_rng(0)
    for weight in model.posterior_head.weights:
        weight.assign(weight + 0.1 * rng.normal(size=weight.shape))
    x = rng.normal(size=(4, 4))
    equal = kv.evaluation.kl_decomposition(model, np.repeat(x[:1], 4, axis=0), 50)
    # Rounding errors of the way back through the flow alone.
    np.testing.assert_allclose(equal.mutual_information.per_example, 0.0, atol=1e-9)
    parts = kv.evaluation.kl_decomposition(model, x, 100)
    assert 0.1 < parts.mutual_information.mean < math.log(4.0)
    assert math.isnan(parts.exact_mean_kl) and math.isnan(parts.z_score)
