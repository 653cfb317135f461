"""The priors of discrete z."""

import numpy as np
import pytest
import scipy.special
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.distributions import discrete
from keras_vae.priors import Bernoulli, Categorical, StandardNormal

tfd = tfp.distributions


def learned(head):
    head.build()
    head.logits.assign(np.random.default_rng(0).normal(size=head.logits.shape))
    return head


def test_uniform_priors():
    rows = tf.one_hot([[0, 2], [1, 1]], 3)
    np.testing.assert_allclose(Categorical(2, 3)().log_prob(rows), -2 * np.log(3.0), rtol=1e-6)
    np.testing.assert_allclose(Bernoulli(3)().log_prob([0.0, 1.0, 1.0]), -3 * np.log(2.0), 1e-6)
    assert not Categorical(2, 3).weights and not Bernoulli(3).weights


def test_learned_categorical_equals_numpy():
    head = learned(Categorical(2, 3, learned=True, dtype="float64"))
    log_p = scipy.special.log_softmax(head.logits.numpy(), axis=-1)
    z = np.eye(3)[[[0, 2], [1, 1]]]
    np.testing.assert_allclose(head().log_prob(z), (z * log_p).sum((1, 2)), rtol=1e-9)


def test_learned_bernoulli_equals_numpy():
    head = learned(Bernoulli(3, learned=True, dtype="float64"))
    p, z = scipy.special.expit(head.logits.numpy()), np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    expected = np.log(z * p + (1 - z) * (1 - p)).sum(1)
    np.testing.assert_allclose(head().log_prob(z), expected, rtol=1e-9)


@pytest.mark.parametrize("make", [lambda: Categorical(2, 3, True), lambda: Bernoulli(4, True)])
def test_learned_logits_start_equal_and_get_gradients(make):
    head = make()
    assert head.discrete and head().event_shape == head.event_shape and head().batch_shape == ()
    np.testing.assert_array_equal(head.logits, 0.0)
    z = head().sample(5, seed=[0, 1])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(head().log_prob(z))
    assert np.any(tape.gradient(loss, head.logits.value) != 0.0)
    assert z.shape == (5, *head.event_shape) and z.dtype == "float32"


@pytest.mark.parametrize("make", [lambda: Categorical(2, 3, True), lambda: Bernoulli(4, True)])
def test_the_support_is_everything_once(make):
    head = learned(make())
    points = discrete.support(head(), max_points=16)
    assert len(points) == (9 if isinstance(head, Categorical) else 16)
    assert len(np.unique(points, axis=0)) == len(points)
    np.testing.assert_allclose(tf.reduce_sum(head().prob(points)), 1.0, rtol=1e-5)


def test_a_support_that_is_too_large_or_not_discrete_is_refused():
    with pytest.raises(ValueError, match=r"`max_points` must be at least 2\^20"):
        discrete.support(Bernoulli(20)(), max_points=4096)
    for p in (StandardNormal(2)(), tfd.Independent(tfd.Normal(tf.zeros(2), 1.0), 1)):
        with pytest.raises(ValueError, match="must be one of independent discrete variables"):
            discrete.support(p, max_points=4096)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Categorical(2, 1), "num_classes"),
        (lambda: Categorical(0, 3), "latent_dim"),
        (lambda: Bernoulli(2, learned="yes"), "learned"),
    ],
)
def test_wrong_arguments_are_named(make, name):
    with pytest.raises(ValueError, match=f"Argument `{name}`"):
        make()
