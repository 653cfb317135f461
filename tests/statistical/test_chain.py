"""Chains of latent groups: against exact linear-Gaussian chains, and as parts of a model."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import special, stats

import keras_vae as kv
from keras_vae.core.numerics import inverse_scale
from keras_vae.objectives import estimators
from tests.contracts import check_estimates_sum_to_one, signal_to_noise

tfd = tfp.distributions

EXACT = {"rtol": 1e-6, "atol": 1e-9}
DIMS = (2, 1, 1)
PIXELS = 3


def randomize(head, scale=0.4, seed=0):
    rng = np.random.default_rng(seed)
    for weight in head.weights:
        weight.assign(weight.numpy() + rng.normal(0.0, scale, weight.shape))


# The oracle: the joint normal of a chain of linear conditionals.


def links_of(chain):
    """Return slope, shift and scale of every conditional, as they are drawn, from its weights."""
    for layer in chain.conditionals:
        slope, shift = (weight.numpy() for weight in layer.loc.weights)
        kernel, bias = (weight.numpy() for weight in layer.raw_scale.weights)
        assert not kernel.any(), "no normal: the scale depends on the group before"
        yield slope.T, shift, np.log1p(np.exp(bias)) + 1e-4


def joint(mean, covariance, links):
    """Return mean and covariance of all groups, as drawn, given those of the first."""
    size = len(mean)
    for slope, shift, scale in links:
        # Of the group before, which is the last so far.
        wide = np.zeros((len(shift), len(mean)))
        wide[:, -size:] = slope
        cross = wide @ covariance
        corner = cross @ wide.T + np.diag(scale**2)
        mean = np.concatenate([mean, wide @ mean + shift])
        covariance = np.block([[covariance, cross.T], [cross, corner]])
        size = len(shift)
    return mean, covariance


def normal(mean, covariance):
    return tfd.MultivariateNormalTriL(mean, np.linalg.cholesky(covariance))


def without_scale_kernels(head):
    for layer in head.chain.conditionals:
        layer.raw_scale.kernel.assign(np.zeros(layer.raw_scale.kernel.shape))
    return head


def posterior_and_joint():
    """Return q of three layers for one x, and the normal that it is."""
    head = kv.posteriors.Chain([3, 2, 2], hidden=())
    head.build((None, 4))
    randomize(head)
    h = tf.constant([[0.3, -1.0, 0.5, 2.0]], tf.float64)
    first = head.base(h)
    mean, scale = first.mean()[0].numpy(), first.stddev()[0].numpy()
    return without_scale_kernels(head)(h), normal(
        *joint(mean, np.diag(scale**2), links_of(head.chain))
    )


def prior_and_joint():
    """Return p of three layers, and the normal that it is."""
    head = kv.priors.Chain([3, 2, 2], hidden=())
    head.build()
    randomize(head)
    p = without_scale_kernels(head)()
    mean, covariance = joint(np.zeros(2), np.eye(2), links_of(head.chain))
    order = [4, 5, 6, 2, 3, 0, 1]  # drawn are z3 [2], z2 [2], z1 [3]
    return p, normal(mean[order], covariance[np.ix_(order, order)])


both = pytest.mark.parametrize("make", [posterior_and_joint, prior_and_joint])


@both
def test_the_density_and_its_slope_are_those_of_the_joint_normal(make):
    p, oracle = make()
    z = tf.constant(np.random.default_rng(1).normal(size=(5, 1, 7)))
    (found, slope), (expected, exact) = (
        tfp.math.value_and_gradient(distribution.log_prob, z) for distribution in (p, oracle)
    )
    np.testing.assert_allclose(np.squeeze(found), np.squeeze(expected), **EXACT)
    np.testing.assert_allclose(slope, exact, **EXACT)


def test_draws_are_scored_under_every_distribution_of_a_batch():
    head = kv.posteriors.Chain([3, 2], hidden=())
    head.build((None, 4))
    randomize(head)
    h, z = (tf.constant(np.random.default_rng(n).normal(size=(n, d))) for n, d in ((4, 4), (6, 5)))
    found = head(h).log_prob_by_group(z[:, None])
    assert found.shape == (6, 4, 2)
    for number in range(4):
        one = head(h[number : number + 1]).log_prob_by_group(z[:, None])
        np.testing.assert_allclose(found[:, number : number + 1], one, **EXACT)


@both
def test_draws_are_those_of_the_joint_normal(make):
    p, oracle = make()
    size = 20_000
    z = np.reshape(p.sample(size, seed=[0, 1]), [size, 7])
    white = np.linalg.solve(oracle.scale.to_dense(), np.transpose(z - oracle.mean()))
    # 7 means, 28 covariances, 2 cases, at 4 standard errors: 70 * 6.3e-5 = 4e-3 for a new seed.
    covariance = (np.cov(white) - np.eye(7)) / np.sqrt(1.0 + np.eye(7))  # a square's variance is 2
    errors = np.append(white.mean(axis=1), covariance) * np.sqrt(size)
    assert np.abs(errors).max() < 4.0


# Models zL -> ... -> z1 -> x with linear conditionals, of two and three layers.

# Slope, shift and scale of p(z1|z2) and p(z2|z3).
LINKS = [
    (np.array([[1.2], [-0.7]]), np.array([0.4, -0.2]), np.array([0.6, 0.9])),
    (np.array([[0.9]]), np.array([-0.3]), np.array([0.7])),
]
NOISE, BIAS = 0.5, np.array([0.1, -0.3, 0.2])
PRECISION = np.array([6.0, 9.0])  # of p(z1|x)


def marginals(levels):
    """Return means and covariances of z1, ..., zL under the prior."""
    found = [(np.zeros(1), np.eye(1))]
    for slope, shift, scale in LINKS[levels - 2 :: -1]:
        mean, covariance = found[-1]
        found.append((slope @ mean + shift, slope @ covariance @ slope.T + np.diag(scale**2)))
    return found[::-1]


def decoder_matrix(levels):
    """Return the matrix of a decoder that makes p(z1|x) a normal with independent dimensions."""
    _, covariance = marginals(levels)[0]
    root = np.linalg.cholesky(np.diag(PRECISION) - np.linalg.inv(covariance)).T
    return NOISE * np.linalg.qr(np.random.default_rng(3).normal(size=(PIXELS, 2)))[0] @ root


def evidence(levels):
    matrix, (mean, covariance) = decoder_matrix(levels), marginals(levels)[0]
    noise = NOISE**2 * np.eye(PIXELS)
    return stats.multivariate_normal(matrix @ mean + BIAS, matrix @ covariance @ matrix.T + noise)


def set_normal(layer, slope, shift, scale):
    layer.loc.set_weights([slope.T, shift])
    raw = [inverse_scale(one) for one in np.broadcast_to(scale, len(shift))]
    layer.raw_scale.set_weights([np.zeros(slope.T.shape), np.array(raw)])


def set_posterior(head, levels):
    """Make q(z|x) the exact posterior (Bishop, 2006, eq. 2.116)."""
    layers, below = (head.base, *head.chain.conditionals), (decoder_matrix(levels), BIAS, NOISE)
    links = zip(layers, [below, *LINKS], marginals(levels), strict=False)
    for layer, (slope, shift, scale), (mean, covariance) in links:
        pull = slope.T / scale**2
        posterior = np.linalg.inv(np.linalg.inv(covariance) + pull @ slope)
        variance = np.diag(posterior)
        np.testing.assert_allclose(posterior, np.diag(variance), atol=1e-12)
        centre = np.linalg.solve(covariance, mean) - pull @ shift
        set_normal(layer, posterior @ pull, posterior @ centre, variance**0.5)


def linear_chain(levels, exact=True):
    """Return the model with the true p, and q that is exact or close to it."""
    keras.utils.set_random_seed(0)
    model = kv.VAE(
        encoder=keras.layers.Identity(),
        decoder=keras.layers.Dense(PIXELS),
        posterior=kv.posteriors.Chain(DIMS[:levels], hidden=()),
        likelihood=kv.likelihoods.Normal((PIXELS,), scale=NOISE),
        prior=kv.priors.Chain(DIMS[:levels], hidden=()),
    )
    model.decoder.set_weights([decoder_matrix(levels).T, BIAS])
    for layer, link in zip(reversed(model.prior_head.chain.conditionals), LINKS, strict=False):
        set_normal(layer, *link)
    set_posterior(model.posterior_head, levels)
    if not exact:
        randomize(model.posterior_head, scale=0.15)
    return model


def data(levels, count=4):
    return evidence(levels).rvs(count, random_state=0)


both_depths = pytest.mark.parametrize("levels", [2, 3])


@both_depths
def test_every_draw_of_the_exact_posterior_gives_the_evidence(levels):
    x, model = data(levels), linear_chain(levels)
    expected = evidence(levels).logpdf(x)
    log_w = model.log_weights(x, num_samples=7, seed=2)
    np.testing.assert_allclose(log_w, np.tile(expected, (7, 1)), **EXACT)
    terms = model.compute_terms(tf.constant(x), num_samples=7, seed=2)
    np.testing.assert_allclose(terms.elbo, expected, **EXACT)
    estimate = kv.evaluation.log_likelihood(model, x, num_samples=3, verbose=False)
    np.testing.assert_allclose(estimate.per_example, expected, **EXACT)
    # The columns are the layers: log q(z1|x) - log p(z1|z2), ..., log q(zL|z_{L-1}) - log p(zL).
    z, q, p = model.split(terms.draws.z).values(), terms.draws.q, terms.draws.p_z
    of_q = [q._first, *(layer(one) for layer, one in zip(q._conditionals, z, strict=False))]
    from_top = zip(p._conditionals, reversed(z), strict=False)
    of_p = [p._first, *(layer(one) for layer, one in from_top)][::-1]
    columns = [a.log_prob(one) - b.log_prob(one) for a, b, one in zip(of_q, of_p, z, strict=True)]
    np.testing.assert_allclose(terms.kl, np.mean(columns, axis=1).T, **EXACT)


@both_depths
def test_the_bound_is_below_the_evidence_and_converges(levels):
    x, model, size = data(levels), linear_chain(levels, exact=False), 20_000
    expected = evidence(levels).logpdf(x)
    log_w = model.log_weights(x, num_samples=size, seed=2).numpy()
    # Means over the draws of log p(x) - L_K, each x a column.
    gaps = [
        expected
        - np.mean(special.logsumexp(log_w.reshape(-1, k, len(x)), axis=1) - np.log(k), axis=0)
        for k in (1, 5, 50)
    ]
    assert np.all(gaps[0] > gaps[1]) and np.all(gaps[1] > gaps[2]) and np.all(gaps[2] > 0.0)
    ratio = np.exp(log_w - expected)  # of mean one
    error = np.abs(ratio.mean(axis=0) - 1.0) / ratio.std(axis=0)
    # 8 examples at 4 standard errors: 8 * 6.3e-5 = 5e-4 for a new seed.
    assert np.all(error * np.sqrt(size) < 4.0)


def gradients(model, objective, repeats, copies):
    """Return gradients `[R, P]` by all weights, each the mean over a batch, at the same draws."""
    x = tf.constant(np.repeat(data(len(model.latents), 2), copies, axis=0))

    @tf.function(autograph=False)
    def one(seed):
        with tf.GradientTape() as tape:
            terms = model.compute_terms(x, objective.num_samples, training=True, seed=seed)
            loss = tf.reduce_mean(objective.loss(terms))
        found = tape.gradient(loss, model.trainable_variables)
        return tf.concat([tf.reshape(gradient, [-1]) for gradient in found], axis=0)

    return np.stack([one(tf.constant([5, r], tf.int32)) for r in range(repeats)])


ELBO, ImportanceWeighted = kv.objectives.ELBO, kv.objectives.ImportanceWeighted


@pytest.mark.first_is_quick
@pytest.mark.parametrize("levels", [3, 2])
@pytest.mark.parametrize(
    ("objective", "brute_force"),
    [
        (lambda: ImportanceWeighted(3, "doubly_reparameterized"), lambda: ImportanceWeighted(3)),
        (lambda: ImportanceWeighted(3, "score_function"), lambda: ImportanceWeighted(3)),
        (lambda: ELBO(estimator="score_function", num_samples=3), lambda: ELBO(num_samples=3)),
    ],
    ids=["doubly reparameterized", "VIMCO", "score function"],
)
def test_estimators_have_the_gradient_of_the_bound(objective, brute_force, levels):
    model, repeats = linear_chain(levels, exact=False), 200
    one, other = (gradients(model, make(), repeats, 20) for make in (objective, brute_force))
    difference = one - other
    error = difference.std(axis=0, ddof=1) / np.sqrt(repeats)
    # 39 or 47 weights, 3 cases each: 258 * 9e-5 (t, 199 degrees) = 0.023 for a new seed.
    assert np.all(np.abs(difference.mean(axis=0)) < 4.0 * error + 1e-12)
    scale = np.abs(other.mean(axis=0)).max()
    assert np.median(error) < 0.05 * scale, "the test would not see an error"


@both_depths
def test_no_noise_at_the_exact_posterior(levels):
    tf.config.run_functions_eagerly(True)
    model = linear_chain(levels)
    mine = {id(weight) for weight in model.posterior_head.trainable_variables}
    is_posterior = np.concatenate(
        [np.full(np.size(weight), id(weight) in mine) for weight in model.trainable_variables]
    )
    assert is_posterior.sum() == {2: 22, 3: 26}[levels]
    for objective in (
        ELBO(estimator="sticking_the_landing"),
        ImportanceWeighted(3, "sticking_the_landing"),
        ImportanceWeighted(3, "doubly_reparameterized"),
    ):
        found = gradients(model, objective, repeats=1, copies=1)
        np.testing.assert_allclose(found[:, is_posterior], 0.0, atol=1e-9)
        assert np.abs(found[:, ~is_posterior]).max() > 1e-3


@both_depths
def test_the_sampled_kl_of_each_group_has_its_gradient_through_z_alone(levels):
    # q's parameters are held in another model of the same weights.
    model, held = linear_chain(levels, exact=False), linear_chain(levels, exact=False)
    x, weights = tf.constant(data(levels, 2)), model.posterior_head.trainable_variables
    estimator = estimators.get("sticking_the_landing")
    with tf.GradientTape(persistent=True) as tape:
        terms = model.compute_terms(x, 3, seed=4)
        z = terms.draws.z
        log_q, log_p_z = (p.log_prob_by_group(z) for p in (held.encode(x), model.prior()))
        columns = range(levels)
        expected = [tf.reduce_sum(log_q[..., g] - log_p_z[..., g]) / 3.0 for g in columns]
        kl = estimator.kl(estimator.prepare(terms))
        found = [tf.reduce_sum(kl[:, g]) for g in columns]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, **EXACT)
        slopes, exact = (tape.gradient(value, weights) for value in (one, other))
        for a, b in zip(slopes, exact, strict=True):
            a, b = (0.0 if slope is None else slope for slope in (a, b))
            np.testing.assert_allclose(a, b, **EXACT)


# Parts of a model.


def small_model(model_class=kv.VAE, objective=None):
    keras.utils.set_random_seed(0)
    return model_class(
        encoder=kv.networks.MLPEncoder((6,)),
        decoder=kv.networks.MLPDecoder((PIXELS,), (5,)),
        posterior=kv.posteriors.Chain(DIMS[:2], hidden=(4,)),
        likelihood=kv.likelihoods.Bernoulli((PIXELS,)),
        prior=kv.priors.Chain(DIMS[:2], hidden=(4,)),
        objective=objective,
    )


def test_the_estimates_of_all_x_sum_to_one():
    model = small_model()
    for part in (model.posterior_head, model.prior_head, model.decoder):
        randomize(part)
    x = np.array(list(itertools.product([0.0, 1.0], repeat=PIXELS)))
    check_estimates_sum_to_one(model, x, num_samples=5_000, bound=0.2)


def test_the_decoder_is_given_the_first_layer_alone():
    model = small_model()
    z = tf.constant(np.random.default_rng(0).normal(size=(4, 3)))
    other = tf.concat([z[:, :2], z[:, 2:] + 5.0], axis=-1)
    np.testing.assert_array_equal(model.decode(z).mean(), model.decode(other).mean())
    # Whatever x was encoded.
    likelihoods = [
        model.compute_terms(tf.fill([4, PIXELS], tf.cast(pixel, tf.float64))).draws.likelihood
        for pixel in (0.0, 1.0)
    ]
    np.testing.assert_array_equal(*(p_x(z).mean() for p_x in likelihoods))
    assert np.abs(model.decode(z + 1.0).mean() - model.decode(z).mean()).max() > 1e-3


def test_groups_are_split_and_joined():
    model = small_model()
    z = model.prior().sample(4, seed=[0, 1])
    groups = model.split(z)
    assert {name: tuple(group.shape[1:]) for name, group in groups.items()} == model.latents
    np.testing.assert_array_equal(groups["z1"], z[:, :2])
    np.testing.assert_array_equal(model.join(dict(reversed(groups.items()))), z)
    with pytest.raises(ValueError, match=r"`groups` must have the keys \['z1', 'z2'\]"):
        model.join({"z1": z[:, :2]})
    with pytest.raises(ValueError, match=r"`groups` must hold 'z2' of shape \[..., 1\]"):
        model.join({"z1": z[:, :2], "z2": z})
    with pytest.raises(ValueError, match=r"`z` must have shape \[..., 3\]"):
        model.split(z[:, :2])
    flat = kv.posteriors.Categorical(2, 3)
    assert flat.latents == {"z": (2, 3)}


def test_means_go_along_the_chain():
    model = small_model()
    q, head = model.encode(np.eye(PIXELS)), model.posterior_head
    first, (layer,) = q.at_means()[0], head.chain.conditionals
    second = layer(first.mean())
    np.testing.assert_array_equal(
        head.mean(q), np.concatenate([first.mean(), second.mean()], axis=-1)
    )
    np.testing.assert_array_equal(
        head.stddev(q), np.concatenate([first.stddev(), second.stddev()], axis=-1)
    )


def test_a_saved_model_is_the_same(tmp_path):
    model, x = small_model(), np.eye(PIXELS)
    randomize(model.prior_head)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.latents == model.latents == {"z1": (2,), "z2": (1,)}
    one, other = (m.log_weights(x, num_samples=3, seed=1) for m in (model, loaded))
    np.testing.assert_array_equal(one, other)


@pytest.mark.full
def test_the_prior_is_fitted_to_draws():
    truth = linear_chain(2).prior_head
    z = truth().sample(600, seed=[0, 1]).numpy()
    prior = kv.priors.Chain(DIMS[:2], hidden=())
    prior.build()
    before = np.mean(prior().log_prob(z))
    prior.fit(z, epochs=30, batch_size=100, learning_rate=0.05, held_out=0.0, verbose=False)
    after, best = np.mean(prior().log_prob(z)), np.mean(truth().log_prob(z))
    assert after > before + 0.1 and after > best - 0.05


def test_chains_of_other_groups_do_not_fit():
    with pytest.raises(ValueError, match=r"`prior` must have the groups of the posterior"):
        kv.VAE(
            encoder=kv.networks.MLPEncoder((6,)),
            decoder=kv.networks.MLPDecoder((PIXELS,), (5,)),
            posterior=kv.posteriors.Chain((2, 1)),
            likelihood=kv.likelihoods.Bernoulli((PIXELS,)),
            prior=kv.priors.Chain((1, 2)),
        )


@pytest.mark.parametrize("kind", [kv.posteriors.Chain, kv.priors.Chain])
def test_arguments_are_checked(kind):
    with pytest.raises(ValueError, match="`latent_dims` must be a non-empty tuple"):
        kind([])
    with pytest.raises(ValueError, match="`hidden` must be a non-empty tuple"):
        kind([2, 1], hidden=(4, 0))
    assert kind.from_config(kind([2, 1], hidden=[]).get_config()).chain.hidden == ()


@pytest.mark.full
def test_active_units_another_prior_and_export(tmp_path):
    x, model = data(2), linear_chain(2)
    means = model.posterior_head.mean(model.encode(x)).numpy()
    variances = kv.evaluation.active_units(model, x).variances
    np.testing.assert_allclose(variances, means.var(axis=0), **EXACT)
    other = model.with_prior(kv.priors.StandardNormal(3))
    z = model.compute_terms(tf.constant(x), 2, seed=1).draws.z
    change = other.prior().log_prob(z) - model.prior().log_prob(z)
    log_w, others = (m.log_weights(x, num_samples=2, seed=1) for m in (model, other))
    np.testing.assert_allclose(others - log_w, change, **EXACT)
    kv.export_saved_model(model, tmp_path / "1")
    signatures = tf.saved_model.load(tmp_path / "1").signatures
    encoded = signatures["encode"](x=tf.constant(x))
    np.testing.assert_allclose(encoded["mean"], means, **EXACT)
    np.testing.assert_allclose(encoded["mean_z2"], means[:, 2:], **EXACT)
    assert set(encoded) == {f"{n}{g}" for n in ("mean", "scale") for g in ("", "_z1", "_z2")}
    numbers = {name: tf.constant(3) for name in ("count", "seed")}
    exported = signatures["log_likelihood"](x=tf.constant(x), **numbers)["log_likelihood"]
    np.testing.assert_allclose(exported, evidence(2).logpdf(x), **EXACT)


@pytest.mark.full
@both_depths
def test_the_signal_of_the_doubly_reparameterized_gradient_rises_with_the_samples(levels):
    """And that of the plain gradient falls, for location and scale of q(z1|x)."""
    model, x = linear_chain(levels), np.repeat(data(levels)[:1], 20_000, axis=0)
    rng, ratios = np.random.default_rng(0), {}
    for weight in model.posterior_head.trainable_variables:
        weight.assign_add(0.03 * rng.normal(size=weight.shape))
    for estimator in ("reparameterized", "doubly_reparameterized"):
        for count in (1, 8, 64):
            objective = kv.objectives.ImportanceWeighted(count, estimator)
            with tf.GradientTape() as tape:
                terms = model.compute_terms(tf.constant(x), count, training=True, seed=1)
                loss = objective.loss(terms)
            first = terms.draws.q._first.parameters
            gradients = tape.gradient(loss, [first["loc"], first["scale_diag"]])
            ratios[estimator, count] = signal_to_noise(np.concatenate(gradients, axis=1))
    plain, double = ("reparameterized", "doubly_reparameterized")
    for few, many in ((1, 8), (8, 64)):  # A ratio is known to 1 / sqrt(20000) = 0.007.
        assert ratios[plain, few] > 1.5 * ratios[plain, many], ratios
        assert ratios[double, many] > 1.3 * ratios[double, few], ratios
