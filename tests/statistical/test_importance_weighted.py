"""The importance-weighted bound on the linear-Gaussian model: its order, its limit and its cost."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import special

import keras_vae as kv

ELBO, ImportanceWeighted = kv.objectives.ELBO, kv.objectives.ImportanceWeighted
NUM_SAMPLES = 20_000


def losses(case, objective, seed=1, copies=1):
    x = tf.constant(np.repeat(case.x, copies, axis=0))
    terms = case.model.compute_terms(x, objective.num_samples, training=True, seed=seed)
    return objective.loss(terms).numpy()


# L_1 <= L_2 <= ... -> log p(x).


def test_l_1_is_the_elbo_with_a_sampled_kl(generic):
    terms, _ = generic.terms(num_samples=1)
    sampled_elbo = terms.log_p_x - (terms.log_q - terms.log_p_z)
    for estimator in kv.objectives.estimators.ESTIMATORS:
        loss = losses(generic, ImportanceWeighted(1, estimator))
        np.testing.assert_allclose(loss, -sampled_elbo[0], rtol=1e-9)


def test_l_1_is_the_elbo_in_expectation(generic):
    copies = 5000
    loss = losses(generic, ImportanceWeighted(1), copies=copies).reshape(-1, copies)
    error = -loss.mean(axis=1) - generic.truth.elbo(generic.x, generic.q())
    # 4 examples at 4 standard errors: 4 * 6.3e-5 = 2.5e-4 for a new seed.
    assert np.all(np.abs(error) < 4.0 * loss.std(axis=1) / np.sqrt(copies))


def test_many_bounds_of_one_sample_are_the_elbo_of_many_samples(generic):
    loss = losses(generic, ImportanceWeighted(1, num_groups=7))
    log_w = generic.model.log_weights(generic.x, num_samples=7, seed=1)
    np.testing.assert_allclose(loss, -np.mean(log_w, axis=0), rtol=1e-9)
    weighted = losses(generic, ImportanceWeighted(7, elbo_weight=1.0))
    np.testing.assert_allclose(weighted, loss, rtol=1e-9)


def test_a_bound_is_no_less_than_those_of_one_sample_fewer(generic):
    # For any draws at all (Burda et al., 2016, appendix A): the mean of the L_K that leave one
    # sample out is no more than L_{K+1} of all of them.
    log_w = generic.model.log_weights(generic.x, num_samples=6, seed=3).numpy()
    for size in range(2, 7):
        fewer = [np.delete(log_w[:size], k, axis=0) for k in range(size)]
        bounds = np.mean([kv.bounds.importance_weighted(tf.constant(w)) for w in fewer], axis=0)
        assert np.all(bounds < kv.bounds.importance_weighted(tf.constant(log_w[:size])).numpy())


def test_every_bound_is_above_the_one_before_and_below_the_evidence(generic):
    copies, sizes = 4000, (1, 2, 4, 8, 16)
    log_w = generic.model.log_weights(
        np.repeat(generic.x, copies, axis=0), num_samples=16, seed=2
    ).numpy()
    bounds = np.stack(
        [special.logsumexp(log_w[:k], axis=0, b=1.0 / k).reshape(-1, copies) for k in sizes]
    )
    error = 4.0 * bounds.std(axis=2) / np.sqrt(copies)
    # 16 differences and 20 gaps, at 4 standard errors: 36 * 3.2e-5 = 1.2e-3 for a new seed.
    increase = np.diff(bounds, axis=0)
    assert np.all(increase.mean(axis=2) > -4.0 * increase.std(axis=2) / np.sqrt(copies))
    assert np.all(increase.mean(axis=(1, 2)) > 0.02)
    assert np.all(bounds.mean(axis=2) < generic.truth.log_evidence(generic.x) + error)


def test_the_bound_tends_to_the_evidence(cases):
    truth = cases.truth()
    case = cases.with_decoder(truth, truth.sample(4))
    shift, covariance = truth.posterior(np.zeros((1, 5)))
    slope = truth.posterior(np.eye(5))[0] - shift
    # Wide enough for weights of bounded variance, but wrong.
    cases.set_posterior(
        case.model, slope, shift[0] + 0.1, 1.5 * np.sqrt(np.diag(covariance)) * np.eye(2)
    )
    log_w = case.model.log_weights(case.x, num_samples=NUM_SAMPLES, seed=1).numpy()
    weights = np.exp(log_w - log_w.max(axis=0))
    relative = weights.std(axis=0) / weights.mean(axis=0) / np.sqrt(NUM_SAMPLES)
    for estimator in kv.objectives.estimators.ESTIMATORS:
        bound = -losses(case, ImportanceWeighted(NUM_SAMPLES, estimator))
        # 4 examples at 4 standard errors of a log: 2.5e-4 for a new seed.
        assert np.all(np.abs(bound - truth.log_evidence(case.x)) < 4.0 * relative)
    assert np.all(relative < 0.02)
    # The ELBO is far from that.
    assert np.all(truth.log_evidence(case.x) - truth.elbo(case.x, case.q()) > 0.15)


# Cost.


class Counting(keras.layers.Dense):
    """A dense layer that notes the batches of its forward and backward passes."""

    def __init__(self, units):
        super().__init__(units)
        self.forward, self.backward = [], []

    def call(self, inputs, training=None):
        outputs = super().call(inputs)
        self.forward.append(outputs.shape[0])

        def noted(gradient):
            self.backward.append(gradient.shape[0])
            return gradient

        return tf.custom_gradient(lambda y: (tf.identity(y), noted))(outputs)


OBJECTIVES = {
    "ELBO": lambda k: ELBO(num_samples=k),
    "ELBO STL": lambda k: ELBO(num_samples=k, estimator="sticking_the_landing"),
    "ELBO score": lambda k: ELBO(num_samples=k, estimator="score_function"),
    "L_K": lambda k: ImportanceWeighted(k),
    "L_K STL": lambda k: ImportanceWeighted(k, "sticking_the_landing"),
    "L_K DReG": lambda k: ImportanceWeighted(k, "doubly_reparameterized"),
    "L_K score": lambda k: ImportanceWeighted(k, "score_function"),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_encoder_runs_once_and_the_decoder_once_for_all_samples(name, num_samples=5):
    encoder, decoder = Counting(4), Counting(3)
    model = kv.VAE(
        encoder=encoder,
        decoder=decoder,
        posterior=kv.posteriors.DiagonalNormal(2),
        likelihood=kv.likelihoods.Normal((3,)),
        objective=OBJECTIVES[name](num_samples),
    )
    model.compile("sgd", run_eagerly=True)
    for layer in (encoder, decoder):
        layer.forward, layer.backward = [], []
    model.train_step(tf.zeros([6, 3], tf.float64))
    assert encoder.forward == encoder.backward == [6]
    assert decoder.forward == decoder.backward == [6 * num_samples]
