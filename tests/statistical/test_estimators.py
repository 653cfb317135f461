"""Every objective's loss, and the mean of every estimator's gradient, against quadrature.

With one latent dimension, the expectation over K samples of z is an integral over K numbers, which
the nodes of Gauss and Hermite give to ten digits. It is written again here, with nothing of the
package but the model's variables; its gradient is by automatic differentiation.
"""

import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv

ELBO, ImportanceWeighted = kv.objectives.ELBO, kv.objectives.ImportanceWeighted

REPEATS, COPIES = 100, 100
NUM_WEIGHTS = 27
EXACT = {"rtol": 1e-6, "atol": 1e-9}


def make_case(cases, objective, **kwargs):
    truth = cases.truth(num_pixels=3, latent_dim=1)
    likelihood = kv.likelihoods.Normal((3,), scale="shared", initial_scale=0.7)
    case = cases.with_decoder(
        truth, truth.sample(3), likelihood=likelihood, objective=objective, **kwargs
    )
    for controller in objective.controllers:
        controller.variable.assign(2.5)  # Close to the loss of this case: a useful baseline.
    return case


def exact_loss(case, num_samples, elbo_weight=0.0, held=False, num_nodes=40):
    """Return the mean over x of -(1 - c) E[L_K] - c ELBO.

    With `held=True`, no gradient passes to the parameters of the density q, only through z.
    """
    model, x = case.model, tf.constant(case.x)
    head, decoder = model.posterior_head, model.decoder
    nodes, weights = np.polynomial.hermite_e.hermegauss(num_nodes)
    weights /= weights.sum()
    features = x @ model.encoder.kernel + model.encoder.bias
    mean = features @ head.loc.kernel + head.loc.bias  # [B, 1]
    scale = tf.math.softplus(features @ head.raw_scale.kernel + head.raw_scale.bias) + 1e-4
    z = mean + scale * nodes  # [B, N]
    if held:
        mean, scale = tf.stop_gradient(mean), tf.stop_gradient(scale)
    log_q = -0.5 * tf.square((z - mean) / scale) - tf.math.log(scale)
    log_p_z = -0.5 * tf.square(z)
    noise = tf.math.softplus(tf.convert_to_tensor(model.likelihood_head.raw_scale)) + 1e-4
    errors = (x[:, None] - z[..., None] * decoder.kernel[0] - decoder.bias) / noise
    log_p_x = -0.5 * tf.square(errors) - tf.math.log(noise) - 0.5 * np.log(2.0 * np.pi)
    log_w = tf.reduce_sum(log_p_x, axis=-1) + log_p_z - log_q  # [B, N]
    log_sum, joint = log_w, weights
    for k in range(1, num_samples):  # One more axis for every sample.
        another = tf.reshape(log_w, [len(x), *[1] * k, num_nodes])
        log_sum = log_sum[..., None]
        log_sum += tf.math.softplus(another - log_sum)
        joint = joint[..., None] * weights
    bound = tf.reduce_sum(joint * log_sum, axis=range(1, num_samples + 1)) - np.log(num_samples)
    elbo = tf.reduce_sum(weights * log_w, axis=1)
    return -tf.reduce_mean((1.0 - elbo_weight) * bound + elbo_weight * elbo)


# By name: the objective, and the arguments of its exact loss.
OBJECTIVES = {
    "ELBO": (lambda: ELBO(num_samples=2), (1,)),
    "ELBO STL": (lambda: ELBO(estimator="sticking_the_landing"), (1,)),
    "ELBO score, average": (lambda: ELBO(estimator="score_function"), (1,)),
    "ELBO score, others": (lambda: ELBO(num_samples=3, estimator="score_function"), (1,)),
    "ELBO score, none": (lambda: ELBO(estimator="score_function", baseline="none"), (1,)),
    "L_1 STL": (lambda: ImportanceWeighted(1, "sticking_the_landing"), (1,)),
    "L_1 score, average": (lambda: ImportanceWeighted(1, "score_function"), (1,)),
    "L_2 score, none": (lambda: ImportanceWeighted(2, "score_function", baseline="none"), (2,)),
    "L_3": (lambda: ImportanceWeighted(3), (3,)),
    "L_3 DReG": (lambda: ImportanceWeighted(3, "doubly_reparameterized"), (3,)),
    "L_3 score": (lambda: ImportanceWeighted(3, "score_function"), (3,)),
    "MIWAE DReG": (
        lambda: ImportanceWeighted(3, "doubly_reparameterized", num_groups=2),
        (3,),
    ),
    "MIWAE score": (lambda: ImportanceWeighted(2, "score_function", num_groups=3), (2,)),
    "CIWAE": (lambda: ImportanceWeighted(2, elbo_weight=0.3), (2, 0.3)),
    "CIWAE score": (lambda: ImportanceWeighted(2, "score_function", elbo_weight=0.3), (2, 0.3)),
}


def assert_means(draws, expected):
    """Assert that the means of `[R, ...]` are as expected."""
    error = np.abs(draws.mean(axis=0) - expected)
    # 28 numbers at 4 standard errors, t with 99 degrees of freedom: 28 * 1.2e-4 = 3.4e-3 for a new
    # seed. An expectation without noise is equal to rounding.
    tolerance = 4.0 * draws.std(axis=0, ddof=1) / np.sqrt(len(draws)) + 1e-9
    assert np.all(error < tolerance), (error / tolerance).max()


def check(case, exact):
    """Check the loss, and its gradient by all weights of encoder and decoder."""
    losses, gradients = case.sampled(REPEATS, copies=COPIES)
    value, gradient = case.loss_and_gradient(exact)
    assert gradients.shape[1] == NUM_WEIGHTS
    assert_means(losses, value)
    assert_means(gradients, gradient)


def check_objective(cases, name):
    make_objective, arguments = OBJECTIVES[name]
    case = make_case(cases, make_objective())
    check(case, lambda: exact_loss(case, *arguments))


# The oracle.


def test_the_oracle_is_the_negative_elbo_for_one_sample(cases):
    case = make_case(cases, ELBO())
    expected = -case.learned().elbo(case.x, case.q()).mean()
    np.testing.assert_allclose(exact_loss(case, 1), expected, **EXACT)
    np.testing.assert_allclose(exact_loss(case, 2, elbo_weight=1.0), expected, **EXACT)


@pytest.mark.parametrize("num_samples", [2, 3])
def test_the_oracle_has_nodes_enough(cases, num_samples):
    case = make_case(cases, ELBO())
    coarse, fine = (
        case.loss_and_gradient(lambda n=n: exact_loss(case, num_samples, num_nodes=n))
        for n in (40, 60)
    )
    np.testing.assert_allclose(coarse[0], fine[0], rtol=1e-10)
    np.testing.assert_allclose(coarse[1], fine[1], rtol=1e-8, atol=1e-10)


def test_the_oracle_at_the_exact_posterior_is_the_evidence(cases):
    truth = cases.truth(num_pixels=3, latent_dim=1)
    likelihood = kv.likelihoods.Normal((3,), scale="shared", initial_scale=float(truth.s))
    case = cases.exact(truth, truth.sample(3), likelihood=likelihood)
    evidence = truth.log_evidence(case.x).mean()
    for num_samples in (1, 2, 3):
        np.testing.assert_allclose(exact_loss(case, num_samples), -evidence, **EXACT)


def test_the_oracle_tells_the_bounds_apart(cases):
    case = make_case(cases, ELBO())
    evidence = -case.learned().log_evidence(case.x).mean()
    losses = [float(exact_loss(case, k)) for k in (1, 2, 3)]
    assert losses[0] > losses[1] + 0.01 > losses[2] + 0.02 > evidence + 0.03


# The package.


@pytest.mark.parametrize("name", OBJECTIVES)
def test_loss_and_gradients_are_exact_in_the_mean(cases, name):
    check_objective(cases, name)


@pytest.mark.parametrize("num_samples", [1, 3])
def test_the_score_function_of_a_sampled_kl(cases, num_samples):
    # N(0, 1) in the disguise of a mixture, of which no KL is known in closed form.
    prior = kv.priors.MixtureOfNormals(1, num_components=2)
    objective = ELBO(num_samples=num_samples, estimator="score_function")
    case = make_case(cases, objective, prior=prior)
    prior.locs.assign([[0.0], [0.0]])
    prior.trainable = False
    assert not case.model.compute_terms(tf.constant(case.x)).draws.kl_is_exact
    check(case, lambda: exact_loss(case, 1))


@pytest.mark.parametrize("estimator", ["reparameterized", "score_function"])
def test_the_weight_of_the_kl_counts_in_the_gradients(cases, estimator):
    case = make_case(cases, ELBO(beta=3.0, estimator=estimator))

    def exact():
        kl = case.model.compute_terms(tf.constant(case.x)).kl_total  # In closed form.
        return exact_loss(case, 1) + 2.0 * tf.reduce_mean(kl)

    check(case, exact)


def test_sticking_the_landing_is_biased_for_the_encoder_alone(cases):
    case = make_case(cases, ImportanceWeighted(2, "sticking_the_landing"))
    losses, gradients = case.sampled(REPEATS, copies=COPIES)
    value, gradient = case.loss_and_gradient(lambda: exact_loss(case, 2))
    encoder = of_encoder(case.model)
    assert_means(losses, value)
    assert_means(gradients[:, ~encoder], gradient[~encoder])
    # Not a little: half of the encoder's weights are further off than a fifth of the gradient.
    gradient = gradient.numpy()
    bias = np.abs(gradients.mean(axis=0) - gradient)
    assert np.median((bias / np.abs(gradient))[encoder]) > 0.2
    # What it lacks is the gradient by the parameters of the density.
    _, expected = case.loss_and_gradient(lambda: exact_loss(case, 2, held=True))
    assert_means(gradients, expected)


def of_encoder(model):
    """Return which of the weights `[P]` are those of q(z|x)."""
    own = {id(v) for layer in (model.encoder, model.posterior_head) for v in layer.weights}
    return np.concatenate(
        [np.full(np.prod(v.shape, dtype=int), id(v) in own) for v in model.trainable_variables]
    )
