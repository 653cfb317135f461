"""The heads of q(z|x), against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core.numerics import inverse_scale, positive_scale
from keras_vae.posteriors import AutoregressiveFlow, DiagonalNormal, FullCovarianceNormal
from tests.small_models import normal_values as features
from tests.small_models import randomize

tfd = tfp.distributions

FLOW = {"num_flows": 2, "hidden_units": (16, 12), "activation": "tanh", "moment_samples": 64}
ARGUMENTS = {DiagonalNormal: {}, FullCovarianceNormal: {}, AutoregressiveFlow: FLOW}
ALL = list(ARGUMENTS)


def make(head, latent_dim=3, **kwargs):
    return head(latent_dim, **ARGUMENTS[head], **kwargs)


def random_head(head, latent_dim=3, num_features=5, **kwargs):
    layer = make(head, latent_dim, dtype="float64", **kwargs)
    layer.build((None, num_features))
    randomize(layer)
    return layer


def while_loops(function, *args):
    graph = tf.function(function).get_concrete_function(*args).graph
    return sum("While" in op.type for op in graph.get_operations())


@pytest.mark.parametrize("head", ALL)
def test_starts_near_unit_scale(head):
    keras.utils.set_random_seed(0)
    h = features(64, 200, dtype="float32")
    layer = make(head, 10)
    scales = layer.stddev(layer(h)).numpy()
    assert scales.min() > 0.4 and scales.max() < 1.8
    assert scales.mean() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("head", ALL)
def test_one_dimension(head):
    layer = make(head, latent_dim=1)
    q = layer(features(4, 5, dtype="float32"))
    z = q.sample(7, seed=[0, 1])
    assert z.shape == (7, 4, 1) and q.log_prob(z).shape == (7, 4)
    assert layer.mean(q).shape == layer.stddev(q).shape == (4, 1)


def test_diagonal_normal_is_what_its_formula_says():
    layer = random_head(DiagonalNormal)
    h, z = features(4, 5).numpy(), features(4, 3, seed=1).numpy()
    w, b, v, c = layer.get_weights()
    mu, sigma = h @ w + b, np.log1p(np.exp(h @ v + c)) + 1e-4
    expected = -0.5 * ((z - mu) / sigma) ** 2 - np.log(sigma) - 0.5 * np.log(2 * np.pi)
    q = layer(h)
    assert isinstance(q, tfd.MultivariateNormalDiag)
    np.testing.assert_allclose(q.log_prob(z), expected.sum(-1), rtol=1e-9)
    np.testing.assert_allclose(layer.mean(q), mu, rtol=1e-9)
    np.testing.assert_allclose(layer.stddev(q), sigma, rtol=1e-9)


def test_full_covariance_normal_has_the_density_of_its_mean_and_covariance():
    layer = random_head(FullCovarianceNormal)
    q, z = layer(features(4, 5)), features(4, 3, seed=1).numpy()
    assert isinstance(q, tfd.MultivariateNormalTriL)
    mean, covariance = q.mean().numpy(), q.covariance().numpy()
    assert np.abs(covariance[:, 2, 0]).min() > 1e-3
    inverse = np.linalg.inv(covariance)
    distance = np.einsum("bd,bde,be->b", z - mean, inverse, z - mean)
    log_det = np.linalg.slogdet(2 * np.pi * covariance)[1]
    np.testing.assert_allclose(q.log_prob(z), -0.5 * (distance + log_det), rtol=1e-9)


def test_full_covariance_normal_starts_with_hardly_any_correlation():
    keras.utils.set_random_seed(0)
    covariance = FullCovarianceNormal(6)(features(64, 200, dtype="float32")).covariance().numpy()
    off_diagonal = covariance[:, ~np.eye(6, dtype=bool)]
    assert np.abs(off_diagonal).max() < 0.6 and np.abs(off_diagonal).mean() < 0.15


def test_flow_has_the_density_of_its_base_pushed_forward():
    layer = random_head(AutoregressiveFlow)
    h = features(4, 5)
    q, base = layer(h), layer.base(h)
    z0 = features(4, 3, seed=1)
    with tf.GradientTape() as tape:
        tape.watch(z0)
        z = q.bijector.forward(z0)
    log_det = np.linalg.slogdet(tape.batch_jacobian(z, z0).numpy())[1]
    fresh = layer(h).log_prob(tf.identity(z))
    np.testing.assert_allclose(fresh, base.log_prob(z0) - log_det, rtol=1e-6)


def test_flow_density_of_own_draws_equals_that_of_the_same_numbers():
    layer = random_head(AutoregressiveFlow)
    q = layer(features(4, 5))
    z = q.sample(7, seed=[0, 1])
    other = layer(features(4, 5)).log_prob(tf.constant(z.numpy()))
    np.testing.assert_allclose(q.log_prob(z), other, rtol=1e-8)


def test_flow_needs_no_loop_for_its_own_draws():
    layer = random_head(AutoregressiveFlow, latent_dim=6)

    def sample_and_log_prob(h):
        q = layer(h)
        return q.log_prob(q.sample(5, seed=[0, 1]))

    h = features(4, 5)
    assert while_loops(sample_and_log_prob, h) == 0
    assert while_loops(lambda h: layer(h).log_prob(tf.zeros([4, 6], "float64")), h) > 0


@pytest.mark.full
def test_flow_is_evaluated_as_a_component_of_a_mixture():
    layer = random_head(AutoregressiveFlow)
    h = features(4, 5)
    z = features(6, 1, 3, seed=1)
    for k in range(4):
        alone = layer(h[k : k + 1]).log_prob(tf.identity(z))[:, 0]
        np.testing.assert_allclose(layer(h).log_prob(tf.identity(z))[:, k], alone, rtol=1e-9)


def test_flow_moments_agree_with_many_draws_and_do_not_change():
    layer = random_head(AutoregressiveFlow)
    q = layer(features(4, 5))
    z = q.sample(100_000, seed=[3, 4]).numpy()
    # 5 standard errors of 64 draws: 24 comparisons fail by chance about once in 70,000 runs (were
    # the errors normal); the seed is fixed.
    error = 5.0 * z.std(0) / np.sqrt(64)
    assert np.all(np.abs(layer.mean(q) - z.mean(0)) < error)
    assert np.all(np.abs(layer.stddev(q) - z.std(0)) < 2.0 * error)
    np.testing.assert_array_equal(layer.mean(q), layer.mean(layer(features(4, 5))))


def test_flow_moments_are_not_tied_to_a_global_seed():
    layer = random_head(AutoregressiveFlow)
    tf.random.set_seed(1)
    first = layer.mean(layer(features(4, 5)))
    tf.random.set_seed(2)
    np.testing.assert_array_equal(first, layer.mean(layer(features(4, 5))))


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda: DiagonalNormal(0), "latent_dim"),
        (lambda: FullCovarianceNormal(2.5), "latent_dim"),
        (lambda: AutoregressiveFlow(2, num_flows=0), "num_flows"),
        (lambda: AutoregressiveFlow(2, hidden_units=()), "hidden_units"),
        (lambda: AutoregressiveFlow(2, moment_samples=1), "moment_samples"),
        (lambda: DiagonalNormal(2).build((None, None)), "features_shape"),
        (lambda: DiagonalNormal(2).build((8,)), "features_shape"),
        (lambda: AutoregressiveFlow(2).build((None, 7, None, 3)), "features_shape"),
    ],
)
def test_bad_arguments_are_named(call, name):
    with pytest.raises(ValueError, match=f"Argument `{name}`"):
        call()


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_factor_is_filled_in_the_order_of_tfp(size):
    """A model that was saved with another order would have another covariance."""
    head, entries = FullCovarianceNormal(size, dtype="float64"), features(3, size * (size + 1) // 2)
    found = head.distribution((features(3, size), entries)).parameters["scale_tril"]
    raw = tfp.math.fill_triangular(entries)
    diagonal = positive_scale(tf.linalg.diag_part(raw) + inverse_scale(1.0))
    np.testing.assert_array_equal(found, tf.linalg.set_diag(raw, diagonal))
