"""Objectives of discrete latent variables, against sums over all values of z."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.objectives import estimators

VARIABLES, CLASSES, PIXELS = 2, 3, 3
# All 9 values of z, [N, D, K].
POINTS = np.array([np.eye(CLASSES)[list(c)] for c in itertools.product(range(CLASSES), repeat=2)])


def make_model(objective, seed=0):
    """Return a model of random weights, its prior far from uniform."""
    keras.utils.set_random_seed(seed)
    model = kv.VAE(
        encoder=keras.layers.Dense(4),
        decoder=keras.layers.Dense(PIXELS),
        posterior=kv.posteriors.Categorical(VARIABLES, CLASSES),
        prior=kv.priors.Categorical(VARIABLES, CLASSES, learned=True),
        likelihood=kv.likelihoods.Normal((PIXELS,), scale=0.7),
        objective=objective,
    )
    rng = np.random.default_rng(seed)
    for weight in model.trainable_variables:
        weight.assign(weight.numpy() + rng.normal(0.0, 0.4, weight.shape))
    return model


def data():
    return tf.constant(np.random.default_rng(3).normal(size=(4, PIXELS)))


def log_joint_and_log_q(model, x):
    """Return log p(x, z) and log q(z|x) at all values, `[N, B]`, from the weights alone."""
    head, prior = model.posterior_head, model.prior_head
    features = x @ model.encoder.kernel + model.encoder.bias
    logits = tf.reshape(features @ head.logits.kernel + head.logits.bias, [-1, VARIABLES, CLASSES])
    log_q = tf.einsum(
        "ndk,bdk->nb", POINTS, logits - tf.reduce_logsumexp(logits, -1, keepdims=True)
    )
    prior_logits = tf.convert_to_tensor(prior.logits)
    normalized = prior_logits - tf.reduce_logsumexp(prior_logits, -1, keepdims=True)
    log_p_z = tf.einsum("ndk,dk->n", POINTS, normalized)
    points = tf.constant(POINTS.reshape(len(POINTS), -1))
    means = points @ model.decoder.kernel + model.decoder.bias
    squares = tf.reduce_sum(tf.square((x - means[:, None]) / 0.7), axis=-1)
    log_p_x = -0.5 * squares - PIXELS * np.log(0.7 * np.sqrt(2.0 * np.pi))
    return log_p_x + log_p_z[:, None], log_q


def exact_log_p_x(model, x):
    return tf.reduce_logsumexp(log_joint_and_log_q(model, x)[0], axis=0)


def exact_bound(model, x, num_samples):
    """Return E[L_K], `[B]`, by a sum over all K-tuples of values."""
    log_joint, log_q = log_joint_and_log_q(model, x)
    log_w, total = log_joint - log_q, 0.0
    for chosen in itertools.product(range(len(POINTS)), repeat=num_samples):
        weights = tf.stack([log_w[n] for n in chosen])
        probability = tf.exp(tf.add_n([log_q[n] for n in chosen]))
        bound = tf.reduce_logsumexp(weights, axis=0) - np.log(num_samples)
        total += probability * bound
    return total


def flat(model, gradients):
    pairs = zip(gradients, model.trainable_variables, strict=True)
    return np.concatenate(
        [np.zeros(v.shape).ravel() if g is None else np.ravel(g) for g, v in pairs]
    )


def exact_gradient(model, x, value):
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(value(model, x))
    return flat(model, tape.gradient(loss, model.trainable_variables))


def sampled(model, x, repeats):
    """Return losses `[repeats]` and gradients `[repeats, P]` of the objective."""

    @tf.function(autograph=False)
    def step(seed):
        with tf.GradientTape() as tape:
            terms = model.compute_terms(x, model.objective.num_samples, True, seed)
            loss = tf.reduce_mean(model.objective.loss(terms))
        found = tape.gradient(loss, model.trainable_variables, unconnected_gradients="zero")
        return loss, tf.concat([tf.reshape(g, [-1]) for g in found], axis=0)

    losses, gradients = zip(*(step(tf.constant([5, k])) for k in range(repeats)), strict=True)
    return np.array(losses), np.array(gradients)


def check(objective, num_samples, repeats=3000):
    """The mean loss and the mean gradient are those of E[L_K], K = `num_samples`."""
    model, x = make_model(objective), data()
    losses, gradients = sampled(model, x, repeats)
    expected = -tf.reduce_mean(exact_bound(model, x, num_samples))
    # 4 standard errors of one number: 6.3e-5 for a new seed; and of some 60: 4e-3.
    assert abs(losses.mean() - expected) < 4.0 * losses.std() / np.sqrt(repeats) + 1e-9
    exact = exact_gradient(model, x, lambda m, x: exact_bound(m, x, num_samples))
    error = np.abs(gradients.mean(axis=0) - exact)
    assert np.all(error < 4.0 * gradients.std(axis=0) / np.sqrt(repeats) + 1e-9)
    assert np.abs(exact).max() > 0.1
    return gradients.std(axis=0).mean()


OBJECTIVES = {
    "ELBO, leave one out": lambda: kv.objectives.ELBO(num_samples=3, estimator="score_function"),
    "ELBO, moving average": lambda: kv.objectives.ELBO(estimator="score_function"),
    "ELBO, no baseline": lambda: kv.objectives.ELBO(estimator="score_function", baseline="none"),
    "L_1": lambda: kv.objectives.ImportanceWeighted(1, "score_function"),
}
BOUNDS = {
    "VIMCO": lambda: kv.objectives.ImportanceWeighted(2, "score_function"),
    "VIMCO of 2 groups": lambda: kv.objectives.ImportanceWeighted(
        2, "score_function", num_groups=2
    ),
    "no baseline": lambda: kv.objectives.ImportanceWeighted(2, "score_function", baseline="none"),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_elbo_and_its_gradient(name):
    check(OBJECTIVES[name](), num_samples=1)


@pytest.mark.parametrize("name", BOUNDS)
def test_the_bound_of_two_samples_and_its_gradient(name):
    check(BOUNDS[name](), num_samples=2)


def test_baselines_lower_the_variance():
    model, x = make_model(BOUNDS["VIMCO"]()), data()
    with_baseline = sampled(model, x, 300)[1].std(axis=0).mean()
    without = sampled(make_model(BOUNDS["no baseline"]()), x, 300)[1].std(axis=0).mean()
    assert with_baseline < 0.7 * without


# Exact enumeration.


def test_the_exact_marginal_is_the_likelihood():
    model, x = make_model(kv.objectives.ExactMarginal()), data()
    loss = model.objective.loss(model.compute_terms(x))
    np.testing.assert_allclose(loss, -exact_log_p_x(model, x), rtol=1e-6)


def test_the_exact_marginal_has_the_gradient_of_the_likelihood():
    model, x = make_model(kv.objectives.ExactMarginal(fit_posterior=False)), data()
    _, gradients = sampled(model, x, 2)
    exact = exact_gradient(model, x, exact_log_p_x)
    np.testing.assert_allclose(gradients[0], exact, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(gradients[0], gradients[1])


def test_the_exact_marginal_teaches_the_encoder_the_exact_posterior():
    model, x = make_model(kv.objectives.ExactMarginal()), data()

    def cross_entropy(model, x):
        log_joint, log_q = log_joint_and_log_q(model, x)
        posterior = tf.stop_gradient(tf.nn.softmax(log_joint, axis=0))
        return tf.reduce_logsumexp(log_joint, axis=0) + tf.reduce_sum(posterior * log_q, axis=0)

    gradient = sampled(model, x, 1)[1][0]
    exact = exact_gradient(model, x, cross_entropy)
    np.testing.assert_allclose(gradient, exact, rtol=1e-6, atol=1e-9)


def test_too_many_points_and_continuous_priors_are_refused():
    with pytest.raises(ValueError, match=r"`max_points` must be .*max_points=8"):
        model = make_model(kv.objectives.ExactMarginal(max_points=8))
        model.objective.loss(model.compute_terms(data()))
    model = kv.VAE(
        encoder=keras.layers.Dense(4),
        decoder=keras.layers.Dense(PIXELS),
        posterior=kv.posteriors.DiagonalNormal(2),
        likelihood=kv.likelihoods.Normal((PIXELS,)),
        objective=kv.objectives.ExactMarginal(),
    )
    with pytest.raises(ValueError, match="independent discrete variables"):
        model.objective.loss(model.compute_terms(data()))


def test_a_pathwise_objective_with_whole_draws_is_refused():
    with pytest.raises(ValueError, match=r"`objective` must not need gradients.*score_function"):
        make_model(kv.objectives.ELBO())


@pytest.mark.parametrize("estimator", ["score_function", "reparameterized"])
def test_extreme_logits_leave_losses_and_gradients_finite(estimator):
    temperature = None if estimator == "score_function" else 0.5
    model = kv.VAE(
        encoder=keras.layers.Dense(4),
        decoder=keras.layers.Dense(PIXELS),
        posterior=kv.posteriors.Categorical(VARIABLES, CLASSES, temperature=temperature),
        prior=kv.priors.Categorical(VARIABLES, CLASSES, learned=True),
        likelihood=kv.likelihoods.Normal((PIXELS,), scale=0.7),
        objective=kv.objectives.ELBO(num_samples=2, estimator=estimator),
    )
    model.posterior_head.logits.bias.assign([1e4, -1e4, 0.0, -1e4, 0.0, 1e4])
    losses, gradients = sampled(model, data(), 3)
    assert np.isfinite(losses).all() and np.isfinite(gradients).all()


# Mutants: the check rejects estimators that are wrong.


def wrong_sign(monkeypatch):
    right = kv.bounds.with_gradient_of
    monkeypatch.setattr(kv.bounds, "with_gradient_of", lambda value, s: right(value, -s))


def no_score(monkeypatch):
    monkeypatch.setattr(kv.bounds, "with_gradient_of", lambda value, surrogate: value)


def baseline_of_all_samples(monkeypatch):
    def own_included(log_w):
        bound = kv.bounds.importance_weighted(log_w)
        return tf.stop_gradient(tf.zeros_like(log_w) + bound)

    monkeypatch.setattr(kv.bounds, "leave_one_out_bound", own_included)


def score_of_one_sample(monkeypatch):
    right = estimators.ScoreFunction.bound

    def bound(self, log_w, terms, baseline=0.0):
        first = tf.concat([terms.log_q[:1], tf.stop_gradient(terms.log_q[1:])], axis=0)
        return right(self, log_w, terms._replace(log_q=first), baseline)

    monkeypatch.setattr(estimators.ScoreFunction, "bound", bound)


def lost_log_k(monkeypatch):
    monkeypatch.setattr(
        kv.bounds, "importance_weighted", lambda log_w: tf.reduce_logsumexp(log_w, axis=0)
    )


@pytest.mark.parametrize(
    "mutate", [wrong_sign, no_score, baseline_of_all_samples, score_of_one_sample, lost_log_k]
)
def test_a_wrong_estimator_is_rejected(monkeypatch, mutate):
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        check(BOUNDS["VIMCO"](), num_samples=2)
