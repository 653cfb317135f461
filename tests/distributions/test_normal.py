"""Normals with named generators and densities under many, against those of TFP and SciPy."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import stats

from keras_vae.distributions.normal import (
    MultivariateNormalDiag,
    MultivariateNormalTriL,
    log_densities,
)
from keras_vae.posteriors import AutoregressiveFlow, DiagonalNormal, FullCovarianceNormal

tfd = tfp.distributions

PHILOX = 1  # In the numbering of TensorFlow, where 3 leaves the choice to it.


def both(kind):
    rng = np.random.default_rng(0)
    loc = tf.constant(rng.normal(size=(3, 4)))
    if kind == "diag":
        scale = tf.constant(rng.uniform(0.5, 2.0, (3, 4)))
        return MultivariateNormalDiag(loc, scale), tfd.MultivariateNormalDiag(loc, scale)
    scale = tfp.math.fill_triangular(tf.constant(rng.uniform(0.5, 2.0, (3, 10))))
    return MultivariateNormalTriL(loc, scale), tfd.MultivariateNormalTriL(loc, scale)


@pytest.mark.parametrize("shape", [(), 5, (2, 5)])
@pytest.mark.parametrize("kind", ["diag", "tril"])
def test_draws_are_those_of_tfp(kind, shape):
    ours, theirs = both(kind)
    z = ours.sample(shape, seed=[1, 2])
    assert z.dtype == tf.float64
    np.testing.assert_array_equal(z, theirs.sample(shape, seed=[1, 2]))
    np.testing.assert_allclose(ours.log_prob(z), theirs.log_prob(tf.identity(z)), rtol=1e-12)


@pytest.mark.parametrize("kind", ["diag", "tril"])
def test_densities_and_their_gradients_are_those_of_tfp(kind):
    z = tf.constant(np.random.default_rng(1).normal(size=(5, 3, 4)))
    for loc in (both(kind)[0].loc, tf.ones([4], tf.float64)):
        found = []
        for q in both(kind):
            given = [loc, q.parameters["scale_diag" if kind == "diag" else "scale_tril"], z]
            with tf.GradientTape() as tape:
                tape.watch(given)
                density = type(q)(*given[:2]).log_prob(z)
            found.append([density, *tape.gradient(density, given)])
        for of_ours, of_theirs in zip(*found, strict=True):
            np.testing.assert_allclose(of_ours, of_theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["diag", "tril"])
def test_moments_are_those_of_tfp(kind):
    ours, theirs = both(kind)
    scale = ours.parameters["scale_diag" if kind == "diag" else "scale_tril"]
    wide, one = (type(q)(tf.ones([4], tf.float64), scale) for q in (ours, theirs))
    for one_of_ours, one_of_theirs in ((ours, theirs), (wide, one)):
        np.testing.assert_array_equal(one_of_ours.mean(), one_of_theirs.mean())
        np.testing.assert_allclose(one_of_ours.stddev(), one_of_theirs.stddev(), rtol=1e-12)


@pytest.mark.parametrize("kind", ["diag", "tril"])
def test_draws_without_a_seed_differ(kind):
    ours, _ = both(kind)
    assert ours.sample(5).shape == (5, 3, 4)
    assert np.all(ours.sample(5) != ours.sample(5))


def test_shapes_are_known_as_far_as_they_can_be():
    @tf.function(autograph=False)
    def draw(loc, num_samples):
        q = MultivariateNormalDiag(loc, tf.ones_like(loc))
        return q.sample(5, seed=[1, 2]), q.sample(num_samples, seed=[1, 2])

    specs = tf.TensorSpec([None, 4]), tf.TensorSpec([], tf.int32)
    few, some = draw.get_concrete_function(*specs).structured_outputs
    assert few.shape.as_list() == [5, None, 4] and some.shape.as_list() == [None, None, 4]
    assert draw(tf.zeros([3, 4]), tf.constant(2))[1].shape == (2, 3, 4)


@pytest.mark.parametrize("head", [DiagonalNormal, FullCovarianceNormal, AutoregressiveFlow])
def test_posteriors_name_their_generator(head):
    posterior = head(4)
    posterior.build((None, 6))

    @tf.function(autograph=False)
    def draw(seed):
        return posterior(tf.ones([3, 6])).sample(5, seed=seed)

    operations = draw.get_concrete_function(tf.TensorSpec([2], tf.int32)).graph.get_operations()
    normal = [one for one in operations if one.type == "StatelessRandomNormalV2"]
    assert [tf.get_static_value(one.inputs[3]) for one in normal] == [PHILOX]


def test_densities_of_normals_keep_their_digits():
    rng = np.random.default_rng(0)
    loc, scale = 5.0 * rng.normal(size=(7, 3)), 10.0 ** rng.uniform(-4.0, 1.0, (7, 3))
    z = np.concatenate([loc[:2] + scale[:2] * rng.normal(size=(2, 3)), rng.normal(size=(3, 3))])
    densities = log_densities(
        tfd.MultivariateNormalDiag(tf.constant(loc), tf.constant(scale)), tf.constant(z)
    )
    expected = stats.norm(loc, scale).logpdf(z[:, None]).sum(axis=-1)
    np.testing.assert_allclose(densities, expected, rtol=1e-6)


def test_densities_of_correlated_normals_are_those_of_scipy():
    rng = np.random.default_rng(0)
    loc, z = rng.normal(size=(7, 3)), rng.normal(size=(4, 3))
    tril = np.tril(rng.normal(size=(7, 3, 3)), -1) + np.exp(rng.normal(size=(7, 3, 1))) * np.eye(3)
    densities = log_densities(
        tfd.MultivariateNormalTriL(tf.constant(loc), tf.constant(tril)), tf.constant(z)
    )
    expected = [
        stats.multivariate_normal(mean, factor @ factor.T).logpdf(z)
        for mean, factor in zip(loc, tril, strict=True)
    ]
    np.testing.assert_allclose(densities, np.transpose(expected), rtol=1e-9)
