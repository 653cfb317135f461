"""Gradients of models of discrete z, against sums over everything that can be drawn.

There are N^K ways to draw K samples of N values. Given all of them in one batch, each weighted by
its probability, an estimator's mean is exact: it is compared to rounding, not to standard errors.
"""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.distributions import discrete

ELBO, ImportanceWeighted = kv.objectives.ELBO, kv.objectives.ImportanceWeighted
EXACT = {"rtol": 1e-6, "atol": 1e-9}
SCALE, PIXELS = 0.7, 2
X = np.array([[0.3, -1.2], [1.4, 0.5]])
KINDS = ("Categorical", "Bernoulli")
SIZES = {"Categorical": (2, 3), "Bernoulli": (3,)}


def make_model(kind, objective=None, **kwargs):
    """Return a model of linear networks and random weights, its prior far from uniform."""
    model = kv.VAE(
        encoder=keras.layers.Dense(4),
        decoder=keras.layers.Dense(PIXELS),
        posterior=getattr(kv.posteriors, kind)(*SIZES[kind], **kwargs),
        prior=getattr(kv.priors, kind)(*SIZES[kind], learned=True),
        likelihood=kv.likelihoods.Normal((PIXELS,), scale=SCALE),
        objective=objective or kv.objectives.ExactMarginal(),
    )
    rng = np.random.default_rng(5)
    for weight in model.trainable_variables:
        weight.assign(rng.normal(0.0, 0.5, weight.shape))
    for controller in model.objective.controllers:
        controller.variable.assign(1.3)  # Any constant will do.
    return model


def all_values(kind):
    """Return all values of z as vectors `[N, F]`: 9 of F = 6 numbers, or 8 of 3."""
    if kind == "Bernoulli":
        return np.array(list(itertools.product((0.0, 1.0), repeat=3)))
    return np.array([np.concatenate(rows) for rows in itertools.product(np.eye(3), repeat=2)])


def log_table(kind, logits):
    """Return log-probabilities `[..., N]` of all values, of logits `[..., D (, K)]`."""
    values = all_values(kind)
    if kind == "Bernoulli":
        return -tf.einsum("...d,nd->...n", tf.math.softplus(logits), 1.0 - values) - tf.einsum(
            "...d,nd->...n", tf.math.softplus(-logits), values
        )
    log_p = logits - tf.reduce_logsumexp(logits, axis=-1, keepdims=True)
    return tf.einsum("...dk,ndk->...n", log_p, values.reshape(-1, *SIZES[kind]))


def tables(model, kind):
    """Return log p(x|z), log p(z), log q(z|x) at all values `[B, N]`, from the weights alone."""
    head, decoder = model.posterior_head, model.decoder
    # As tensors: an array times a weight would be an array, without gradient.
    x, values = tf.constant(X), tf.constant(all_values(kind))
    features = x @ model.encoder.kernel + model.encoder.bias
    logits = features @ head.logits.kernel + head.logits.bias
    log_q = log_table(kind, tf.reshape(logits, [len(X), *SIZES[kind]]))
    log_p_z = log_table(kind, tf.convert_to_tensor(model.prior_head.logits))
    errors = (x[:, None] - values @ decoder.kernel - decoder.bias) / SCALE
    constant = PIXELS * np.log(SCALE * np.sqrt(2.0 * np.pi))
    log_p_x = -0.5 * tf.reduce_sum(tf.square(errors), axis=-1) - constant
    return log_p_x, log_p_z[None] + tf.zeros_like(log_q), log_q


def exact_loss(model, kind, num_samples, elbo_weight=0.0):
    """Return the mean over x of -(1 - c) E[L_K] - c ELBO, by a sum over all K-tuples."""
    log_p_x, log_p_z, log_q = tables(model, kind)
    log_w = log_p_x + log_p_z - log_q
    chosen = tuples(kind, num_samples)
    probability = tf.exp(tf.reduce_sum(tf.gather(log_q, chosen, axis=1), axis=-1))  # [B, T]
    bound = tf.reduce_logsumexp(tf.gather(log_w, chosen, axis=1), axis=-1) - np.log(num_samples)
    bound = tf.reduce_sum(probability * bound, axis=1)
    elbo = tf.reduce_sum(tf.exp(log_q) * log_w, axis=1)
    return -tf.reduce_mean((1.0 - elbo_weight) * bound + elbo_weight * elbo)


def tuples(kind, num_samples):
    """Return all ways to draw, as numbers of values `[T, K]`."""
    count = len(all_values(kind))
    return np.array(list(itertools.product(range(count), repeat=num_samples)))


def flat(gradients):
    return np.concatenate([np.ravel(gradient) for gradient in gradients])


def gradient_of(model, value):
    with tf.GradientTape() as tape:
        loss = value()
    return float(loss), flat(tape.gradient(loss, model.trainable_variables))


def expected(model, kind, monkeypatch):
    """Return the mean of loss and gradient over everything that the objective can draw."""
    num_samples = model.objective.num_samples
    chosen = tuples(kind, num_samples)
    log_q = tables(model, kind)[2].numpy()
    probability = np.exp(log_q[:, chosen].sum(-1))  # [B, T]
    draws = all_values(kind)[chosen].transpose(1, 0, 2)  # [K, T, F]
    draws = np.concatenate([draws] * len(X), axis=1).reshape(
        num_samples, -1, *model.posterior_head.event_shape
    )
    whole = type(model.posterior_head).whole
    with monkeypatch.context() as patch:
        patch.setattr(whole, "_sample_n", lambda self, n, seed=None: tf.constant(draws))

        def loss():
            x = tf.constant(np.repeat(X, len(chosen), axis=0))
            terms = model.compute_terms(x, num_samples, training=True)
            losses = tf.reshape(model.objective.loss(terms), probability.shape)
            return tf.reduce_sum(probability * losses) / len(X)

        return gradient_of(model, loss)


def check(objective, num_samples, monkeypatch, kind="Categorical", elbo_weight=0.0):
    """The mean of loss and gradient are those of the bound with `num_samples`."""
    model = make_model(kind, objective)
    loss, gradient = gradient_of(
        model, lambda: exact_loss(model, kind, num_samples, elbo_weight=elbo_weight)
    )
    mean_loss, mean_gradient = expected(model, kind, monkeypatch)
    np.testing.assert_allclose(mean_loss, loss, **EXACT)
    assert np.count_nonzero(np.abs(gradient) > 1e-3) > 0.8 * len(gradient)
    np.testing.assert_allclose(mean_gradient, gradient, **EXACT)


# Objective, the K of the bound whose gradient it estimates.
SCORE = {"estimator": "score_function"}
OBJECTIVES = {
    "ELBO, moving average": (lambda: ELBO(**SCORE), 1),
    "ELBO, no baseline": (lambda: ELBO(**SCORE, baseline="none"), 1),
    "ELBO, leave one out": (lambda: ELBO(num_samples=3, **SCORE), 1),
    "L_1, moving average": (lambda: ImportanceWeighted(1, **SCORE), 1),
    "L_2, VIMCO": (lambda: ImportanceWeighted(2, **SCORE), 2),
    "L_3, VIMCO": (lambda: ImportanceWeighted(3, **SCORE), 3),
    "L_3, no baseline": (lambda: ImportanceWeighted(3, **SCORE, baseline="none"), 3),
}


ESTIMATED = [(name, "Categorical") for name in OBJECTIVES]
ESTIMATED += [("ELBO, moving average", "Bernoulli"), ("L_3, VIMCO", "Bernoulli")]


@pytest.mark.parametrize(("name", "kind"), ESTIMATED)
def test_estimators_have_the_right_mean(name, kind, monkeypatch):
    make, num_samples = OBJECTIVES[name]
    check(make(), num_samples, monkeypatch, kind)


def test_mixtures_of_bounds_have_the_right_mean(monkeypatch):
    check(ImportanceWeighted(2, **SCORE, elbo_weight=0.3), 2, monkeypatch, elbo_weight=0.3)


# Draws, values and gradients of true samples.


def sampler(model, copies):
    """Return a function of a seed, which draws the mean gradient `[P]` of `copies` of the data."""
    x = tf.constant(np.tile(X, (copies, 1)))

    @tf.function(autograph=False)
    def gradient(seed):
        with tf.GradientTape() as tape:
            terms = model.compute_terms(x, model.objective.num_samples, True, seed)
            loss = tf.reduce_mean(model.objective.loss(terms))
        found = tape.gradient(loss, model.trainable_variables)
        return tf.concat([tf.reshape(g, [-1]) for g in found], axis=0)

    return gradient


def sampled(gradient, repeats):
    """Return gradients `[repeats, P]`."""
    return np.stack([gradient(tf.constant([9, k], tf.int32)) for k in range(repeats)])


@pytest.mark.parametrize("kind", KINDS)
def test_log_weights_and_the_exact_likelihood(kind):
    model = make_model(kind)
    log_p_x, log_p_z, log_q = (table.numpy() for table in tables(model, kind))
    evidence = np.logaddexp.reduce(log_p_x + log_p_z, axis=1)
    terms = model.compute_terms(tf.constant(X))
    np.testing.assert_allclose(model.objective.loss(terms), -evidence, **EXACT)
    kl = (np.exp(log_q) * (log_q - log_p_z)).sum(axis=1)
    np.testing.assert_allclose(terms.kl_total, kl, **EXACT)
    assert terms.kl.shape == (len(X), model.posterior_head.latent_dim)
    log_w = model.log_weights(X, num_samples=4000, seed=1).numpy()
    # The mean weight is p(x): 2 numbers at 4 standard errors, 1.3e-4 for a new seed.
    weight = np.exp(log_w - evidence)
    assert np.all(np.abs(weight.mean(0) - 1.0) < 4.0 * weight.std(0) / np.sqrt(len(weight)))


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_relaxed_gradients_approach_the_exact_ones_with_the_temperature(kind):
    model = make_model(kind, ELBO(), temperature=2.0)
    exact = gradient_of(model, lambda: exact_loss(model, kind, 1))[1]
    gradient, errors, noise = sampler(model, copies=2000), [], []
    for temperature in (2.0, 0.5, 0.1):
        model.posterior_head.temperature.assign(temperature)
        draws = sampled(gradient, repeats=50)
        errors.append(np.linalg.norm(draws.mean(axis=0) - exact) / np.linalg.norm(exact))
        noise.append(np.linalg.norm(draws.std(axis=0)) / np.linalg.norm(exact))
    assert errors[0] > 2.0 * errors[1] > 4.0 * errors[2]
    assert errors[2] < 0.05
    assert noise[2] > noise[0]


@pytest.mark.first_is_quick
@pytest.mark.parametrize(
    ("with_baseline", "without", "factor"),
    [
        ("ELBO, moving average", "ELBO, no baseline", 0.8),
        ("L_3, VIMCO", "L_3, no baseline", 0.5),
    ],
)
def test_baselines_lower_the_variance(with_baseline, without, factor):
    models = [make_model("Categorical", OBJECTIVES[name][0]()) for name in (with_baseline, without)]
    exact = exact_loss(models[0], "Categorical", 1)
    for controller in models[0].objective.controllers:
        controller.variable.assign(exact - np.mean(models[0].compute_terms(X).kl_total))
    variances = [
        np.square(sampled(sampler(model, copies=50), repeats=200).std(axis=0)).sum()
        for model in models
    ]
    assert variances[0] < factor * variances[1]


def test_fit_with_the_exact_likelihood():
    objective = kv.objectives.ExactMarginal(fit_posterior=True)
    model = make_model("Categorical", objective)
    first = float(tf.reduce_mean(objective.loss(model.compute_terms(tf.constant(X)))))
    model.compile(keras.optimizers.Adam(0.05), jit_compile=False)
    model.fit(np.tile(X, (150, 1)), epochs=1, batch_size=2, verbose=0)
    log_p_x, log_p_z, log_q = (table.numpy() for table in tables(model, "Categorical"))
    evidence = np.logaddexp.reduce(log_p_x + log_p_z, axis=1)
    assert -evidence.mean() < first - 0.5
    gap = (np.exp(log_q) * (log_q + evidence[:, None] - log_p_x - log_p_z)).sum(axis=1)
    assert np.all(gap < 0.3)  # KL(q(z|x) || p(z|x)), of a linear encoder.


def test_the_exact_likelihood_alone_leaves_the_posterior_as_it_is():
    model = make_model("Categorical", kv.objectives.ExactMarginal(fit_posterior=False))
    weights = model.encoder.kernel, model.posterior_head.logits.kernel, model.decoder.kernel
    before = [weight.numpy() for weight in weights]
    model.compile(keras.optimizers.Adam(0.05), run_eagerly=True)
    model.fit(X, epochs=2, verbose=0)
    for weight, old in zip(weights[:2], before[:2], strict=True):
        np.testing.assert_array_equal(weight.numpy(), old)
    assert np.all(weights[2].numpy() != before[2])


def test_the_conditional_likelihood_is_summed_given_each_label():
    model = kv.ConditionalVAE(
        condition=3,
        encoder=keras.layers.Dense(4),
        decoder=keras.layers.Dense(PIXELS),
        posterior=kv.posteriors.Bernoulli(2),
        prior=kv.priors.Bernoulli(2, learned=True),
        likelihood=kv.likelihoods.Normal((PIXELS,), scale=SCALE),
        objective=kv.objectives.ExactMarginal(),
    )
    model.prior_head.logits.assign([0.4, -1.0])
    x, y = np.repeat(X, 3, axis=0), np.tile([0, 1, 2], 2)
    points = discrete.support(model.prior(y), 4)
    log_joint = [
        model.decode(np.tile(z, (6, 1)), y).log_prob(x) + model.prior(y).log_prob(z) for z in points
    ]
    terms = model.compute_terms(tf.constant(x), y=tf.constant(y, tf.float64))
    loss = model.objective.loss(terms)
    np.testing.assert_allclose(loss, -np.logaddexp.reduce(np.stack(log_joint)), **EXACT)
    assert len(np.unique(np.round(loss, 6))) == 6
