"""The masked network and its bijector, against Jacobians and quadrature in float64."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import keras_vae as kv
from keras_vae.distributions.flows import (
    LOG_SCALE_BOUND,
    SHIFT_BOUND,
    AutoregressiveNetwork,
    MaskedDense,
    autoregressive_networks,
    masked_autoregressive_flow,
)
from tests import contracts
from tests.small_models import randomize

tfb = tfp.bijectors
tfd = tfp.distributions


def random_network(size, context_size=None, seed=0, **kwargs):
    network = AutoregressiveNetwork(size, dtype="float64", **{"hidden_units": (16, 12), **kwargs})
    network.build((None, size), None if context_size is None else (None, context_size))
    randomize(network, seed=seed)
    return network


def random_flow(size, num_flows=3, context=None):
    networks = autoregressive_networks(
        size, num_flows, hidden_units=(16, 12), activation="tanh", dtype="float64"
    )
    for network in networks:
        network.build((None, size), None if context is None else context.shape)
    randomize(*networks)
    return masked_autoregressive_flow(networks, context)


def draws(*shape, seed=1):
    return tf.constant(np.random.default_rng(seed).normal(size=shape))


def jacobian(function, x):
    """Jacobian of a map of the last axis, for every row of x `[N, D]`: `[N, D_out, D]`."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.batch_jacobian(y, x).numpy()


@pytest.mark.parametrize(
    ("size", "reverse", "context_size"),
    [(1, False, None), (2, True, 3), (5, False, None), (5, True, 3), (20, False, 3)],
)
def test_outputs_depend_on_earlier_dimensions_only_and_on_all_of_them(size, reverse, context_size):
    network = random_network(size, context_size, reverse=reverse, activation="tanh")
    context = None if context_size is None else draws(4, context_size)
    both = jacobian(lambda z: tf.concat(network(z, context), axis=-1), draws(4, size))
    for slopes in np.split(both, 2, axis=1):
        if reverse:
            slopes = slopes[:, ::-1, ::-1]
        np.testing.assert_array_equal(np.triu(slopes), 0.0)
        seen = np.tril(np.ones((size, size)), -1) > 0
        if size <= 5:  # with fewer units than dimensions some paths are missing
            assert np.all(slopes[:, seen] != 0.0)


@pytest.mark.parametrize("size", [1, 4])
def test_the_context_reaches_every_output(size):
    network = random_network(size, 3, activation="tanh")
    z = draws(4, size)
    for output in (0, 1):
        slopes = jacobian(lambda c, o=output: network(z, c)[o], draws(4, 3, seed=2))
        assert np.all(np.abs(slopes).max(-1) > 0.0)


def test_context_is_broadcast_over_sample_axes():
    network = random_network(4, 3)
    z, context = draws(6, 2, 4), draws(2, 3)
    shift, log_scale = network(z, context)
    for s in range(6):
        for b in range(2):
            alone = network(z[s, b : b + 1], context[b : b + 1])
            np.testing.assert_allclose(shift[s, b], alone[0][0], rtol=1e-12)
            np.testing.assert_allclose(log_scale[s, b], alone[1][0], rtol=1e-12)


def test_outputs_are_bounded_however_large_the_input():
    network = random_network(5)
    shift, log_scale = network(1e30 * draws(8, 5))
    assert np.all(np.isfinite(shift)) and np.abs(shift).max() <= SHIFT_BOUND
    assert np.all(np.isfinite(log_scale)) and np.abs(log_scale).max() <= LOG_SCALE_BOUND
    assert np.abs(shift).max() > 0.9 * SHIFT_BOUND  # the input was large enough to tell


def test_initial_network_is_near_zero():
    network = AutoregressiveNetwork(10)
    shift, log_scale = network(tf.random.stateless_normal([100, 10], [0, 1]))
    assert np.abs(shift).max() < 0.1 and np.abs(log_scale).max() < 0.1


@pytest.mark.parametrize(("size", "context_size"), [(1, 3), (2, None), (4, 3)])
def test_log_determinant_is_that_of_the_jacobian(size, context_size):
    context = None if context_size is None else draws(4, context_size)
    flow = random_flow(size, context=context)
    u = draws(4, size)
    expected = np.linalg.slogdet(jacobian(flow.forward, u))[1]
    assert np.abs(expected).min() > 1e-3
    fresh = tf.identity(u)  # not in the bijector's cache
    np.testing.assert_allclose(flow.forward_log_det_jacobian(fresh), expected, rtol=1e-6)
    z = tf.identity(flow.forward(fresh))
    np.testing.assert_allclose(flow.inverse_log_det_jacobian(z), -expected, rtol=1e-6)


def test_forward_and_inverse_undo_each_other():
    flow = random_flow(6, context=draws(4, 3))
    u = draws(5, 4, 6)
    np.testing.assert_allclose(flow.inverse(tf.identity(flow.forward(u))), u, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(flow.forward(tf.identity(flow.inverse(u))), u, rtol=1e-9, atol=1e-9)


def test_equals_the_flow_of_tensorflow_probability():
    network = random_network(5)
    ours = masked_autoregressive_flow([network])
    theirs = tfb.MaskedAutoregressiveFlow(network)
    u = draws(7, 5)
    np.testing.assert_allclose(ours.forward(u), theirs.forward(u), rtol=1e-12)
    np.testing.assert_allclose(ours.inverse(u), theirs.inverse(u), rtol=1e-12)
    np.testing.assert_allclose(
        ours.inverse_log_det_jacobian(u), theirs.inverse_log_det_jacobian(u, 1), rtol=1e-12
    )


def test_the_first_network_is_the_first_step():
    networks = [random_network(3, seed=s) for s in (0, 1)]
    u = draws(4, 3)
    steps = [masked_autoregressive_flow([network]) for network in networks]
    np.testing.assert_allclose(
        masked_autoregressive_flow(networks).forward(u),
        steps[1].forward(steps[0].forward(u)),
        rtol=1e-12,
    )


def test_input_is_broadcast_against_the_context():
    flow = random_flow(3, context=draws(4, 2))
    u = draws(5, 1, 3)
    full = tf.broadcast_to(u, [5, 4, 3])
    np.testing.assert_allclose(flow.forward(u), flow.forward(full), rtol=1e-12)
    np.testing.assert_allclose(flow.inverse(u), flow.inverse(full), rtol=1e-12)


@pytest.mark.parametrize(("size", "invert"), [(1, False), (2, True)])
def test_density_integrates_to_one(size, invert):
    flow = random_flow(size, num_flows=2)
    base = tfd.MultivariateNormalDiag(tf.zeros(size, tf.float64), tf.ones(size, tf.float64))
    p = tfd.TransformedDistribution(base, tfb.Invert(flow) if invert else flow)
    line = np.linspace(-25.0, 25.0, 501)
    grid = np.stack(np.meshgrid(*[line] * size, indexing="ij"), -1).reshape(-1, size)
    mass = np.exp(p.log_prob(tf.constant(grid))).sum() * (line[1] - line[0]) ** size
    assert mass == pytest.approx(1.0, abs=1e-4)  # tanh is smooth, so the sum converges fast


@pytest.mark.first_is_quick
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_gradients_reach_every_weight(direction):
    networks = autoregressive_networks(4, 2, hidden_units=(16, 16))
    for network in networks:
        network.build((None, 4), (None, 3))
    weights = [weight for network in networks for weight in network.trainable_weights]
    u, context = tf.cast(draws(5, 2, 4), "float32"), tf.cast(draws(2, 3), "float32")

    def mapped():
        return [getattr(masked_autoregressive_flow(networks, context), direction)(u)]

    contracts.check_modes(mapped, weights)


def test_inverse_and_log_determinant_share_one_pass():
    calls = []
    network = random_network(3)
    flow = tfb.Invert(
        masked_autoregressive_flow([lambda z, context: calls.append(0) or network(z)])
    )
    p = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros(3, "float64")), flow)
    p.log_prob(p.sample(2, seed=[0, 1]))
    assert len(calls) == 1


def test_a_new_input_is_not_given_the_last_result():
    flow = random_flow(3)
    a, b = draws(4, 3, seed=1), draws(4, 3, seed=2)
    flow.inverse(a)
    expected = random_flow(3).inverse_log_det_jacobian(b)
    np.testing.assert_allclose(flow.inverse_log_det_jacobian(b), expected, rtol=1e-12)
    assert np.all(flow.inverse_log_det_jacobian(a) != expected)


def test_weights_that_have_moved_count_for_a_tensor_seen_before():
    prior, z = kv.priors.AutoregressiveFlow(3, hidden_units=(8,)), tf.ones([4, 3])
    prior().log_prob(z)
    for weight in prior.trainable_variables:
        weight.assign_add(0.3 * tf.ones_like(weight))
    np.testing.assert_array_equal(prior().log_prob(z), prior().log_prob(tf.identity(z)))


def test_masked_dense_round_trip():
    layer = MaskedDense((1, 2, 3), (1, 2), "tanh", kernel_scale=0.5)
    copy = MaskedDense.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    np.testing.assert_array_equal(copy.mask, [[1, 1], [0, 1], [0, 0]])


@pytest.mark.parametrize(
    "arguments, name",
    [
        ({"event_size": 0}, "event_size"),
        ({"event_size": 2, "hidden_units": ()}, "hidden_units"),
        ({"event_size": 2, "reverse": "yes"}, "reverse"),
    ],
)
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(ValueError, match=f"Argument `{name}`"):
        AutoregressiveNetwork(**arguments)
