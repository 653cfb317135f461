"""What objectives and their estimators refuse, and what they say."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import keras_vae as kv

tfd = tfp.distributions
ELBO, ImportanceWeighted = kv.objectives.ELBO, kv.objectives.ImportanceWeighted

ALL = ["reparameterized", "sticking_the_landing", "doubly_reparameterized", "score_function"]


def message(function):
    with pytest.raises(ValueError) as error:
        function()
    return str(error.value)


def test_an_unknown_estimator_is_told_the_known_ones():
    said = message(lambda: ImportanceWeighted(2, "dreg"))
    assert said == f"Argument `estimator` must be one of {ALL}. Received: estimator='dreg'"


def test_the_elbo_has_no_doubly_reparameterized_estimator():
    said = message(lambda: ELBO(estimator="doubly_reparameterized"))
    known = [name for name in ALL if name != "doubly_reparameterized"]
    assert f"must be one of {known}" in said


@pytest.mark.parametrize("make", [ELBO, lambda **kwargs: ImportanceWeighted(2, **kwargs)])
def test_an_unknown_baseline_is_told_the_known_ones(make):
    said = message(lambda: make(estimator="score_function", baseline="vimco"))
    assert "`baseline` must be one of ['leave_one_out', 'none']. Received: baseline='vimco'" in said


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "2", None])
@pytest.mark.parametrize(
    "argument, make",
    [
        ("num_samples", lambda value: ELBO(num_samples=value)),
        ("num_samples", lambda value: ImportanceWeighted(value)),
        ("num_groups", lambda value: ImportanceWeighted(2, num_groups=value)),
    ],
    ids=["ELBO", "L_K", "groups"],
)
def test_what_is_no_number_of_samples_is_refused(argument, make, value):
    rule = f"Argument `{argument}` must be an integer >= 1. Received: {argument}={value!r}"
    assert message(lambda: make(value)) == rule


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan, True, "1"])
def test_what_is_no_weight_of_the_elbo_is_refused(value):
    said = message(lambda: ImportanceWeighted(2, elbo_weight=value))
    assert "Argument `elbo_weight` must be a finite number >= 0 and <= 1" in said


def test_the_doubly_reparameterized_estimator_is_of_l_k_alone():
    said = message(lambda: ImportanceWeighted(2, "doubly_reparameterized", elbo_weight=0.5))
    rule = "Argument `elbo_weight` must be 0 with estimator='doubly_reparameterized'"
    assert said == f"{rule}. Received: elbo_weight=0.5"
    ImportanceWeighted(2, "doubly_reparameterized", elbo_weight=0.0)


class WithoutDraws(kv.LatentVariableModel):
    """A model of one's own that tells the log-densities alone."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.loc = keras.layers.Dense(1)

    def standardize(self, x, y=None):
        return tf.convert_to_tensor(x), None

    def check_support(self, x, y=None):
        return x, y

    def compute_terms(self, x, num_samples=1, training=False, seed=0, y=None):
        q, p_z = tfd.Normal(self.loc(x)[:, 0], 1.0), tfd.Normal(0.0, 1.0)
        z = q.sample(num_samples, seed=[seed, 0] if isinstance(seed, int) else seed)
        log_p_x = tfd.Normal(z, 1.0).log_prob(x[:, 0])
        return kv.Terms(log_p_x, p_z.log_prob(z), q.log_prob(z), q.kl_divergence(p_z)[:, None])


@pytest.mark.parametrize(
    "objective",
    [
        *(lambda name=name: ImportanceWeighted(2, name) for name in ALL[1:]),
        *(lambda name=name: ELBO(estimator=name) for name in (ALL[1], ALL[3])),
    ],
)
def test_estimators_that_need_the_draws_say_so(objective):
    objective = objective()
    model = WithoutDraws(objective=objective)
    model.compile("sgd", run_eagerly=True)
    rule = f"The estimator '{objective.estimator.name}' needs `Terms.draws`, which `compute_terms`"
    with pytest.raises(ValueError, match=re.escape(rule)):
        model.fit(np.zeros([4, 1], "float32"), verbose=0)


@pytest.mark.parametrize("objective", [ELBO, lambda: ImportanceWeighted(3, num_groups=2)])
def test_the_reparameterized_estimator_does_without_draws(objective):
    model = WithoutDraws(objective=objective())
    model.compile("sgd", run_eagerly=True)
    history = model.fit(np.ones([4, 1], "float32"), verbose=0).history
    assert np.isfinite(history["loss"]).all()
