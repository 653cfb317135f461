"""Priors fitted to draws, and to the aggregate posterior of a model."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import keras_vae as kv
from keras_vae.core.numerics import inverse_scale
from keras_vae.evaluation.fit_prior import fit_prior
from keras_vae.priors import fitting

D, PIXELS = 2, 5


@pytest.fixture
def float64():
    """Compute in float64; take the policy back afterwards."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(before)


def linear_model(posterior=None):
    """Return a model whose encoder and decoder are affine, of random weights."""
    return kv.VAE(
        encoder=keras.layers.Dense(PIXELS),
        decoder=keras.layers.Dense(PIXELS),
        posterior=posterior or kv.posteriors.FullCovarianceNormal(D),
        likelihood=kv.likelihoods.Normal((PIXELS,), scale=0.5),
        seed=0,
    )


def images(count, loc=0.0, seed=0):
    rng = np.random.default_rng(seed)
    z = loc + 0.3 * rng.normal(size=(count, D))
    w = np.random.default_rng(7).normal(size=(D, PIXELS))
    return z @ w + 0.5 * rng.normal(size=(count, PIXELS))


def clusters(count=400, seed=0):
    rng = np.random.default_rng(seed)
    locs = np.array([[-4.0, 0.0], [4.0, 1.0], [0.0, 5.0]])
    which = rng.choice(3, size=count, p=[0.5, 0.3, 0.2])
    return locs[which] + rng.normal(size=(count, D)) @ [[1.0, 0.5], [0.0, 0.6]]


def spied(monkeypatch, prior):
    """Return a list that the draws will be put on to which the prior is fitted."""
    seen, original = [], prior.fit

    def fit(z, **options):
        seen.append((z, options))
        return original(z, **options)

    monkeypatch.setattr(prior, "fit", fit)
    return seen


# Mixtures, by EM.


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_one_component_has_the_moments_of_the_draws(float64, covariance):
    z = clusters()
    prior = kv.priors.MixtureOfNormals(D, 1, covariance=covariance)
    assert prior.fit(z, reg_covar=0.0) is prior
    p, expected = prior(), np.cov(z.T, ddof=0)
    if covariance == "diagonal":
        expected = np.diag(np.diag(expected))
    np.testing.assert_allclose(p.mean(), z.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(p.covariance(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_mixture_has_the_density_and_optimum_of_em(float64, covariance):
    from sklearn.mixture import GaussianMixture

    z = clusters()
    prior = kv.priors.MixtureOfNormals(D, 3, covariance=covariance).fit(z, seed=2, n_init=2)
    kind = {"full": "full", "diagonal": "diag"}[covariance]
    em = GaussianMixture(3, covariance_type=kind, random_state=2, n_init=2).fit(z)
    covariances = em.covariances_ if kind == "full" else [np.diag(v) for v in em.covariances_]
    at = clusters(50, seed=1)
    densities = [
        stats.multivariate_normal(*pair).pdf(at)
        for pair in zip(em.means_, covariances, strict=True)
    ]
    np.testing.assert_allclose(prior().log_prob(at), np.log(em.weights_ @ densities), rtol=1e-6)
    # Nor is another way uphill from there.
    with tf.GradientTape() as tape:
        mean = tf.reduce_mean(prior().log_prob(z))
    for gradient in tape.gradient(mean, prior.trainable_variables):
        np.testing.assert_allclose(gradient, 0.0, atol=2e-3)


def test_full_covariance_equals_scipy(float64):
    prior = kv.priors.MixtureOfNormals(3, 2, covariance="full")
    prior.build()
    rng = np.random.default_rng(0)
    for weight in prior.weights:
        weight.assign(rng.normal(size=weight.shape))
    logits, locs, raw, below = prior.get_weights()
    z, density = rng.normal(size=(6, 3)), 0.0
    for k in range(2):
        tril = np.diag(np.log1p(np.exp(raw[k])) + 1e-4)
        # The order of `fill_triangular`: the last number comes first.
        tril[1, 0], tril[2, 0], tril[2, 1] = below[k][[2, 1, 0]]
        normal = stats.multivariate_normal(locs[k], tril @ tril.T)
        density += np.exp(logits[k]) / np.exp(logits).sum() * normal.pdf(z)
    np.testing.assert_allclose(prior().log_prob(z), np.log(density), rtol=1e-9)


@pytest.mark.parametrize("latent_dim", [1, 2, 3, 5])
def test_moments_are_right_in_any_dimension(float64, latent_dim):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(100, latent_dim)) @ rng.normal(size=(latent_dim, latent_dim))
    prior = kv.priors.MixtureOfNormals(latent_dim, 1, covariance="full").fit(z, reg_covar=0.0)
    expected = np.cov(z.T, ddof=0).reshape(latent_dim, latent_dim)
    np.testing.assert_allclose(prior().covariance(), expected, rtol=1e-9, atol=1e-12)


# By gradients.


def test_ascent_finds_the_optimum_of_a_categorical():
    rng = np.random.default_rng(0)
    z = tf.one_hot(rng.choice(3, size=(1_000, 1), p=[0.6, 0.3, 0.1]), 3).numpy()
    prior = kv.priors.Categorical(1, num_classes=3, learned=True)
    prior.fit(z, learning_rate=0.05, held_out=0.0, epochs=100, batch_size=1_000, verbose=False)
    probabilities = tf.nn.softmax(prior.logits).numpy()
    np.testing.assert_allclose(probabilities, z.mean(axis=0), atol=1e-3)


@pytest.mark.full
def test_a_flow_comes_close_to_the_density():
    z = clusters(2_000) @ [[0.1, 0.0], [0.0, 1.0]] + [3.0, 0.0]
    prior = kv.priors.AutoregressiveFlow(D, hidden_units=(16,))
    before = float(tf.reduce_mean(prior().log_prob(tf.constant(z, tf.float32))))
    prior.fit(z, epochs=40, batch_size=100, learning_rate=0.01, verbose=False)
    after = float(tf.reduce_mean(prior().log_prob(tf.constant(z, tf.float32))))
    best_normal = stats.multivariate_normal(z.mean(axis=0), np.cov(z.T)).logpdf(z).mean()
    assert after > best_normal > before


def held_out_case():
    """Draws whose last tenth, which is held out, has another mean than the rest."""
    z = np.random.default_rng(0).normal(size=(200, 1))
    z[:180] += 6.0
    return z, kv.priors.AutoregressiveFlow(1, num_flows=1, hidden_units=(4,))


@pytest.mark.full
def test_the_weights_are_those_that_served_the_held_out_draws_best():
    z, prior = held_out_case()

    def score():
        # A new tensor: a flow remembers the way back of one that it has seen.
        return float(tf.reduce_mean(prior().log_prob(tf.constant(z[180:], tf.float32))))

    start = score()
    prior.fit(z, epochs=20, learning_rate=0.1, batch_size=20, patience=3, verbose=False)
    # Every step leads towards the others, away from the held-out ones.
    assert score() >= start
    prior.fit(z, epochs=20, learning_rate=0.1, batch_size=20, held_out=0.0, verbose=False)
    assert score() < start - 1.0


def test_the_fit_ends_where_nothing_gets_better(monkeypatch):
    z, prior = held_out_case()
    steps = []
    original = prior.fit_log_prob

    def spy(z, seed):
        tf.py_function(lambda rows: steps.append(len(rows)), [z], [])
        return original(z, seed)

    monkeypatch.setattr(prior, "fit_log_prob", spy)
    prior.fit(z, epochs=50, learning_rate=0.1, batch_size=180, patience=3, verbose=False)
    # The score of the start, and 3 epochs of one step and one score each.
    assert steps == [20] + [180, 20] * 3


def test_the_same_seed_makes_the_same_fit():
    z = np.random.default_rng(0).integers(0, 2, size=(100, D))

    def fitted(seed):
        prior = kv.priors.Bernoulli(D, learned=True)
        prior.fit(z, epochs=2, batch_size=10, seed=seed, verbose=False)
        return prior.logits.numpy()

    np.testing.assert_array_equal(fitted(3), fitted(3))
    assert np.any(fitted(3) != fitted(4))


def test_an_explosion_is_an_error_and_leaves_finite_weights():
    prior = kv.priors.AutoregressiveFlow(D, num_flows=1, hidden_units=(4,))
    with pytest.raises(ArithmeticError, match="not finite in epoch"):
        prior.fit(1e25 * clusters(100), epochs=5, learning_rate=0.1, verbose=False)
    assert all(np.all(np.isfinite(weight)) for weight in prior.get_weights())


def test_an_explosion_leaves_the_last_finite_weights_if_nothing_is_held_out(monkeypatch):
    def new():
        keras.utils.set_random_seed(0)
        return kv.priors.AutoregressiveFlow(D, num_flows=1, hidden_units=(4,))

    options = {"held_out": 0.0, "verbose": False}
    expected = new().fit(clusters(100), epochs=2, **options).get_weights()
    lasts = iter([0.0, 0.0, np.nan])
    monkeypatch.setattr(fitting._Steps, "last", lambda self: next(lasts))
    prior = new()
    with pytest.raises(ArithmeticError, match="not finite in epoch 3"):
        prior.fit(clusters(100), epochs=5, **options)
    for one, other in zip(prior.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (kv.priors.StandardNormal, "Argument `prior` must have trainable weights"),
        (lambda d: kv.priors.VampPrior(d, 3), "learned with the model"),
        (kv.priors.ConditionalNormal, "depends on the condition"),
    ],
)
def test_priors_that_draws_cannot_teach_say_why(prior, message):
    with pytest.raises(ValueError, match=message):
        prior(D).fit(clusters(10), verbose=False)


@pytest.mark.parametrize("make", [kv.priors.AutoregressiveFlow, kv.priors.TwoStage])
@pytest.mark.parametrize(
    ("z", "options", "name"),
    [
        (np.zeros((5, 3)), {}, "z"),
        (np.zeros((0, D)), {}, "z"),
        (np.full((5, D), np.nan), {}, "z"),
        (np.zeros((5, D)), {"epochs": 0}, "epochs"),
        (np.zeros((5, D)), {"held_out": 1.0}, "held_out"),
        (np.zeros((1, D)), {"held_out": 0.5}, "held_out"),
        (np.zeros((5, D)), {"learning_rate": 0.0}, "learning_rate"),
        (np.zeros((5, D)), {"patience": 0}, "patience"),
    ],
)
def test_bad_arguments_are_named(make, z, options, name):
    with pytest.raises(ValueError, match=f"Argument `{name}`"):
        make(D, hidden_units=(4,)).fit(z, **options, verbose=False)


def test_fewer_draws_than_components_are_an_error():
    with pytest.raises(ValueError, match="Argument `z` must hold at least 5 draws"):
        kv.priors.MixtureOfNormals(D, 5).fit(np.zeros((4, D)))


# The aggregate posterior.


def test_draws_have_the_moments_of_the_aggregate_posterior(float64, monkeypatch):
    model, x = linear_model(), images(3_000, loc=2.0)
    prior = kv.priors.MixtureOfNormals(D, 1, covariance="full")
    (seen := spied(monkeypatch, prior)), fit_prior(model, x, prior, draws_per_example=5, seed=1)
    ((z, options),) = seen
    assert z.shape == (15_000, D) and options == {"seed": 1}
    q = model.encode(x)
    means, within = q.mean().numpy(), q.covariance().numpy().mean(axis=0)
    covariance = np.cov(means.T, ddof=0) + within
    # The noise of the draws alone: 2 means beyond 4 standard errors once in 8,000 seeds.
    error = np.sqrt(np.diag(within) / len(z))
    assert np.all(np.abs(z.mean(axis=0) - means.mean(axis=0)) < 4 * error)
    assert np.all(
        np.abs(np.cov(z.T) - covariance) < 0.05 * np.sqrt(np.linalg.det(covariance)) + 0.05
    )
    # The fitted moments are exactly those of the draws, but for `reg_covar`.
    np.testing.assert_allclose(prior().mean(), z.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(prior().covariance(), np.cov(z.T, ddof=0) + 1e-6 * np.eye(D), 1e-9)


def test_the_draws_of_an_example_stay_together_and_the_examples_do_not(monkeypatch):
    model, x = linear_model(kv.posteriors.DiagonalNormal(D)), images(200)
    model.posterior_head.raw_scale.bias.assign([-12.0, -12.0])  # scales near 1e-4
    model.posterior_head.raw_scale.kernel.assign(0.0 * model.posterior_head.raw_scale.kernel)
    prior = kv.priors.MixtureOfNormals(D, 1)
    seen = spied(monkeypatch, prior)
    fit_prior(model, x.astype("float32"), prior, draws_per_example=3)
    z = seen[0][0].reshape(200, 3, D)
    assert np.ptp(z, axis=1).max() < 0.01
    means = model.encode(x.astype("float32")).mean().numpy()
    order = [int(np.argmin(np.square(means - row).sum(axis=1))) for row in z[:, 0]]
    assert sorted(order) == list(range(200)) and order != list(range(200))


def test_datasets_serve_as_well(monkeypatch):
    data = tf.data.Dataset.from_tensor_slices(images(20).astype("float32")).batch(7)
    prior = kv.priors.MixtureOfNormals(D, 1)
    seen = spied(monkeypatch, prior)
    assert fit_prior(linear_model(), data, prior, draws_per_example=2) is prior
    assert seen[0][0].shape == (40, D)


def test_noise_differs_between_examples_and_seeds(monkeypatch):
    model = linear_model(kv.posteriors.DiagonalNormal(D))
    x = np.repeat(images(1), 300, axis=0).astype("float32")
    runs = []
    for seed in (1, 1, 2):
        prior = kv.priors.MixtureOfNormals(D, 1)
        seen = spied(monkeypatch, prior)
        fit_prior(model, x, prior, draws_per_example=2, seed=seed)
        runs.append(seen[0][0])
    assert len(np.unique(runs[0][:, 0])) == 600
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not {*runs[0][:, 0]} & {*runs[2][:, 0]}  # not the same draws in another order


def test_a_model_with_labels_is_read_with_them():
    model = kv.ConditionalVAE(
        condition=3,
        encoder=keras.layers.Dense(PIXELS),
        decoder=keras.layers.Dense(PIXELS),
        posterior=kv.posteriors.DiagonalNormal(D),
        likelihood=kv.likelihoods.Normal((PIXELS,), scale=0.5),
    )
    x, y = images(30).astype("float32"), np.arange(30) % 3
    prior = fit_prior(model, (x, y), kv.priors.MixtureOfNormals(D, 1))
    assert model.with_prior(prior).sample(3, y=[0, 1, 2]).shape == (3, PIXELS)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"model": "model"}, "Argument `model`"),
        ({"prior": kv.priors.StandardNormal}, "Argument `prior`"),
        ({"prior": kv.priors.MixtureOfNormals(D + 1, 2)}, "over the same z as the posterior"),
        ({"prior": kv.priors.StandardNormal(D)}, "must have trainable weights"),
        ({"draws_per_example": 0}, "Argument `draws_per_example`"),
        ({"seed": -1}, "Argument `seed`"),
        ({"data": np.zeros((0, PIXELS))}, "Argument `data`"),
    ],
)
def test_what_cannot_be_fitted_is_named(change, match):
    arguments = {
        "model": linear_model(),
        "data": images(10).astype("float32"),
        "prior": kv.priors.MixtureOfNormals(D, 2),
        **change,
    }
    with pytest.raises(ValueError, match=match):
        fit_prior(**arguments)


@pytest.mark.parametrize(
    ("prior", "known"),
    [
        (kv.priors.AutoregressiveFlow(D), "epochs"),
        (kv.priors.MixtureOfNormals(D, 2), "max_iter"),
    ],
)
def test_an_unknown_option_is_named_before_anything_is_drawn(monkeypatch, prior, known):
    model = linear_model()
    monkeypatch.setattr(model, "encode", None)
    told = f"must be one of .*'{known}', .*Received: options='steps'"
    with pytest.raises(ValueError, match=f"Argument `options` {told}"):
        fit_prior(model, images(10), prior, steps=3)


@pytest.mark.first_is_quick
@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda: kv.priors.MixtureOfNormals(D, 2, covariance="full"), {}),
        (lambda: kv.priors.AutoregressiveFlow(D, hidden_units=(16,)), {"learning_rate": 0.01}),
    ],
)
def test_a_fitted_prior_raises_the_likelihood_of_other_data(make, options):
    # Data from z ~ N(2, 0.3^2 I), which N(0, I) hardly ever makes.
    model, x = linear_model(kv.posteriors.DiagonalNormal(D)), images(1_000, loc=2.0)
    x, w = x.astype("float32"), np.random.default_rng(7).normal(size=(D, PIXELS))
    model.decoder.set_weights([w, np.zeros(PIXELS)])
    covariance = np.linalg.inv(np.eye(D) + w @ w.T / 0.25)  # of p(z|x), under N(0, I)
    model.encoder.set_weights([np.eye(PIXELS), np.zeros(PIXELS)])
    model.posterior_head.loc.set_weights([w.T @ covariance / 0.25, np.zeros(D)])
    raw = np.array([inverse_scale(1.2 * np.sqrt(v)) for v in np.diag(covariance)])
    model.posterior_head.raw_scale.set_weights([np.zeros((PIXELS, D)), raw])
    test = images(200, loc=2.0, seed=1).astype("float32")
    options = {"epochs": 20, "batch_size": 200, "verbose": False, **options} if options else {}
    prior = fit_prior(model, x, make(), **options)
    bounds = [
        kv.bounds.importance_weighted(each.log_weights(test, 100, seed=1)).numpy()
        for each in (model, model.with_prior(prior))
    ]
    gain = bounds[1] - bounds[0]
    assert gain.mean() > 1.0 and gain.mean() > 10 * gain.std() / np.sqrt(len(gain))
