"""Posteriors fitted to single examples, against the exact ones of a linear-Gaussian VAE."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import keras_vae as kv

tfd = tfp.distributions
EXACT = {"rtol": 1e-6, "atol": 1e-9}
# Far from the start, 20 to 40 nats below the optimum.
THOROUGH = {"steps": 400, "learning_rate": 0.2, "num_samples": 32}


def wrong_case(cases, head=kv.posteriors.DiagonalNormal, count=6, **kwargs):
    """Return a case with the true decoder, and an encoder that knows nothing of it."""
    truth = cases.truth()
    return cases.with_decoder(truth, truth.sample(count), head(2), **kwargs)


def fit(case, x=None, **kwargs):
    return kv.evaluation.fit_posterior(case.model, case.x if x is None else x, **kwargs)


def moments(distribution):
    return distribution.mean().numpy(), distribution.covariance().numpy()


def fitted_q(case, result):
    """Return the fitted normals as the oracle takes them."""
    return type(case.q())(*moments(result.distribution))


# The optimum.


@pytest.mark.full
def test_a_diagonal_posterior_reaches_the_best_of_its_kind(cases):
    case = wrong_case(cases)
    result = fit(case, **THOROUGH)
    mean, covariance = moments(result.distribution)
    # The ELBO of these moments is within 0.02 nats of the highest.
    np.testing.assert_allclose(mean, case.truth.posterior(case.x)[0], atol=0.03)
    variances = np.diagonal(covariance, axis1=1, axis2=2)
    expected = np.broadcast_to(1.0 / np.diag(case.truth.precision), variances.shape)
    np.testing.assert_allclose(variances, expected, rtol=0.1)
    best = case.truth.log_evidence(case.x) - case.truth.mean_field_gap()
    reached = case.truth.elbo(case.x, fitted_q(case, result))
    assert np.all(reached <= best + 1e-9)
    np.testing.assert_allclose(reached, best, atol=0.01)


@pytest.mark.full
def test_a_full_covariance_reaches_the_exact_posterior_in_every_batch(cases):
    case = wrong_case(cases, kv.posteriors.FullCovarianceNormal)
    result = fit(case, **THOROUGH, batch_size=4)
    mean, covariance = case.truth.posterior(case.x)
    # Without noise at the optimum, what is left is the way there.
    fitted_mean, fitted_covariance = moments(result.distribution)
    np.testing.assert_allclose(fitted_mean, mean, atol=1e-3)
    np.testing.assert_allclose(fitted_covariance, [covariance] * len(case.x), atol=1e-3)
    np.testing.assert_allclose(result.elbo, case.truth.log_evidence(case.x), atol=1e-3)


@pytest.mark.full
def test_both_elbos_and_the_gap_are_those_of_the_distributions(cases):
    case = wrong_case(cases, count=400)
    result = fit(case, steps=60, learning_rate=0.2, batch_size=400, num_samples=4)
    before = case.truth.elbo(case.x, case.q())
    after = case.truth.elbo(case.x, fitted_q(case, result))
    for estimate, exact in [(result.initial_elbo, before), (result.elbo, after)]:
        error = estimate - exact
        # 4 standard errors: 6.3e-5 for a new seed, thrice.
        assert abs(error.mean()) < 4.0 * error.std() / np.sqrt(len(error))
    error = result.elbo - result.initial_elbo - (after - before)
    assert abs(error.mean()) < 4.0 * error.std() / np.sqrt(len(error))
    gaps = result.elbo - result.initial_elbo
    np.testing.assert_allclose(result.amortization_gap, gaps.mean(), **EXACT)
    np.testing.assert_allclose(result.standard_error, gaps.std(ddof=1) / 20.0, **EXACT)
    assert result.amortization_gap > 10.0


def test_nothing_is_left_to_gain_at_the_exact_posterior(cases):
    truth = cases.truth()
    case = cases.exact(truth, truth.sample(5), kv.posteriors.FullCovarianceNormal(2))
    result = fit(case)
    np.testing.assert_allclose(result.initial_elbo, truth.log_evidence(case.x), **EXACT)
    # There is no gradient, but rounding errors are blown up to steps, which then settle.
    assert abs(result.amortization_gap) < 1e-3


# Every example for itself.


@pytest.mark.full
def test_an_example_depends_on_the_seed_and_not_on_the_others(cases):
    case = wrong_case(cases)
    others = case.x.copy()
    others[1:] = 10.0 * others[:0:-1]
    one, two = fit(case, steps=10, seed=1), fit(case, others, steps=10, seed=1)
    for field in ("elbo", "initial_elbo"):
        assert getattr(one, field)[0] == getattr(two, field)[0]
        assert not np.any(getattr(one, field)[1:] == getattr(two, field)[1:])
    for a, b in zip(moments(one.distribution), moments(two.distribution), strict=True):
        assert np.array_equal(a[0], b[0])
    new = fit(case, steps=10, seed=2)
    assert not np.any(one.elbo == new.elbo) and not np.any(one.initial_elbo == new.initial_elbo)


@pytest.mark.full
def test_all_batches_share_a_trace_and_have_noise_of_their_own(cases, monkeypatch):
    case = wrong_case(cases, count=1)
    traced, right = [], case.model.terms_of
    monkeypatch.setattr(case.model, "terms_of", lambda *a, **k: traced.append(1) or right(*a, **k))
    result = fit(case, np.repeat(case.x, 5, axis=0), steps=3, batch_size=2)
    assert len(traced) <= 6  # the steps and two evaluations, each loop traced once or twice
    assert len(np.unique(result.elbo)) == 5 == len(np.unique(result.initial_elbo))


@pytest.mark.full
def test_eager_and_graph_agree_and_the_model_stays_as_it_is(cases, monkeypatch):
    case = wrong_case(cases, count=2)
    case.model.compile("adam", run_eagerly=True)
    case.model.fit(case.x, epochs=1, verbose=0)
    optimizer, function = case.model.optimizer, case.model.train_function
    variables = [*case.model.variables, *optimizer.variables]
    before = [variable.numpy() for variable in variables]
    in_graph = fit(case, steps=3, evaluation_samples=8)
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.path)
    assert case.model.optimizer is optimizer and case.model.train_function is function
    monkeypatch.setattr(tf, "function", lambda f, **_: Eager(f))
    eager = fit(case, steps=3, evaluation_samples=8)
    np.testing.assert_allclose(eager.elbo, in_graph.elbo, rtol=1e-12)


class Eager:
    """What `tf.function` returns, without its graph."""

    def __init__(self, function):
        self.function = function

    def get_concrete_function(self, *_):
        return self.function


# Other posteriors, conditions and precisions.


@pytest.mark.full
def test_a_conditional_flow_improves_in_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = kv.ConditionalVAE(
        condition=3,
        encoder=kv.networks.MLPEncoder((8,)),
        decoder=kv.networks.MLPDecoder((4, 4, 1), (8,)),
        posterior=kv.posteriors.AutoregressiveFlow(2, num_flows=1, hidden_units=(6,)),
        likelihood=kv.likelihoods.Bernoulli((4, 4, 1)),
    )
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 2, (5, 4, 4, 1)), np.array([0, 1, 2, 2, 0])
    result = kv.evaluation.fit_posterior(
        model, x, y=y, steps=40, batch_size=3, evaluation_samples=64
    )
    assert result.distribution.batch_shape == (5,) and result.distribution.dtype == tf.float32
    assert result.elbo.dtype == np.float64
    # The first ELBOs lie some 0.3 nats below the last.
    assert result.amortization_gap > 4.0 * result.standard_error


# Draws that training relaxes take the score function all the same.
def test_a_discrete_posterior_reaches_the_enumerated_evidence():
    rng = np.random.default_rng(0)
    model = kv.VAE(
        encoder=keras.layers.Dense(6),
        decoder=keras.layers.Dense(4),
        posterior=kv.posteriors.Categorical(1, 3, temperature=0.5),
        prior=kv.priors.Categorical(1, 3),
        likelihood=kv.likelihoods.Normal((4,)),
    )
    model.decoder.set_weights([rng.normal(size=weight.shape) for weight in model.decoder.weights])
    x = rng.normal(size=(6, 4))
    log_p_x = model.decode(np.eye(3)[:, None, None, :]).log_prob(x).numpy()  # [3, B]
    evidence = np.log(np.mean(np.exp(log_p_x), axis=0))
    result = kv.evaluation.fit_posterior(model, x, learning_rate=0.2)
    assert np.all(result.initial_elbo < evidence - 0.3)
    # Logits that saturate take longest.
    np.testing.assert_allclose(result.elbo, evidence, atol=0.05)
    posterior = np.exp(log_p_x - evidence).T / 3.0
    fitted = tf.nn.softmax(result.distribution.distribution.logits)[:, 0]
    np.testing.assert_allclose(fitted, posterior, atol=0.03)


@pytest.fixture
def refused(cases):
    """Return a function that checks the error of a fit."""
    case = wrong_case(cases, count=2)

    def check(*words, x=None, **kwargs):
        with pytest.raises(ValueError) as error:
            fit(case, x, **kwargs)
        assert all(word in str(error.value) for word in words), error.value

    return check


def test_numbers_out_of_range_are_refused(refused):
    for argument, value in [
        ("steps", 0),
        ("steps", 1.5),
        ("learning_rate", 0.0),
        ("learning_rate", -0.1),
        ("learning_rate", float("nan")),
        ("num_samples", 0),
        ("evaluation_samples", 0),
        ("batch_size", 0),
        ("seed", -1),
    ]:
        refused(f"`{argument}`", "must be", "Received", **{argument: value})


def test_data_without_a_density_are_refused(refused):
    refused("`x`", "at least one example", x=np.zeros((0, 5)))
    refused("`x`", "must be", x=np.array([[0.0, np.nan, 0.0, 0.0, 0.0]]))
    refused("`x`", "must have shape", x=np.zeros((2, 4)))


class OnlyCall(kv.posteriors.Posterior):
    """A head without parameters of its own."""

    def build(self, features_shape):
        self.built = True

    def call(self, features, training=False):
        loc = self.to_density(features)[:, : self.latent_dim]
        return tfd.MultivariateNormalDiag(loc, tf.ones_like(loc))


def test_a_head_without_parameters_and_a_model_without_a_head_are_refused(cases):
    case = wrong_case(cases, OnlyCall)
    with pytest.raises(ValueError, match="`model` must have a posterior .*OnlyCall"):
        fit(case)
    with pytest.raises(ValueError, match="`model` must be a VAE"):
        kv.evaluation.fit_posterior(keras.Sequential(), case.x)
