"""LadderVAE: against exact linear-Gaussian ladders of two and three levels, and as a model."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import keras_vae as kv
from keras_vae.core.numerics import inverse_scale
from keras_vae.objectives import ELBO, ImportanceWeighted
from tests.contracts import check_estimates_sum_to_one
from tests.small_models import randomize

EXACT = {"rtol": 1e-6, "atol": 1e-9}
PIXELS, NOISE = 3, 0.5
BIAS = np.array([0.1, -0.3, 0.2])
# Orthogonal columns: p(x|z1) has independent dimensions as a function of z1, too.
WEIGHT = np.linalg.qr(np.random.default_rng(3).normal(size=(PIXELS, 2)))[0] * [1.1, 0.8]
# Slope, shift and scale of p(z1|z2) and p(z2|z3).
LINKS = [
    (np.array([[1.2], [-0.7]]), np.array([0.4, -0.2]), np.array([0.6, 0.9])),
    (np.array([[0.9]]), np.array([-0.3]), np.array([0.7])),
]


def set_normal(layer, slope, shift, scale):
    """Set a normal with mean `slope h + shift`; zeros where h has more dimensions."""
    kernel = np.zeros(layer.loc.kernel.shape)
    kernel[: slope.shape[1]] = slope.T
    layer.loc.set_weights([kernel, shift])
    raw = np.array([inverse_scale(one) for one in np.broadcast_to(scale, len(shift))])
    layer.raw_scale.set_weights([np.zeros(kernel.shape), raw])


def set_identity(layer):
    """Let a dense layer pass on its inputs."""
    kernel = np.eye(*layer.kernel.shape)
    layer.set_weights([kernel, np.zeros(kernel.shape[1])])


def evidence_of_levels(levels):
    """Yield matrix, offset and covariance of p(x|z_l), a normal in x, from l = 1 on."""
    matrix, offset, covariance = WEIGHT, BIAS, NOISE**2 * np.eye(PIXELS)
    yield matrix, offset, covariance
    for slope, shift, scale in LINKS[: levels - 1]:
        offset = offset + matrix @ shift
        covariance = covariance + matrix @ np.diag(scale**2) @ matrix.T
        matrix = matrix @ slope
        yield matrix, offset, covariance


def evidence(levels):
    *_, (matrix, offset, covariance) = evidence_of_levels(levels)
    return stats.multivariate_normal(offset, covariance + matrix @ matrix.T)


def exact_ladder(levels, objective=None, noise=0.0):
    """Return a linear ladder whose q(z|x) is p(z|x), or close to it."""
    keras.utils.set_random_seed(0)
    model = kv.LadderVAE(
        latent_dims=(2, 1, 1)[:levels],
        hidden=(PIXELS,) * levels,
        likelihood=kv.likelihoods.Normal((PIXELS,), scale=NOISE),
        depth=1,
        activation="linear",
        objective=objective,
    )
    for layer in (*model.encoder.chain[1:], model.decoder.chain[0]):
        set_identity(layer)
    kernel = np.zeros((PIXELS, PIXELS))
    kernel[:2] = WEIGHT.T
    model.decoder.chain[1].kernel.assign(kernel)
    model.decoder.chain[-1].bias.assign(BIAS)
    head = model.posterior_head
    for layer, link in zip(reversed(head.top_down.conditionals), LINKS, strict=False):
        set_identity(layer.hidden[0])
        set_normal(layer, *link)
    for number, (matrix, offset, covariance) in enumerate(evidence_of_levels(levels), start=1):
        pull = matrix.T @ np.linalg.inv(covariance)
        precision = np.diag(pull @ matrix)
        # The highest layer has no conditional to be multiplied by: N(0, 1) is in its estimate.
        total = precision + 1.0 if number == levels else precision
        slope = pull / total[:, None]
        set_normal(head.estimates[number - 1], slope, -slope @ offset, total**-0.5)
    if noise:
        randomize_by(head, noise)
    return model


def randomize_by(layer, scale):
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(weight.numpy() + rng.normal(0.0, scale, weight.shape))


@pytest.mark.parametrize("levels", [2, 3])
def test_every_draw_of_the_exact_posterior_gives_the_evidence(levels):
    model = exact_ladder(levels)
    x = evidence(levels).rvs(4, random_state=0)
    expected = evidence(levels).logpdf(x)
    log_w = model.log_weights(x, num_samples=5, seed=2)
    np.testing.assert_allclose(log_w, np.tile(expected, (5, 1)), **EXACT)
    terms = model.compute_terms(tf.constant(x), num_samples=5, seed=2)
    assert terms.kl.shape == (4, levels)
    # The mean of the KL of each group given the groups above: an ELBO with less noise.
    many = model.compute_terms(tf.constant(x), num_samples=20_000, seed=2)
    spread = np.abs(many.elbo - expected)
    # Draws of a KL in closed form and of log p(x|z) vary by about a nat.
    assert spread.max() < 4.0 * 1.5 / np.sqrt(20_000)


def test_the_kl_of_each_group_is_in_closed_form_given_those_above():
    levels = 3
    model = exact_ladder(levels, noise=0.2)
    x = tf.constant(evidence(levels).rvs(4, random_state=0))
    terms = model.compute_terms(x, num_samples=3, seed=2)
    groups, head = model.split(terms.draws.z), model.posterior_head
    expected = []
    for number in range(levels):
        loc, raw = head.parameters(model.encoder(x))[number]
        variance = (np.log1p(np.exp(raw)) + 1e-4) ** 2
        mean, prior_mean, prior_variance = loc.numpy(), 0.0, 1.0
        if number < levels - 1:
            conditional = model.prior_head.chain.conditionals[levels - 2 - number]
            p = conditional(groups[f"z{number + 2}"])
            prior_mean, prior_variance = p.mean().numpy(), p.variance().numpy()
            precision = 1.0 / variance + 1.0 / prior_variance
            mean = (loc / variance + prior_mean / prior_variance) / precision
            variance = 1.0 / precision
        ratio = variance / prior_variance
        kl = 0.5 * (ratio + (mean - prior_mean) ** 2 / prior_variance - 1.0 - np.log(ratio))
        expected.append(np.broadcast_to(np.sum(kl, axis=-1), (3, 4)).mean(axis=0))
    np.testing.assert_allclose(terms.kl, np.stack(expected, axis=-1), **EXACT)


def gradients(model, objective, repeats, copies):
    """Return gradients `[R, P]` by all weights, each the mean over a batch, at the same draws."""
    x = tf.constant(np.repeat(evidence(2).rvs(2, random_state=0), copies, axis=0))

    @tf.function(autograph=False)
    def one(seed):
        with tf.GradientTape() as tape:
            terms = model.compute_terms(x, objective.num_samples, training=True, seed=seed)
            loss = tf.reduce_mean(objective.loss(terms))
        found = tape.gradient(loss, model.trainable_variables)
        return tf.concat([tf.reshape(gradient, [-1]) for gradient in found], axis=0)

    return np.stack([one(tf.constant([5, r], tf.int32)) for r in range(repeats)])


def test_the_doubly_reparameterized_gradient_is_that_of_the_bound():
    # Also by the weights that posterior and prior share.
    model, repeats = exact_ladder(2, noise=0.15), 200
    estimators = ("doubly_reparameterized", "reparameterized")
    one, other = (
        gradients(model, ImportanceWeighted(3, name), repeats, copies=20) for name in estimators
    )
    difference = one - other
    error = difference.std(axis=0, ddof=1) / np.sqrt(repeats)
    # 98 weights at 4 standard errors (t, 199 degrees): 98 * 9e-5 = 9e-3 for a new seed.
    assert np.all(np.abs(difference.mean(axis=0)) < 4.0 * error + 1e-12)
    assert np.median(error) < 0.05 * np.abs(other.mean(axis=0)).max()


def test_no_noise_at_the_exact_posterior():
    model = exact_ladder(3)
    x = tf.constant(evidence(3).rvs(2, random_state=0))
    estimates = [w for layer in model.posterior_head.estimates for w in layer.trainable_variables]
    for objective in (
        ELBO(estimator="sticking_the_landing"),
        ImportanceWeighted(3, "doubly_reparameterized"),
    ):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(objective.loss(model.compute_terms(x, 3, True, seed=1)))
        for gradient in tape.gradient(loss, estimates):
            np.testing.assert_allclose(gradient, 0.0, atol=1e-9)


# Parts of a model.


def small_ladder(objective=None, pixels=PIXELS):
    keras.utils.set_random_seed(0)
    likelihood = kv.likelihoods.Bernoulli((pixels,))
    return kv.LadderVAE((2, 2, 1), (6, 5, 4), likelihood, depth=1, objective=objective)


def test_the_estimates_of_all_x_sum_to_one():
    model = small_ladder()
    for part in (model.posterior_head, model.decoder):
        randomize_by(part, 0.4)
    x = np.array(list(itertools.product([0.0, 1.0], repeat=PIXELS)))
    check_estimates_sum_to_one(model, x, num_samples=5_000, bound=0.2)


@pytest.mark.full
def test_x_enters_through_z_alone():
    model = small_ladder()
    z = tf.constant(np.random.default_rng(0).normal(size=(4, 5)))
    zeros, ones = (
        model.compute_terms(tf.fill([4, PIXELS], tf.cast(pixel, tf.float64))).draws
        for pixel in (0.0, 1.0)
    )
    np.testing.assert_array_equal(zeros.likelihood(z).mean(), ones.likelihood(z).mean())
    np.testing.assert_array_equal(zeros.p_z.log_prob(z), ones.p_z.log_prob(z))
    assert np.abs(zeros.q.log_prob(z) - ones.q.log_prob(z)).max() > 1e-3


def test_posterior_and_prior_share_their_conditionals(tmp_path):
    model = small_ladder()
    randomize(model.posterior_head)
    shared = {id(w) for w in model.prior_head.trainable_variables}
    assert shared < {id(w) for w in model.posterior_head.trainable_variables}
    parts = model.trainable_parts
    assert {id(w) for w in parts["prior"]} == shared
    every = [id(w) for part in parts.values() for w in part]
    assert len(every) == len(set(every)) == len(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.posterior_head.top_down is loaded.prior_head.chain
    x = np.eye(PIXELS)
    one, other = (m.log_weights(x, num_samples=3, seed=1) for m in (model, loaded))
    np.testing.assert_array_equal(one, other)


@pytest.mark.full
def test_another_prior_leaves_the_posterior_as_it_is(tmp_path):
    model, x = small_ladder(), np.eye(PIXELS)
    randomize(model.posterior_head)
    other = model.with_prior(kv.priors.StandardNormal(5))
    assert type(other) is kv.VAE
    z = model.compute_terms(tf.constant(x), 2, seed=1).draws.z
    change = other.prior().log_prob(z) - model.prior().log_prob(z)
    log_w, others = (m.log_weights(x, num_samples=2, seed=1) for m in (model, other))
    np.testing.assert_allclose(others - log_w, change, **EXACT)
    other.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.log_weights(x, num_samples=2, seed=1), others)


@pytest.mark.full
def test_two_replicas_equal_one_device(replicas):
    # Batches of 6 and 3, of which the second replica has one.
    x = np.random.default_rng(0).integers(0, 2, (9, PIXELS)).astype("float64")
    objective = lambda: ELBO(beta=0.5, kl_balancing="size")  # noqa: E731
    one = without_noise(small_ladder(objective()))
    with replicas.scope():
        two = without_noise(small_ladder(objective()))
    start = [weight.numpy() for weight in one.trainable_variables]
    for model in (one, two):
        with model.distribute_strategy.scope():
            model.compile(keras.optimizers.SGD(0.05), run_eagerly=True)
        model.fit(x, batch_size=6, shuffle=False, verbose=0)
    for before, a, b in zip(start, one.trainable_variables, two.trainable_variables, strict=True):
        assert np.abs(a.numpy() - before).max() > 1e-8, a.path
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=0, atol=1e-9)


def without_noise(model):
    """Let the draws of q(z|x) be the means along the ladder."""
    head = model.posterior_head

    def distribution(parameters, training=False):
        q = type(head).distribution(head, parameters, training)
        q._sample_n = lambda n, seed=None: q.draw_groups([n], seed, {}, {0: 0.0, 1: 0.0, 2: 0.0})
        return q

    head.distribution = distribution
    return model


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latent_dims": ()}, "`latent_dims` must be a non-empty tuple"),
        ({"latent_dims": (2, 0)}, "`latent_dims` must be a non-empty tuple of positive"),
        ({"hidden": (4,)}, "`hidden` must"),
        ({"depth": 0}, "`depth` must be an integer >= 1"),
        ({"likelihood": None}, "`likelihood` must be an instance of"),
    ],
)
def test_arguments_are_checked(changes, message):
    given = {"latent_dims": (2, 1), "hidden": (4, 3)}
    with pytest.raises(ValueError, match=message):
        kv.LadderVAE(**{**given, "likelihood": kv.likelihoods.Bernoulli((3,)), **changes})


def test_features_of_another_encoder_do_not_fit():
    with pytest.raises(ValueError, match="`features_shape` must have 7 features, those of levels"):
        kv.posteriors.Ladder((2, 1), (4, 3)).build((None, 8))
