"""A hierarchy against enumeration, and the gradients of its bounds against each other."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from tests.contracts import check_estimates_sum_to_one
from tests.small_models import randomize

SIDE = 2


def tiny(posterior="delta", scale=0.5):
    """Return a model of four pixels and three groups, two of vectors and one of maps."""
    keras.utils.set_random_seed(0)
    model = kv.HierarchicalVAE(
        bottom_up=kv.networks.BottomUp({2: 3, 1: 4}, blocks=1),
        top_down=kv.networks.TopDown({1: (2, 1), 2: (1, 1)}, posterior=posterior),
        likelihood=kv.likelihoods.Bernoulli((SIDE, SIDE, 1)),
    )
    randomize(model.bottom_up, model.top_down, scale=scale)
    return model


@pytest.mark.parametrize("posterior", ["delta", "plain"])
def test_the_estimates_of_all_images_sum_to_one(posterior):
    images = np.array(list(itertools.product([0.0, 1.0], repeat=SIDE * SIDE)))
    x = images.reshape(-1, SIDE, SIDE, 1)
    model = tiny(posterior, scale=0.3)
    check_estimates_sum_to_one(model, x, num_samples=10_000, bound=0.1)


def gradients(model, objective, repetitions, copies):
    """Return gradients of the loss of an image, each a mean over so many copies: `[R, W]`."""
    x = np.tile(np.array([1.0, 0.0, 0.0, 1.0]).reshape(1, SIDE, SIDE, 1), (copies, 1, 1, 1))
    weights = [weight.value for weight in model.trainable_variables]

    @tf.function(autograph=False)
    def gradient(seed):
        with tf.GradientTape() as tape:
            terms = model.compute_terms(x, objective.num_samples, True, seed=seed)
            loss = tf.reduce_mean(objective.loss(terms))
        return tf.concat([tf.reshape(g, [-1]) for g in tape.gradient(loss, weights)], axis=0)

    return np.stack([gradient(tf.constant([7, n])) for n in range(repetitions)])


@pytest.mark.first_is_quick
@pytest.mark.parametrize(
    ("objective", "other"),
    [
        (
            kv.objectives.ImportanceWeighted(4, "doubly_reparameterized"),
            kv.objectives.ImportanceWeighted(4),
        ),
        (
            kv.objectives.ELBO(estimator="score_function", num_samples=4),
            kv.objectives.ELBO(num_samples=4),
        ),
    ],
    ids=["doubly reparameterized", "score function"],
)
def test_estimators_have_the_gradient_of_the_bound(objective, other):
    """With the weights that p and q share, and through the groups above."""
    model = tiny()
    found, expected = (gradients(model, one, 120, 60) for one in (objective, other))
    difference = found - expected  # with the same draws of z, whose noise so cancels
    error = difference.std(axis=0, ddof=1) / np.sqrt(len(difference))
    sizes = np.abs(difference.mean(axis=0)) / (error + 1e-9)
    # About 300 weights at 5 standard errors: 300 * 6e-7 = 2e-4 for a new seed.
    assert sizes.max() < 5.0
    assert np.abs(expected.mean(axis=0)).max() > 20.0 * error.max()
