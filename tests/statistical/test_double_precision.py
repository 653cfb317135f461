"""Numbers that users give are not rounded to float32 on their way into a float64 model."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import keras_vae as kv
from keras_vae.controllers import ScheduledValue

X = np.random.default_rng(0).uniform(size=(4, 3))
FEATURES = tf.constant(X)
KL = np.array([[0.01, 0.4], [0.05, 0.7]])
UNIT = stats.norm.logpdf(X).sum(axis=-1)  # of the standard normal


def likelihood(**arguments):
    return kv.likelihoods.Normal((3,), **arguments)(tf.zeros_like(FEATURES)).log_prob(X)


def normal(scale):
    return stats.norm.logpdf(X, scale=scale).sum(axis=-1)


def mean_kernel(kernel, a, b):
    distances = np.square(a[:, None] - b).sum(axis=-1)
    return kernel(distances)[~np.eye(len(a), dtype=bool) if a is b else ...].mean()


def mmd_by_hand(kernel):
    y = 0.5 * X
    own = mean_kernel(kernel, X, X) + mean_kernel(kernel, y, y)
    return own - 2.0 * mean_kernel(kernel, X, y)


def of_zero(head, *arguments):
    """Return log q(x|0) of a posterior, whose parameters are then their initial biases."""
    return head(*arguments)(tf.zeros_like(FEATURES)).log_prob(X)


def loss(objective):
    zeros = tf.zeros([1, 2], tf.float64)
    return objective.loss(kv.Terms(zeros, zeros, zeros, tf.constant(KL)))


def after_step(schedule):
    beta = ELBO().beta
    ScheduledValue("beta", beta, schedule).before_step(tf.constant(1))
    return beta


def mixture():
    prior = kv.priors.MixtureOfNormals(3, 1)
    prior.build()
    prior.locs.assign(tf.zeros_like(prior.locs))
    return prior().log_prob(X)


def gamma():
    prior = kv.priors.TwoStage(3)
    prior.build()
    return prior.gamma


ELBO = kv.objectives.ELBO
PLACES = {
    "fixed scale": (lambda: likelihood(scale=0.1), normal(0.1)),
    "shared scale": (lambda: likelihood(scale="shared", initial_scale=0.1), normal(0.1)),
    "scale of each": (lambda: likelihood(scale="per_dimension", initial_scale=0.3), normal(0.3)),
    "diagonal posterior": (lambda: of_zero(kv.posteriors.DiagonalNormal, 3), UNIT),
    "full posterior": (lambda: of_zero(kv.posteriors.FullCovarianceNormal, 3), UNIT),
    "conditional prior": (lambda: kv.priors.ConditionalNormal(3)(FEATURES).log_prob(X), UNIT),
    "mixture prior": (mixture, UNIT),
    "two-stage prior": (gamma, 1.0),
    "free bits": (lambda: loss(ELBO(free_bits=0.1)), [0.5, 0.8]),
    "beta": (lambda: loss(ELBO(0.3)), 0.3 * KL.sum(axis=-1)),
    "floor": (lambda: kv.bounds.free_bits(KL, 0.1, KL.mean(axis=0)), [0.5, 0.8]),
    "kappa": (lambda: kv.objectives.SquaredError(0.3).tolerance(), 0.09),
    "bandwidth": (
        lambda: kv.penalties.mmd(FEATURES, 0.5 * FEATURES, "rbf", 0.3),
        mmd_by_hand(lambda squared: np.exp(-squared / 0.18)),
    ),
    "bandwidth, imq": (
        lambda: kv.penalties.mmd(FEATURES, 0.5 * FEATURES, "imq", math.sqrt(3.0)),
        mmd_by_hand(lambda squared: 6.0 / (6.0 + squared)),
    ),
    "schedule": (lambda: after_step(kv.schedules.Linear(0.0, 0.7, 7)), 0.1),
    "function": (lambda: after_step(lambda step: 0.1), 0.1),
    "scaled rate": (lambda: kv.callbacks.LinearScaling(3.0, 2, base_lr=0.1).schedule(1), 0.2),
}


@pytest.mark.parametrize("place", PLACES)
def test_all_digits_of_a_number_count(place):
    compute, expected = PLACES[place]
    found = tf.convert_to_tensor(compute())
    assert found.dtype == tf.float64
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), rtol=1e-12)
