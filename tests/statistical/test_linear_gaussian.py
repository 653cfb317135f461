"""Terms, bounds and gradients of a linear-Gaussian VAE, against closed forms."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import special, stats

import keras_vae as kv

tfd = tfp.distributions

EXACT = {"rtol": 1e-6, "atol": 1e-9}
NUM_SAMPLES = 20_000


def with_full_covariance(cases):
    truth = cases.truth()
    case = cases.with_decoder(truth, truth.sample(4), kv.posteriors.FullCovarianceNormal(2))
    tril = np.array([[0.6, 0.0], [-0.4, 0.9]])
    cases.set_posterior(case.model, 0.3 * truth.w, np.array([0.2, -0.1]), tril)
    return case


def exact_diagonal(cases):
    truth = cases.truth(orthogonal=True)
    return cases.exact(truth, truth.sample(6))


def exact_full_covariance(cases):
    truth = cases.truth()
    return cases.exact(truth, truth.sample(6), kv.posteriors.FullCovarianceNormal(2))


# The checks.


def check_densities(case):
    terms, z = case.terms(num_samples=7)
    np.testing.assert_allclose(terms.log_p_x, case.truth.log_p_x(case.x, z), **EXACT)
    np.testing.assert_allclose(terms.log_p_z, case.truth.log_p_z(z), **EXACT)
    np.testing.assert_allclose(terms.log_q, case.q().log_prob(z), **EXACT)


def check_kl(case):
    terms, _ = case.terms(num_samples=1)
    np.testing.assert_allclose(terms.kl, case.q().kl(), **EXACT)


def check_log_weights_are_the_evidence(case):
    log_w = case.model.log_weights(case.x, num_samples=9, seed=3).numpy()
    evidence = case.truth.log_evidence(case.x)
    np.testing.assert_allclose(log_w, np.broadcast_to(evidence, (9, len(case.x))), **EXACT)


def check_mean_log_weight_is_the_elbo(case):
    log_w = case.model.log_weights(case.x, num_samples=NUM_SAMPLES, seed=3).numpy()
    # 4 examples at 4 standard errors: fails with probability 4 * 6.3e-5 = 2.5e-4 for a new seed.
    error = log_w.mean(axis=0) - case.truth.elbo(case.x, case.q())
    assert np.all(np.abs(error) < 4.0 * log_w.std(axis=0) / np.sqrt(NUM_SAMPLES))


def check_importance_weighted(bound):
    log_w = np.random.default_rng(0).normal(-1500.0, 30.0, size=(5, 3))
    expected = special.logsumexp(log_w, axis=0, b=1.0 / 5.0)
    np.testing.assert_allclose(bound(tf.constant(log_w)), expected, **EXACT)


# Values.


def test_the_case_is_what_the_model_infers(cases):
    case = with_full_covariance(cases)
    q = case.model.encode(case.x)
    np.testing.assert_allclose(q.mean(), case.q().mean, **EXACT)
    np.testing.assert_allclose(q.covariance(), case.q().covariance, **EXACT)


def test_densities_at_samples_of_a_diagonal_posterior(generic):
    check_densities(generic)


def test_densities_at_samples_of_a_full_covariance_posterior(cases):
    check_densities(with_full_covariance(cases))


def test_densities_with_a_scale_per_dimension(cases):
    truth = cases.truth()
    likelihood = kv.likelihoods.Normal((5,), scale="per_dimension")
    case = cases.with_decoder(truth, truth.sample(4), likelihood=likelihood)
    likelihood.raw_scale.assign([-1.0, 0.0, 0.5, 1.0, 2.0])
    terms, z = case.terms(num_samples=7)
    np.testing.assert_allclose(terms.log_p_x, case.learned().log_p_x(case.x, z), **EXACT)


def test_kl_of_every_dimension(generic):
    assert generic.terms(1)[0].kl.shape == (4, 2)
    check_kl(generic)


def test_kl_of_a_full_covariance_posterior(cases):
    case = with_full_covariance(cases)
    assert case.terms(1)[0].kl.shape == (4, 1)
    check_kl(case)


def test_log_weights_combine_the_densities(generic):
    terms, _ = generic.terms(num_samples=7, seed=5)
    log_w = generic.model.log_weights(generic.x, num_samples=7, seed=5)
    np.testing.assert_allclose(log_w, terms.log_p_x + terms.log_p_z - terms.log_q, **EXACT)


def test_samples_come_from_the_posterior(generic):
    _, z = generic.terms(num_samples=NUM_SAMPLES)
    q = generic.q()
    scale = np.sqrt(np.diagonal(q.covariance, axis1=1, axis2=2))
    standardized = (z - q.mean) / scale  # [S, B, D]: 8 independent columns of N(0, 1)
    columns = standardized.reshape(NUM_SAMPLES, -1)
    # 8 tests at 1e-4 each: fails with probability 8e-4 for a new seed.
    assert all(stats.kstest(column, "norm").pvalue > 1e-4 for column in columns.T)
    # 28 correlations at 4 standard errors: 28 * 6.3e-5 = 1.8e-3.
    correlation = np.corrcoef(columns.T) - np.eye(columns.shape[1])
    assert np.abs(correlation).max() < 4.0 / np.sqrt(NUM_SAMPLES)


@pytest.mark.parametrize("make", [exact_diagonal, exact_full_covariance])
def test_every_log_weight_of_the_exact_posterior_is_the_evidence(cases, make):
    check_log_weights_are_the_evidence(make(cases))


@pytest.mark.parametrize("make", [exact_diagonal, exact_full_covariance])
def test_closed_form_elbo_of_the_exact_posterior_is_the_evidence(cases, make):
    case = make(cases)
    elbo = case.truth.elbo(case.x, case.q())
    np.testing.assert_allclose(elbo, case.truth.log_evidence(case.x), **EXACT)


def test_mean_log_weight_is_the_elbo(generic):
    check_mean_log_weight_is_the_elbo(generic)


def test_mean_log_weight_of_a_full_covariance_posterior_is_the_elbo(cases):
    check_mean_log_weight_is_the_elbo(with_full_covariance(cases))


def test_elbo_of_the_terms_is_the_elbo(generic):
    terms, _ = generic.terms(num_samples=NUM_SAMPLES)
    deviation = terms.log_p_x.std(axis=0) / np.sqrt(NUM_SAMPLES)
    # The KL is exact, so only log p(x|z) is sampled. 4 * 6.3e-5 = 2.5e-4 for a new seed.
    error = terms.elbo.numpy() - generic.truth.elbo(generic.x, generic.q())
    assert np.all(np.abs(error) < 4.0 * deviation)


def test_evaluate_reports_the_elbo_and_its_parts(cases):
    truth = cases.truth()
    objective = kv.objectives.ELBO(num_samples=NUM_SAMPLES)
    case = cases.with_decoder(truth, truth.sample(8), objective=objective)
    case.model.compile("sgd", run_eagerly=True)
    logs = case.model.evaluate(case.x, batch_size=4, verbose=0, return_dict=True)
    terms, _ = case.terms(NUM_SAMPLES)
    # 4 standard errors of a mean over 8 examples: 6.3e-5 for a new seed.
    tolerance = 4.0 * np.sqrt(np.mean(terms.log_p_x.var(axis=0)) / (8 * NUM_SAMPLES))
    # Keras keeps metrics and array data in float32.
    assert np.isclose(logs["kl"], case.q().kl().sum(axis=1).mean(), rtol=1e-5)
    reconstruction = -truth.expected_log_p_x(case.x, case.q()).mean()
    assert abs(logs["reconstruction"] - reconstruction) < tolerance
    assert abs(logs["elbo"] - truth.elbo(case.x, case.q()).mean()) < tolerance
    assert np.isclose(logs["loss"], -logs["elbo"], rtol=1e-5)
    assert np.isclose(logs["loss"], logs["reconstruction"] + logs["kl"], rtol=1e-5)


def test_importance_weighted_bound_is_the_log_of_the_mean_weight():
    check_importance_weighted(kv.bounds.importance_weighted)


def test_importance_weighted_bound_of_the_exact_posterior_is_the_evidence(cases):
    case = exact_full_covariance(cases)
    bound = kv.bounds.importance_weighted(case.model.log_weights(case.x, num_samples=11))
    np.testing.assert_allclose(bound, case.truth.log_evidence(case.x), **EXACT)


# Gradients.


def closed_form_loss(model, x):
    """Return the batch mean of -ELBO, written again with the model's variables, in closed form."""
    head, decoder = model.posterior_head, model.decoder
    features = x @ model.encoder.kernel + model.encoder.bias
    mean = features @ head.loc.kernel + head.loc.bias
    raw = features @ head.raw_scale.kernel + head.raw_scale.bias
    variance = tf.square(tf.math.softplus(raw) + 1e-4)
    noise = tf.square(
        tf.math.softplus(tf.convert_to_tensor(model.likelihood_head.raw_scale)) + 1e-4
    )
    squares = tf.square(x - mean @ decoder.kernel - decoder.bias)
    squares += variance @ tf.square(decoder.kernel)  # E_q of (W z)^2 around W m, for diagonal q
    reconstruction = 0.5 * tf.reduce_sum(squares / noise + tf.math.log(2.0 * np.pi * noise), axis=1)
    kl = 0.5 * tf.reduce_sum(variance + tf.square(mean) - 1.0 - tf.math.log(variance), axis=1)
    return tf.reduce_mean(reconstruction + kl)


def learned_scale_case(cases, **kwargs):
    truth = cases.truth()
    likelihood = kv.likelihoods.Normal((5,), scale="shared", initial_scale=0.5)
    return cases.with_decoder(truth, truth.sample(4), likelihood=likelihood, **kwargs)


def exact_gradients(case):
    x = tf.constant(case.x)
    return case.loss_and_gradient(lambda: closed_form_loss(case.model, x))[1].numpy()


def weights(case):
    return np.concatenate([np.ravel(weight) for weight in case.model.trainable_variables])


def test_the_oracle_of_gradients_is_the_negative_elbo(cases):
    case = learned_scale_case(cases)
    expected = -case.learned().elbo(case.x, case.q()).mean()
    np.testing.assert_allclose(closed_form_loss(case.model, tf.constant(case.x)), expected, **EXACT)


def test_gradients_of_all_weights_are_those_of_the_closed_form(cases):
    case = learned_scale_case(cases)
    _, draws = case.sampled(repeats=400, num_samples=100)
    error = draws.mean(axis=0) - exact_gradients(case)
    # P = 70 coordinates, t with 399 degrees of freedom: 70 * 7.6e-5 = 5e-3 for a new seed.
    assert draws.shape[1] == 70
    assert np.all(np.abs(error) < 4.0 * draws.std(axis=0, ddof=1) / np.sqrt(len(draws)))


def test_fit_steps_along_the_exact_gradient(cases):
    case = learned_scale_case(cases, objective=kv.objectives.ELBO(num_samples=NUM_SAMPLES))
    _, draws = case.sampled(repeats=100, num_samples=100)
    deviation = draws.std(axis=0, ddof=1)
    exact, before = exact_gradients(case), weights(case)
    case.model.compile(keras.optimizers.SGD(1e-3), run_eagerly=True)
    case.model.fit(case.x, batch_size=len(case.x), epochs=1, verbose=0)
    error = (before - weights(case)) / 1e-3 - exact
    # 70 coordinates, t with 99 degrees of freedom: 70 * 1.2e-4 = 9e-3 for a new seed. Keras gives
    # the data as float32, hence the second tolerance.
    tolerance = 4.0 * deviation * np.sqrt(100 / NUM_SAMPLES) + 1e-5 * (1.0 + np.abs(exact))
    assert np.all(np.abs(error) < tolerance)


def test_gradients_of_the_kl_are_exact(generic):
    model, x = generic.model, generic.x
    variables = [*model.encoder.weights, *model.posterior_head.weights]
    with tf.GradientTape() as tape:
        kl = tf.reduce_mean(model.compute_terms(tf.constant(x), seed=1).kl_total)
    gradients = tape.gradient(kl, variables)
    for gradient, expected in zip(gradients, kl_gradients(generic), strict=True):
        np.testing.assert_allclose(gradient, expected, **EXACT)


def kl_gradients(case):
    """Derive by hand: dKL/dm = m, dKL/ds = s - 1/s, ds/draw = sigmoid(raw), two linear maps."""
    head, x = case.model.posterior_head, case.x
    encoder, loc, raw_scale = (
        [weight.numpy() for weight in layer.weights]
        for layer in (case.model.encoder, head.loc, head.raw_scale)
    )
    features = x @ encoder[0] + encoder[1]
    raw = features @ raw_scale[0] + raw_scale[1]
    scale = np.log1p(np.exp(raw)) + 1e-4
    d_mean = (features @ loc[0] + loc[1]) / len(x)
    d_raw = (scale - 1.0 / scale) * special.expit(raw) / len(x)
    d_features = d_mean @ loc[0].T + d_raw @ raw_scale[0].T
    pairs = [(x, d_features), (features, d_mean), (features, d_raw)]
    return [g for inputs, d in pairs for g in (inputs.T @ d, d.sum(axis=0))]
