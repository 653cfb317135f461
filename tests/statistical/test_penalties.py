"""Penalties on the rate and on the aggregate posterior: values and gradients with known answers."""

import itertools
import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import keras_vae as kv
from keras_vae import penalties
from keras_vae.terms import Draws, Path
from tests.small_models import SHAPE, make_vae

tfd = tfp.distributions

EXACT = {"rtol": 1e-6, "atol": 1e-9}
RNG = np.random.default_rng(0)
MEANS = RNG.normal(size=(6, 3))  # B = 6, D = 3
SCALES = RNG.uniform(0.3, 1.2, size=(6, 3))
Z = MEANS + SCALES * RNG.normal(size=(2, 6, 3))  # S = 2
LOG_P_X = RNG.normal(-4.0, 1.0, size=(2, 6))


def terms(means=MEANS, scales=SCALES, z=Z, q=None, p_z=None, log_p_x=None):
    """Return the terms of posteriors N(means, scales^2) at given samples z."""
    q = q or tfd.MultivariateNormalDiag(tf.constant(means), tf.constant(scales))
    p_z = p_z or tfd.MultivariateNormalDiag(tf.zeros(means.shape[1], tf.float64))
    z = tf.convert_to_tensor(z)
    log_p_x = tf.zeros(z.shape[:2], tf.float64) if log_p_x is None else tf.constant(log_p_x)
    log_q, log_p_z = q.log_prob(z), p_z.log_prob(z)
    kl = tf.reduce_mean(log_q - log_p_z, axis=0)[:, None]
    seed = tf.constant([1, 2])
    draws = Draws(None, z, q, p_z, None, lambda z: None, Path(), seed, kl_is_exact=False)
    return kv.Terms(log_p_x, log_p_z, log_q, kl, draws)


def objective(name, *args, **kwargs):
    return getattr(kv.objectives, name)(*args, dtype="float64", **kwargs)


def log_normal(z, mean, scale):
    return -0.5 * ((z - mean) / scale) ** 2 - np.log(scale) - 0.5 * math.log(2.0 * math.pi)


def log_sum(values, axis):
    return np.logaddexp.reduce(values, axis=axis)


# Total correlation.


def aggregate_by_hand():
    """Return log q(z) [S, B] and log q(z_d) [S, B, D] of the mixture of all posteriors."""
    pairs = log_normal(Z[:, :, None], MEANS, SCALES)  # [S, B, B, D]
    log_size = math.log(len(MEANS))
    return log_sum(pairs.sum(axis=-1), 2) - log_size, log_sum(pairs, 2) - log_size


@pytest.mark.parametrize(("sampling", "shift"), [("stratified", 0.0), ("weighted", math.log(6.0))])
def test_whole_data_give_the_exact_aggregate(sampling, shift):
    # By definition, the weighted estimate of q(z) is N times too small where the batch is the data.
    found = objective("BetaTC", 6, sampling=sampling, num_samples=2)._log_aggregate(terms())
    for mine, exact in zip(found, aggregate_by_hand(), strict=True):
        np.testing.assert_allclose(mine, exact - shift, **EXACT)


def test_loss_and_parts_are_the_formula():
    tc = objective("BetaTC", 6, 0.5, 6.0, 2.0, sampling="stratified", num_samples=2)
    given = terms(log_p_x=LOG_P_X)
    loss, parts = tc.loss_and_measures(given)
    joint, marginals = aggregate_by_hand()
    log_q = log_normal(Z, MEANS, SCALES).sum(axis=-1)
    log_p_z = log_normal(Z, 0.0, 1.0).sum(axis=-1)
    product = marginals.sum(axis=-1)
    expected = [log_q - joint, joint - product, product - log_p_z]
    for mine, exact in zip(parts.values(), expected, strict=True):
        np.testing.assert_allclose(mine, exact.mean(axis=0), **EXACT)
    rate = 0.5 * expected[0] + 6.0 * expected[1] + 2.0 * expected[2]
    np.testing.assert_allclose(loss, (rate - LOG_P_X).mean(axis=0), **EXACT)


@pytest.mark.parametrize("sampling", penalties.SAMPLINGS)
def test_parts_add_up_to_the_sampled_kl(sampling):
    tc = objective("BetaTC", 50, 1.0, 1.0, 1.0, sampling=sampling, num_samples=2)
    given = terms(log_p_x=LOG_P_X)
    loss, parts = tc.loss_and_measures(given)
    np.testing.assert_allclose(sum(parts.values()), given.kl_total, **EXACT)
    np.testing.assert_allclose(loss, -given.elbo, **EXACT)


def test_stratified_weights_make_an_unbiased_aggregate():
    # Over all batches of 3 of 6 data that hold x_0, the mean of the estimates of q(z_0) is exact.
    densities = np.exp(log_normal(Z[0, 0], MEANS, SCALES).sum(axis=-1))  # [6]
    own = tf.eye(3, dtype=tf.float64) > 0.0
    weights = np.exp(penalties.log_sampling_weights(own, 6, "stratified", tf.float64)[0])
    estimates = [
        weights @ densities[[0, *others]] for others in itertools.combinations(range(1, 6), 2)
    ]
    np.testing.assert_allclose(np.mean(estimates), densities.mean(), **EXACT)
    np.testing.assert_allclose(weights.sum(), 1.0, **EXACT)


def gaussian_aggregate(correlation, size=1500):
    """Return terms of narrow posteriors whose mixture is nearly N(0, [[1, c], [c, 1]])."""
    rng = np.random.default_rng(3)
    spread = 0.35
    inner = np.array([[1.0, correlation], [correlation, 1.0]]) - spread**2 * np.eye(2)
    means = rng.normal(size=(size, 2)) @ np.linalg.cholesky(inner).T
    z = means + spread * rng.normal(size=(1, size, 2))
    return terms(means, np.full((size, 2), spread), z)


@pytest.mark.parametrize(("correlation", "atol"), [(0.0, 0.015), (0.8, 0.085)])
def test_total_correlation_of_a_gaussian_aggregate(correlation, atol):
    # TC = -1/2 log det(correlation), here 0 and 0.51. 4 standard errors over the examples, 0.0024
    # and 0.021 (a false alarm: 6e-5), and for the roughness of a mixture of 1500, 0.005.
    parts = objective("BetaTC", 1500, sampling="stratified").loss_and_measures(
        gaussian_aggregate(correlation)
    )[1]
    found = np.mean(parts["total_correlation"])
    exact = -0.5 * math.log(1.0 - correlation**2)
    np.testing.assert_allclose(found, exact, atol=atol)


def test_gradients_of_total_correlation_are_those_of_the_formula():
    noise = (Z - MEANS) / SCALES

    def value(means):
        z = means + SCALES * noise
        return objective("BetaTC", 20, 0.5, 6.0, 2.0, num_samples=2).loss(terms(means, z=z))

    means = tf.Variable(MEANS)
    with tf.GradientTape() as tape:
        q = tfd.MultivariateNormalDiag(means, SCALES)
        z = means + SCALES * noise
        tc = objective("BetaTC", 20, 0.5, 6.0, 2.0, num_samples=2)
        loss = tf.reduce_sum(tc.loss(terms(q=q, z=z)))
    gradient = tape.gradient(loss, means).numpy()
    for index in [(0, 0), (3, 1), (5, 2)]:
        step = np.zeros_like(MEANS)
        step[index] = 1e-6
        slope = (np.sum(value(MEANS + step)) - np.sum(value(MEANS - step))) / 2e-6
        np.testing.assert_allclose(gradient[index], slope, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": tfd.MultivariateNormalTriL(MEANS, np.broadcast_to(np.eye(3), (6, 3, 3)))}, "post"),
        ({"p_z": tfd.MultivariateNormalTriL(np.zeros(3), np.eye(3))}, "prior"),
    ],
    ids=["posterior", "prior"],
)
def test_total_correlation_needs_dimensions_that_factorize(change, message):
    with pytest.raises(ValueError, match=rf"`{message}.*must factorize over dimensions"):
        objective("BetaTC", 6, num_samples=2).loss(terms(**change))


def test_a_batch_of_one_is_finite():
    one = terms(MEANS[:1], SCALES[:1], Z[:, :1])
    for given in (
        objective("BetaTC", 6, sampling="stratified", num_samples=2),
        objective("InfoVAE", 0.0, 10.0, num_samples=2),
        objective("DIP", 1.0, 1.0, num_samples=2),
    ):
        assert np.isfinite(given.loss(one)).all()


# Covariances.


def covariance_by_hand(kind):
    covariance = np.cov(MEANS.T, bias=True)
    return covariance + np.diag(np.mean(SCALES**2, axis=0)) if kind == "ii" else covariance


@pytest.mark.parametrize("kind", ["i", "ii"])
def test_covariance_penalty_is_the_formula(kind):
    dip = objective("DIP", 3.0, 5.0, kind, num_samples=2)
    elbo = objective("ELBO", num_samples=2)
    given = terms(log_p_x=LOG_P_X)
    loss, measures = dip.loss_and_measures(given)
    covariance = covariance_by_hand(kind)
    off = np.sum((covariance - np.diag(np.diag(covariance))) ** 2)
    on = np.sum((np.diag(covariance) - 1.0) ** 2)
    np.testing.assert_allclose(loss - elbo.loss(given), np.full(6, 3.0 * off + 5.0 * on), **EXACT)
    np.testing.assert_allclose(measures["off_diagonal"], np.full(6, off), **EXACT)
    np.testing.assert_allclose(measures["diagonal"], np.full(6, on), **EXACT)
    # Within a constraint, the penalty is a part of the rate.
    rate, _ = dip.rate_and_expectations(given, [])
    np.testing.assert_allclose(rate, given.kl_total + 3.0 * off + 5.0 * on, **EXACT)


@pytest.mark.parametrize("kind", ["i", "ii"])
def test_gradient_of_the_covariance_penalty_is_the_formula(kind):
    # d/dmu_i = 2/B W (mu_i - mean),  d/dsigma_id = 2/B W_dd sigma_id,  W the slope in Cov
    means, scales = tf.Variable(MEANS), tf.Variable(SCALES)
    dip = objective("DIP", 3.0, 5.0, kind, beta=0.0, num_samples=2)
    with tf.GradientTape() as tape:
        given = terms(q=tfd.MultivariateNormalDiag(means, scales))
        loss = tf.reduce_mean(dip.loss(given))
    found = tape.gradient(loss, [means, scales], unconnected_gradients="zero")
    covariance = covariance_by_hand(kind)
    diagonal = np.diag(np.diag(covariance))
    slope = 2.0 * (3.0 * (covariance - diagonal) + 5.0 * (diagonal - np.eye(3)))
    np.testing.assert_allclose(found[0], (MEANS - MEANS.mean(axis=0)) @ slope * 2.0 / 6.0, **EXACT)
    by_scale = np.diag(slope) * SCALES * 2.0 / 6.0 if kind == "ii" else np.zeros((6, 3))
    np.testing.assert_allclose(found[1], by_scale, **EXACT)


def test_full_covariances_enter_whole():
    tril = np.tril(RNG.normal(size=(6, 3, 3)))
    q = tfd.MultivariateNormalTriL(MEANS, tril)
    _, measures = objective("DIP", 1.0, 1.0, "ii", num_samples=2).loss_and_measures(terms(q=q))
    covariance = np.cov(MEANS.T, bias=True) + np.mean(tril @ np.swapaxes(tril, 1, 2), axis=0)
    off = np.sum(covariance**2) - np.sum(np.diag(covariance) ** 2)
    np.testing.assert_allclose(measures["off_diagonal"], np.full(6, off), **EXACT)


def test_a_posterior_without_moments_is_refused():
    flow = tfd.TransformedDistribution(
        tfd.MultivariateNormalDiag(MEANS, SCALES), tfp.bijectors.Tanh()
    )
    inside = np.tanh(Z)
    with pytest.raises(ValueError, match="`posterior` must have a mean and a covariance"):
        objective("DIP", 1.0, 1.0, num_samples=2).loss(terms(q=flow, z=inside))


@pytest.mark.parametrize("kind", ["i", "ii"])
def test_moments_of_one_hot_z_are_refused(kind):
    model = make_vae(
        posterior=kv.posteriors.Categorical(2, 3, temperature=0.5),
        prior=kv.priors.Categorical(2, 3),
        objective=kv.objectives.DIP(1.0, 1.0, kind),
    )
    with pytest.raises(ValueError, match="`posterior` must have a vector as z for DIP"):
        model.objective.loss(model.compute_terms(tf.zeros([6, *SHAPE], tf.float64)))


# Maximum mean discrepancy.


def rbf_between_normals(m1, s1, m2, s2, h):
    """Return E[k(x, y)] for x ~ N(m1, s1^2 I), y ~ N(m2, s2^2 I)."""
    variance = h**2 + s1**2 + s2**2
    return np.prod(np.sqrt(h**2 / variance) * np.exp(-((m1 - m2) ** 2) / (2.0 * variance)))


def mmd_of_normals(kernel, shift, scale, bandwidth, repeats=400, size=30):
    """Return the mean of repeated estimates for N(0, I) and N(shift, scale^2 I), and its error."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(repeats, size, 2))
    y = np.array(shift) + scale * rng.normal(size=(repeats, size + 5, 2))
    found = penalties.mmd(tf.constant(x), tf.constant(y), kernel, bandwidth).numpy()
    return found.mean(), found.std() / math.sqrt(repeats)


def test_mmd_of_normals_is_the_closed_form():
    # 4 standard errors: a false alarm with probability 6e-5.
    shift, scale, h = np.array([0.5, -1.0]), 0.6, 0.8
    found, error = mmd_of_normals("rbf", shift, scale, h)
    zero = np.zeros(2)
    exact = (
        rbf_between_normals(zero, 1.0, zero, 1.0, h)
        + rbf_between_normals(shift, scale, shift, scale, h)
        - 2.0 * rbf_between_normals(zero, 1.0, shift, scale, h)
    )
    assert abs(found - exact) < 4.0 * error
    assert exact > 20.0 * error  # So a wrong sign, or a lost factor, is far away.


@pytest.mark.parametrize("kernel", penalties.KERNELS)
def test_mmd_of_equal_distributions_is_zero_in_the_mean(kernel):
    # 4 standard errors: 6e-5 each. With the diagonal (a V-statistic) it would be 2/N too large.
    found, error = mmd_of_normals(kernel, [0.0, 0.0], 1.0, 1.0)
    assert abs(found) < 4.0 * error
    assert error < 0.003


def test_mmd_by_hand():
    x, y = np.array([[0.0], [1.0]]), np.array([[2.0], [2.0], [4.0]])

    def imq(distance):
        return 8.0 / (8.0 + distance**2)

    within_y = (imq(0.0) + 2.0 * imq(2.0)) / 3.0
    between = (2.0 * imq(2.0) + imq(4.0) + 2.0 * imq(1.0) + imq(3.0)) / 6.0
    found = penalties.mmd(tf.constant(x), tf.constant(y), "imq", bandwidth=2.0)
    np.testing.assert_allclose(found, imq(1.0) + within_y - 2.0 * between, **EXACT)


def test_info_vae_is_the_formula():
    info = objective("InfoVAE", -0.5, 10.0, num_samples=2, bandwidth=0.7)
    given = terms(log_p_x=LOG_P_X)
    loss, measures = info.loss_and_measures(given)
    prior = given.draws.p_z.sample([2, 6], seed=given.draws.seed)
    mmd = np.mean([penalties.mmd(Z[s], prior[s], "rbf", 0.7) for s in range(2)])
    np.testing.assert_allclose(measures["mmd"], np.full(6, mmd), **EXACT)
    expected = -LOG_P_X.mean(axis=0) + 1.5 * given.kl_total + 8.5 * mmd
    np.testing.assert_allclose(loss, expected, **EXACT)


def test_info_vae_of_conditional_priors_draws_one_for_each_example():
    p_z = tfd.MultivariateNormalDiag(MEANS + 1.0, SCALES)
    given = terms(p_z=p_z)
    _, measures = objective("InfoVAE", 0.0, 1.0, num_samples=2).loss_and_measures(given)
    prior = p_z.sample(2, seed=given.draws.seed)
    mmd = np.mean([penalties.mmd(Z[s], prior[s], "rbf", 3.0**0.5) for s in range(2)])
    np.testing.assert_allclose(measures["mmd"], np.full(6, mmd), **EXACT)


def test_the_mmd_draws_z_to_the_prior():
    z = tf.Variable(Z + 2.0)
    with tf.GradientTape() as tape:
        mmd = objective("InfoVAE", 1.0, 1.0, num_samples=2).loss_and_measures(terms(z=z))[1]["mmd"]
    gradient = tape.gradient(mmd, z)
    assert (tf.reduce_mean(gradient, axis=[0, 1]).numpy() > 0.0).all()


def test_info_vae_of_zero_and_one_is_the_elbo():
    given = terms(log_p_x=LOG_P_X)
    loss = objective("InfoVAE", 0.0, 1.0, num_samples=2).loss(given)
    np.testing.assert_allclose(loss, -given.elbo, **EXACT)


# Capacity.


def with_kl(kl):
    zeros = tf.zeros([1, len(kl)], tf.float64)
    return kv.Terms(log_p_x=zeros - 7.0, log_p_z=zeros, log_q=zeros, kl=kl)


@pytest.mark.parametrize(("capacity", "sign"), [(2.0, 1.0), (3.5, 0.0), (9.0, -1.0)])
def test_capacity_is_the_formula_with_its_gradient(capacity, sign):
    # KLs on both sides of C: it is the mean, 3.5, that counts.
    kl = tf.constant([[1.0, 2.0], [3.0, 1.0]], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(kl)
        loss = tf.reduce_mean(objective("Capacity", capacity, 10.0).loss(with_kl(kl)))
    np.testing.assert_allclose(loss, 7.0 + 10.0 * abs(3.5 - capacity), **EXACT)
    np.testing.assert_allclose(tape.gradient(loss, kl), np.full((2, 2), sign * 5.0), **EXACT)


# Arguments.


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("BetaTC", {"dataset_size": 0}, "`dataset_size` must be an integer >= 1"),
        ("BetaTC", {"dataset_size": 9, "alpha": -1.0}, "`alpha` must be .* >= 0"),
        ("BetaTC", {"dataset_size": 9, "beta": -1.0}, "`beta` must be .* >= 0"),
        ("BetaTC", {"dataset_size": 9, "sampling": "no"}, "`sampling` must be one of"),
        ("DIP", {"lambda_od": -1.0, "lambda_d": 1.0}, "`lambda_od` must be .* >= 0"),
        ("DIP", {"lambda_od": 1.0, "lambda_d": -1.0}, "`lambda_d` must be .* >= 0"),
        ("DIP", {"lambda_od": 1.0, "lambda_d": 1.0, "kind": "iii"}, "`kind` must be one of"),
        ("InfoVAE", {"alpha": 1.5, "lambda_": 1.0}, "`alpha` must be .* <= 1"),
        ("InfoVAE", {"alpha": 0.0, "lambda_": 0.5}, "`lambda_` must be >= 1 - alpha"),
        ("InfoVAE", {"alpha": 0.0, "lambda_": 2.0, "kernel": "no"}, "`kernel` must be one of"),
        ("InfoVAE", {"alpha": 0.0, "lambda_": 2.0, "bandwidth": 0.0}, "`bandwidth` must be"),
        (
            "InfoVAE",
            {"alpha": 0.0, "lambda_": 2.0, "estimator": "score_function"},
            "`estimator` must be one of",
        ),
        ("Capacity", {"capacity": -1.0}, "`capacity` must be .* >= 0"),
        ("Capacity", {"capacity": 1.0, "gamma": -1.0}, "`gamma` must be .* >= 0"),
        ("TargetKL", {"target": 0.0}, "`target` must be .* > 0"),
        ("TargetKL", {"target": 1.0, "beta": -1.0}, "`beta` must be .* >= 0"),
    ],
)
def test_bad_arguments_are_refused(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        objective(name, **arguments)


def test_a_single_point_says_nothing_of_a_distribution():
    one, two = tf.constant([[0.3, 0.1]]), tf.constant([[0.31, 0.1], [0.2, 0.0]])
    for pair in [(one, one + 0.01), (one, two), (two, one)]:
        assert float(penalties.mmd(*pair, "imq", 1.0)) == 0.0
