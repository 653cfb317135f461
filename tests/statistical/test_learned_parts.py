"""Learned parts get gradients, and reach by training what theory says that they must.

Margins are stated in advance: half of what the theory promises, or a gap in nats that is small
beside the effect. Every model is trained by `fit`, on a few hundred points of five pixels.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import special, stats
from sklearn import decomposition

import keras_vae as kv

COUNT = 400


def train(model, x, steps, learning_rate=0.03):
    """Train with Adam on the whole data set, the learning rate decaying to zero."""
    decay = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    model.compile(keras.optimizers.Adam(decay), jit_compile=False, steps_per_execution=50)
    model.fit(tf.data.Dataset.from_tensors(x).repeat(steps), epochs=1, verbose=0)


def gradients(case, variables, num_samples=4):
    """Return the terms and the gradients of the mean loss, at the same noise."""
    with tf.GradientTape() as tape:
        terms = case.model.compute_terms(tf.constant(case.x), num_samples, training=True, seed=1)
        loss = tf.reduce_mean(case.model.objective.loss(terms))
    return terms, tape.gradient(loss, variables)


def numerical_gradient(function, value, step=1e-5):
    gradient = np.zeros_like(value)
    for index in np.ndindex(value.shape):
        change = np.zeros_like(value)
        change[index] = step
        gradient[index] = (function(value + change) - function(value - change)) / (2.0 * step)
    return gradient


def principal_components(x, latent_dim):
    """Return the maximum of the likelihood of pPCA (Tipping & Bishop, 1999, eq. 7 and 8).

    Returns:
        Noise variance, and mean log p(x).
    """
    eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(x.T, bias=True)))
    noise = eigenvalues[:-latent_dim].mean()
    fitted = np.concatenate([np.full(len(eigenvalues) - latent_dim, noise), eigenvalues])
    log_det = np.log(fitted[: len(eigenvalues) - latent_dim]).sum()
    log_det += np.log(eigenvalues[-latent_dim:]).sum()
    dims = len(eigenvalues)
    return noise, -0.5 * (dims * np.log(2.0 * np.pi) + log_det + dims)


# The scale of the likelihood.


@pytest.mark.full
def test_a_shared_scale_reaches_the_maximum_likelihood_of_principal_components(cases):
    truth = cases.truth(noise=0.5)
    x = truth.sample(COUNT)
    likelihood = kv.likelihoods.Normal((5,), scale="shared", initial_scale=2.0)
    case = cases.untrained(
        truth, x, likelihood=likelihood, objective=kv.objectives.ELBO(num_samples=4)
    )
    train(case.model, x, steps=1500)
    noise, best = principal_components(x, latent_dim=2)
    learned = case.learned()
    # At its best the ELBO of a linear VAE with diagonal q is the likelihood of pPCA (Lucas et al.,
    # 2019): the decoder turns its columns until they are orthogonal.
    np.testing.assert_allclose(np.square(learned.s), noise, rtol=0.02)
    assert best - 0.02 < learned.log_evidence(x).mean() < best + 1e-9
    assert best - 0.04 < learned.elbo(x, case.q()).mean() < best + 1e-9


@pytest.mark.full
def test_a_scale_per_dimension_reaches_the_maximum_likelihood_of_factor_analysis(cases):
    truth = cases.truth(latent_dim=1, noise=[0.3, 0.5, 0.7, 0.9, 1.1])
    x = truth.sample(COUNT)
    likelihood = kv.likelihoods.Normal((5,), scale="per_dimension")
    case = cases.untrained(
        truth, x, likelihood=likelihood, objective=kv.objectives.ELBO(num_samples=4)
    )
    train(case.model, x, steps=1500)
    oracle = decomposition.FactorAnalysis(1, tol=1e-10, max_iter=20_000).fit(x)
    learned, best = case.learned(), oracle.score(x)
    assert best - 0.02 < learned.log_evidence(x).mean() < best + 1e-6
    assert best > principal_components(x, latent_dim=1)[1] + 0.1  # one scale could not do it
    np.testing.assert_allclose(learned.s, np.sqrt(oracle.noise_variance_), atol=0.05)


# The prior.


def two_clusters(cases):
    """Return data of two clusters, four standard deviations from their middle, and its log p(x)."""
    truth = cases.truth(orthogonal=True, noise=0.3)
    rng = np.random.default_rng(1)
    centers = np.array([[4.0, 2.0], [-4.0, -2.0]])
    z = centers[rng.integers(2, size=COUNT)] + rng.normal(size=(COUNT, 2))
    x = z @ truth.w.T + rng.normal(size=(COUNT, 5)) * truth.s
    covariance = truth.w @ truth.w.T + np.diag(truth.noise)
    parts = [stats.multivariate_normal(truth.w @ c, covariance).logpdf(x) for c in centers]
    return truth, x, special.logsumexp(parts, axis=0, b=0.5).mean()


PRIORS = {
    "flow": lambda: kv.priors.AutoregressiveFlow(2, num_flows=2, hidden_units=(32,)),
    "VampPrior": lambda: kv.priors.VampPrior(2, num_pseudo_inputs=24, activation="linear"),
}


@pytest.mark.full
@pytest.mark.parametrize("name", PRIORS)
def test_a_learned_prior_beats_every_standard_normal_on_two_clusters(cases, name):
    truth, x, exact = two_clusters(cases)
    # With a standard normal prior no linear decoder does better than pPCA. Half of what the true
    # mixture gains on it must be won, by the ELBO, which is below the log-likelihood.
    best_of_standard_normal = principal_components(x, latent_dim=2)[1]
    assert exact - best_of_standard_normal > 0.7
    likelihood = kv.likelihoods.Normal((5,), scale="shared")
    case = cases.untrained(truth, x, likelihood=likelihood, prior=PRIORS[name]())
    train(case.model, x, steps=1000)
    log_w = case.model.log_weights(x, num_samples=50, seed=2).numpy()
    elbo, error = log_w.mean(), log_w.mean(axis=1).std() / np.sqrt(len(log_w))
    assert elbo - 4.0 * error > (exact + best_of_standard_normal) / 2.0
    assert elbo - 4.0 * error < exact + 0.1  # nor is there more to win, but by overfitting


def test_gradients_of_a_mixture_prior_are_those_of_its_density(cases):
    truth = cases.truth()
    prior = kv.priors.MixtureOfNormals(2, num_components=3)
    case = cases.with_decoder(truth, truth.sample(4), prior=prior)
    prior.logits.assign([0.5, -0.5, 0.0])
    terms, computed = gradients(case, [prior.logits, prior.locs, prior.raw_scales])
    z = case.model.decoder.seen.numpy().reshape(4, 4, 2)
    values = [weight.numpy() for weight in (prior.logits, prior.locs, prior.raw_scales)]

    def log_p_z(logits, locs, raw_scales):
        scales = np.log1p(np.exp(raw_scales)) + 1e-4
        parts = stats.norm.logpdf(z[..., None, :], locs, scales).sum(axis=-1)
        return special.logsumexp(parts + special.log_softmax(logits), axis=-1)

    np.testing.assert_allclose(terms.log_p_z, log_p_z(*values), rtol=1e-6)
    for number, gradient in enumerate(computed):
        expected = numerical_gradient(
            lambda value, number=number: (
                -log_p_z(*values[:number], value, *values[number + 1 :]).mean()
            ),
            values[number],
        )
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("activation", ["linear", "sigmoid"])
def test_gradients_of_pseudo_inputs_are_those_of_the_mixture_of_posteriors(cases, activation):
    truth = cases.truth()
    prior = kv.priors.VampPrior(2, num_pseudo_inputs=3, activation=activation)
    case = cases.with_decoder(truth, truth.sample(4), prior=prior)
    terms, (computed,) = gradients(case, [prior.raw_pseudo_inputs])
    z = case.model.decoder.seen.numpy().reshape(4, 4, 2)

    def log_p_z(raw):
        mean, covariance = case.q(special.expit(raw) if activation == "sigmoid" else raw)
        scale = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
        parts = stats.norm.logpdf(z[..., None, :], mean, scale).sum(axis=-1)
        return special.logsumexp(parts, axis=-1, b=1.0 / 3.0)

    raw = prior.raw_pseudo_inputs.numpy()
    np.testing.assert_allclose(terms.log_p_z, log_p_z(raw), rtol=1e-6)
    expected = numerical_gradient(lambda value: -log_p_z(value).mean(), raw)
    np.testing.assert_allclose(computed, expected, rtol=1e-6, atol=1e-8)


def flow_prior():
    return {"prior": kv.priors.AutoregressiveFlow(2, hidden_units=(8,))}


def flow_posterior():
    return {"posterior": kv.posteriors.AutoregressiveFlow(2, hidden_units=(8,))}


@pytest.mark.parametrize("make", [flow_prior, flow_posterior])
def test_every_weight_of_a_flow_gets_a_gradient(cases, make):
    truth = cases.truth()
    case = cases.untrained(truth, truth.sample(50), **make())
    rng = np.random.default_rng(0)
    heads = (case.model.prior_head, case.model.posterior_head)
    (head,) = (head for head in heads if hasattr(head, "num_flows"))
    for weight in head.trainable_weights:
        weight.assign(weight.numpy() + rng.normal(0.0, 0.3, weight.shape))
    _, computed = gradients(case, head.trainable_weights)
    assert len(head.trainable_weights) >= 12
    assert all(np.any(gradient != 0.0) for gradient in computed)


def test_samples_and_densities_of_a_flow_posterior_belong_together(cases):
    truth = cases.truth()
    posterior = kv.posteriors.AutoregressiveFlow(2, hidden_units=(16,), activation="tanh")
    case = cases.untrained(truth, truth.sample(1), posterior)
    case.model.decoder.set_weights([truth.w.T, truth.b])
    rng = np.random.default_rng(3)
    for network in posterior.networks:
        for weight in network.trainable_weights:
            weight.assign(weight.numpy() + rng.normal(0.0, 0.3, weight.shape))
    num_samples = 20_000
    terms, z = case.terms(num_samples)
    low, high = z.min(axis=(0, 1)) - 3.0, z.max(axis=(0, 1)) + 3.0
    axes = [np.linspace(*ends, 500) for ends in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 1, 2)
    log_q = case.model.encode(case.x).log_prob(grid).numpy()
    mass = np.exp(log_q) * np.prod([axis[1] - axis[0] for axis in axes])
    np.testing.assert_allclose(mass.sum(), 1.0, rtol=1e-5)
    # What the samples say of E_q, the density must say too. 5 times 4 standard errors: 3.2e-4.
    log_w = truth.log_p_x(case.x, grid) + truth.log_p_z(grid) - log_q
    sampled = np.stack([z[..., 0], z[..., 1], z[..., 0] * z[..., 1], terms.log_q, terms.log_w])
    exact = np.stack([grid[..., 0], grid[..., 1], grid[..., 0] * grid[..., 1], log_q, log_w])
    error = sampled.mean(axis=1)[:, 0] - (exact * mass).sum(axis=1)[:, 0]
    assert np.all(np.abs(error) < 4.0 * sampled.std(axis=1)[:, 0] / np.sqrt(num_samples))


# The posterior.


def correlated_case(cases, posterior):
    """Return a model that is right but for its posterior, and whose p(z|x) is correlated."""
    truth = cases.truth(noise=0.5)
    truth = type(truth)(truth.w[:, :1] @ [[1.0, 0.9]] + 0.2 * truth.w, truth.b, truth.s)
    case = cases.untrained(
        truth, truth.sample(COUNT), posterior, objective=kv.objectives.ELBO(num_samples=4)
    )
    case.model.decoder.set_weights([truth.w.T, truth.b])
    case.model.decoder.trainable = False
    return case


def test_the_best_diagonal_posterior_has_the_mean_field_gap(cases):
    case = correlated_case(cases, kv.posteriors.DiagonalNormal(2))
    mean, _ = case.truth.posterior(case.x)
    variance = np.diag(1.0 / np.diag(case.truth.precision))
    best = type(case.q())(mean, np.broadcast_to(variance, (COUNT, 2, 2)))
    gap = case.truth.log_evidence(case.x) - case.truth.elbo(case.x, best)
    np.testing.assert_allclose(gap, case.truth.mean_field_gap(), rtol=1e-6)
    assert case.truth.mean_field_gap() > 0.5


@pytest.mark.full
def test_a_full_covariance_posterior_closes_the_gap(cases):
    case = correlated_case(cases, kv.posteriors.FullCovarianceNormal(2))
    train(case.model, case.x, steps=1500, learning_rate=0.05)
    gap = case.truth.log_evidence(case.x) - case.truth.elbo(case.x, case.q())
    assert -1e-9 < gap.mean() < 0.01


@pytest.mark.full
def test_a_flow_posterior_closes_most_of_the_gap(cases):
    posterior = kv.posteriors.AutoregressiveFlow(2, num_flows=2, hidden_units=(16,))
    case = correlated_case(cases, posterior)
    train(case.model, case.x, steps=1000)
    log_w = case.model.log_weights(case.x, num_samples=50, seed=5).numpy()
    evidence = case.truth.log_evidence(case.x)
    # 4 standard errors of the mean over all samples: 6.3e-5 for a new seed, either way.
    error = 4.0 * (log_w - evidence).std() / np.sqrt(log_w.size)
    gap = evidence.mean() - log_w.mean()
    assert gap + error < case.truth.mean_field_gap() / 4.0
    assert gap > -error
