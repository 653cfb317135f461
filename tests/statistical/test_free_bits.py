"""The weight and the floor of the KL: values and gradients, on constructed KLs."""

import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from tests.small_models import make_vae

EXACT = {"rtol": 1e-6, "atol": 1e-12}
FLOOR = 0.5
KL = np.array([[0.1, 2.0, 0.9], [0.3, 4.0, 0.4], [0.2, 0.3, 0.2]])  # B = 3, G = 3
LOG_P_X = np.array([[-3.0, -4.0, -5.0], [-5.0, -4.0, -9.0]])  # S = 2


def per_dimension(kl, floor):
    return sum(max(floor, np.mean(column)) for column in kl.T)


def per_example(kl, floor):
    return np.mean([sum(max(floor, value) for value in row) for row in kl])


def batch_averaged(kl, floor):
    return max(floor, np.mean([sum(row) for row in kl]))


FORMULAS = {
    "per_dimension": per_dimension,
    "per_example": per_example,
    "batch_averaged": batch_averaged,
}
# What counts, by hand, with a floor of 0.5 (of 3.0 for the whole): the KLs above the floor. The
# batch means are 0.2, 2.1 and 0.5 (a tie, so moved), their sum 2.8.
ABOVE = {
    "per_dimension": [[0, 1, 1], [0, 1, 1], [0, 1, 1]],
    "per_example": [[0, 1, 1], [0, 1, 0], [0, 0, 0]],
}


def terms(kl):
    zeros = tf.zeros_like(LOG_P_X)
    return kv.Terms(log_p_x=tf.constant(LOG_P_X), log_p_z=zeros, log_q=zeros, kl=kl)


def loss_and_gradient(kl, **kwargs):
    kl = tf.constant(kl)
    with tf.GradientTape() as tape:
        tape.watch(kl)
        loss = tf.reduce_mean(kv.objectives.ELBO(**kwargs).loss(terms(kl)))
    return loss.numpy(), tape.gradient(loss, kl).numpy()


@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_beta_weighs_the_kl_of_every_example(beta):
    loss = kv.objectives.ELBO(beta).loss(terms(tf.constant(KL)))
    np.testing.assert_allclose(loss, [4.0, 4.0, 7.0] + beta * KL.sum(axis=1), **EXACT)


def test_gradient_of_the_kl_is_beta():
    _, gradient = loss_and_gradient(KL, beta=4.0)
    np.testing.assert_allclose(gradient, np.full((3, 3), 4.0 / 3.0), **EXACT)


@pytest.mark.parametrize("floor", [0.0, 0.45, 0.6, 3.5, 50.0])
@pytest.mark.parametrize("mode", FORMULAS)
def test_mean_loss_is_the_formula(mode, floor):
    loss, _ = loss_and_gradient(KL, beta=2.0, free_bits=floor, free_bits_mode=mode)
    np.testing.assert_allclose(loss, 5.0 + 2.0 * FORMULAS[mode](KL, floor), **EXACT)


@pytest.mark.parametrize("mode", ABOVE)
def test_gradient_is_zero_below_the_floor_and_beta_above(mode):
    kl = KL + [[0.0, 0.0, 0.01]]
    _, gradient = loss_and_gradient(kl, beta=2.0, free_bits=FLOOR, free_bits_mode=mode)
    np.testing.assert_allclose(gradient, 2.0 / 3.0 * np.array(ABOVE[mode]), **EXACT)


@pytest.mark.parametrize("floor, weight", [(2.7, 2.0 / 3.0), (2.9, 0.0)])
def test_gradient_of_a_floor_of_the_whole_kl_is_all_or_nothing(floor, weight):
    _, gradient = loss_and_gradient(KL, beta=2.0, free_bits=floor, free_bits_mode="batch_averaged")
    np.testing.assert_allclose(gradient, np.full((3, 3), weight), **EXACT)


@pytest.mark.parametrize("mode", FORMULAS)
def test_gradient_is_that_of_the_formula(mode):
    floor = {"per_dimension": 0.45, "per_example": 0.35, "batch_averaged": 2.0}[mode]
    _, gradient = loss_and_gradient(KL, free_bits=floor, free_bits_mode=mode)
    for index in np.ndindex(KL.shape):
        step = np.zeros_like(KL)
        step[index] = 1e-6
        slope = (FORMULAS[mode](KL + step, floor) - FORMULAS[mode](KL - step, floor)) / 2e-6
        np.testing.assert_allclose(gradient[index], slope, atol=1e-8)


@pytest.mark.parametrize("mode", FORMULAS)
def test_no_floor_leaves_a_negative_sampled_kl_alone(mode):
    loss, gradient = loss_and_gradient(KL - 5.0, free_bits_mode=mode)
    np.testing.assert_allclose(loss, 5.0 + np.sum(KL - 5.0) / 3.0, **EXACT)
    np.testing.assert_allclose(gradient, np.full((3, 3), 1.0 / 3.0), **EXACT)


def test_free_bits_do_not_reach_the_elbo_that_is_reported():
    constructed = terms(tf.constant(KL))
    kv.objectives.ELBO(beta=4.0, free_bits=50.0).loss(constructed)
    np.testing.assert_allclose(constructed.elbo, [-4.0, -4.0, -7.0] - KL.sum(axis=1), **EXACT)


def test_a_dimension_below_the_floor_feels_the_reconstruction_alone(cases):
    truth = cases.truth()
    case = cases.with_decoder(truth, truth.sample(4))
    slope = np.stack([np.ones(5), np.zeros(5)], axis=1)
    cases.set_posterior(case.model, slope, np.array([1.0, 0.1]), np.diag([0.3, 0.9]))
    kl = case.q().kl().mean(axis=0)
    assert kl[0] > FLOOR > kl[1]
    with_floor, without = (
        bias_gradient(case, kv.objectives.ELBO(free_bits=floor)) for floor in (FLOOR, 0.0)
    )
    pull_to_prior = case.q().mean.mean(axis=0)  # dKL/dm = m, of the batch mean
    np.testing.assert_allclose(with_floor[0], without[0], **EXACT)
    np.testing.assert_allclose(with_floor[1], without[1] - pull_to_prior[1], **EXACT)


def bias_gradient(case, objective):
    with tf.GradientTape() as tape:
        loss = objective.loss(case.model.compute_terms(tf.constant(case.x), 3, seed=2))
        loss = tf.reduce_mean(loss)
    return tape.gradient(loss, case.model.posterior_head.loc.bias)


# Mutants: other readings of "free bits" differ from the formula on these KLs.


@pytest.mark.parametrize("mode", FORMULAS)
def test_the_modes_differ_from_each_other_here(mode):
    values = [FORMULAS[other](KL, 0.6) for other in FORMULAS]
    assert len(np.unique(np.round(values, 6))) == len(FORMULAS)


# Balancing: the weights of the groups while β < 1.

MEANS = KL.mean(axis=0)


def balanced(alpha):
    """Return the weights of the three groups by hand."""
    ratio = (MEANS + 0.01) / alpha
    return 3.0 * ratio / ratio.sum()


@pytest.mark.parametrize("floor", [0.0, 0.45])
@pytest.mark.parametrize("balancing, alpha", [("equal", np.ones(3)), ((1.0, 4.0, 16.0),) * 2])
def test_balancing_weighs_groups_by_their_share_of_the_kl(balancing, alpha, floor):
    weights = balanced(np.array(alpha))
    np.testing.assert_allclose(weights.mean(), 1.0, **EXACT)
    options = {"kl_balancing": balancing, "free_bits": floor}
    loss, gradient = loss_and_gradient(KL, beta=0.5, **options)
    floored = np.maximum(MEANS, floor)
    np.testing.assert_allclose(loss, 5.0 + 0.5 * weights @ floored, **EXACT)
    # None through the weights, and none below the floor.
    expected = 0.5 / 3.0 * weights * (floor < MEANS)
    np.testing.assert_allclose(gradient, np.tile(expected, (3, 1)), **EXACT)


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_nothing_is_balanced_once_beta_is_one(beta):
    for found, expected in zip(
        loss_and_gradient(KL, beta=beta, kl_balancing="equal"),
        loss_and_gradient(KL, beta=beta),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, **EXACT)


def test_a_sampled_kl_below_zero_counts_as_zero_for_the_weights():
    weights = kv.bounds.balancing_weights(tf.constant([-5.0, 0.99]))
    np.testing.assert_allclose(weights, [2.0 * 0.01 / 1.01, 2.0 / 1.01], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kl_balancing": "square"}, "`kl_balancing` must be 'equal', 'size', a positive number"),
        ({"kl_balancing": [1.0, 0.0]}, "`kl_balancing` must be a finite number > 0"),
        (
            {"kl_balancing": "equal", "free_bits_mode": "batch_averaged"},
            "`kl_balancing` must be None with free_bits_mode='batch_averaged'",
        ),
    ],
)
def test_balancing_is_checked(options, message):
    with pytest.raises(ValueError, match=message):
        kv.objectives.ELBO(**options)


def test_balancing_needs_as_many_groups():
    with pytest.raises(ValueError, match="`kl_balancing` must have 3 numbers"):
        kv.objectives.ELBO(kl_balancing=(1.0, 2.0)).loss(terms(tf.constant(KL)))
    with pytest.raises(ValueError, match="`kl_balancing` needs the KL of several groups"):
        kv.objectives.ELBO(kl_balancing="size").loss(terms(tf.constant(KL)))
    model = make_vae(objective=kv.objectives.ELBO(kl_balancing="equal"))
    with pytest.raises(ValueError, match="`kl_balancing` needs the KL of several groups"):
        model.objective.loss(model.compute_terms(tf.zeros([2, 8, 8, 1], "float64")))
