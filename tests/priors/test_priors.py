"""The heads of p(z), against hand-written densities."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vae.posteriors import AutoregressiveFlow as PosteriorFlow
from keras_vae.posteriors import DiagonalNormal, FullCovarianceNormal
from keras_vae.priors import (
    AutoregressiveFlow,
    ConditionalNormal,
    MixtureOfNormals,
    StandardNormal,
    TwoStage,
    VampPrior,
)
from tests import contracts
from tests.small_models import normal_values as values
from tests.small_models import randomize

ARGUMENTS = {
    StandardNormal: {},
    MixtureOfNormals: {"num_components": 4, "seed": 3},
    VampPrior: {"num_pseudo_inputs": 4, "activation": "linear", "learned_weights": True, "seed": 2},
    AutoregressiveFlow: {"num_flows": 2, "hidden_units": (16, 12), "activation": "tanh"},
    ConditionalNormal: {},
    TwoStage: {"hidden_units": (6,), "activation": "tanh", "num_samples": 3, "seed": 4},
}
INPUT_SHAPE = (None, 2, 3)
CONDITION_SHAPE = (None, 5)


def make(head, **kwargs):
    layer = head(3, **{**ARGUMENTS[head], **kwargs})
    layer.build(INPUT_SHAPE, CONDITION_SHAPE)
    return layer


def inference(posterior=DiagonalNormal, dtype="float64"):
    """A small model's way from encoder inputs `[K, 2, 3]` to q(z|x), and its layers."""
    flatten = keras.layers.Flatten(dtype=dtype)
    encoder = keras.layers.Dense(5, activation="tanh", dtype=dtype)
    head = posterior(3, dtype=dtype)
    encoder.build((None, 6))
    head.build((None, 5))
    randomize(encoder, head)
    return lambda x: head(encoder(flatten(x))), [encoder, head]


def arguments(dtype="float32"):
    infer, _ = inference(dtype=dtype)
    return {"condition": values(4, 5, dtype=dtype), "infer": infer}


def log_normal(z, loc, scale):
    terms = -0.5 * ((z - loc) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)
    return terms.sum(-1)


def softplus(x):
    return np.log1p(np.exp(x))


def log_mixture(log_weights, log_densities):
    """log sum_k exp(log w_k + log p_k) along the last axis."""
    return np.logaddexp.reduce(log_weights + log_densities, axis=-1)


@pytest.mark.parametrize("head", [StandardNormal, MixtureOfNormals, AutoregressiveFlow, TwoStage])
def test_a_prior_that_needs_no_shape_needs_no_build(head):
    layer = head(3, **ARGUMENTS[head])
    assert layer().event_shape == (3,) and layer.built


@pytest.mark.parametrize("head", [StandardNormal, AutoregressiveFlow, ConditionalNormal])
def test_starts_as_the_standard_normal(head):
    layer, z = make(head, dtype="float64"), values(4, 3)
    expected = log_normal(z.numpy(), 0.0, 1.0)
    atol = 0.2 if head is AutoregressiveFlow else 1e-12
    np.testing.assert_allclose(layer(**arguments("float64")).log_prob(z), expected, atol=atol)


def test_mixture_of_normals_equals_numpy():
    layer = make(MixtureOfNormals, dtype="float64")
    randomize(layer)
    logits, locs, raw = layer.get_weights()
    z = values(6, 3).numpy()
    log_weights = logits - np.log(np.exp(logits).sum())
    log_densities = log_normal(z[:, np.newaxis], locs, softplus(raw) + 1e-4)
    expected = log_mixture(log_weights, log_densities)
    np.testing.assert_allclose(layer().log_prob(z), expected, rtol=1e-9)


def test_mixture_starts_spread_and_its_seed_decides_where():
    layer = make(MixtureOfNormals)
    assert len(np.unique(layer.locs.numpy())) == 12
    np.testing.assert_array_equal(layer.locs, make(MixtureOfNormals).locs)
    assert np.all(layer.locs.numpy() != make(MixtureOfNormals, seed=4).locs.numpy())
    np.testing.assert_allclose(layer().components_distribution.stddev(), 1.0, rtol=1e-6)
    np.testing.assert_allclose(layer().mixture_distribution.probs_parameter(), 0.25, rtol=1e-6)


@pytest.mark.parametrize(("activation", "learned_weights"), [("sigmoid", True), ("linear", False)])
def test_vamp_prior_equals_numpy(activation, learned_weights):
    layer = make(VampPrior, activation=activation, learned_weights=learned_weights, dtype="float64")
    randomize(layer, seed=7)
    infer, (encoder, head) = inference()
    raw, *logits = layer.get_weights()
    inputs = 1.0 / (1.0 + np.exp(-raw)) if activation == "sigmoid" else raw
    np.testing.assert_allclose(layer.pseudo_inputs, inputs, rtol=1e-12)
    (w, b), (u, c, v, d) = encoder.get_weights(), head.get_weights()
    h = np.tanh(inputs.reshape(4, 6) @ w + b)
    z = values(6, 3).numpy()
    log_densities = log_normal(z[:, np.newaxis], h @ u + c, softplus(h @ v + d) + 1e-4)
    log_weights = np.full(4, -np.log(4.0))
    if learned_weights:
        log_weights = logits[0] - np.log(np.exp(logits[0]).sum())
    expected = log_mixture(log_weights, log_densities)
    np.testing.assert_allclose(layer(infer=infer).log_prob(z), expected, rtol=1e-9)


@pytest.mark.parametrize("posterior", [DiagonalNormal, FullCovarianceNormal, PosteriorFlow])
def test_vamp_prior_mixes_any_posterior(posterior):
    layer = make(VampPrior, learned_weights=False, dtype="float64")
    infer, _ = inference(posterior)
    z = values(6, 5, 3)
    alone = [
        infer(layer.pseudo_inputs[k : k + 1]).log_prob(tf.identity(z[..., tf.newaxis, :]))[..., 0]
        for k in range(4)
    ]
    expected = log_mixture(-np.log(4.0), np.stack(alone, -1))
    p = layer(infer=infer)
    np.testing.assert_allclose(p.log_prob(z), expected, rtol=1e-9)
    assert p.sample(2, seed=[0, 1]).shape == (2, 3)


@pytest.mark.parametrize("posterior", [DiagonalNormal, FullCovarianceNormal, PosteriorFlow])
def test_vamp_prior_teaches_pseudo_inputs_and_encoder(posterior):
    layer = make(VampPrior, learned_weights=True)
    infer, layers = inference(posterior, "float32")
    weights = [w for part in (layer, *layers) for w in part.trainable_weights]
    x = values(4, 2, 3, dtype="float32")

    def kl():
        q = infer(x)
        z = q.sample(2, seed=[0, 1])
        return [q.log_prob(z) - layer(infer=infer).log_prob(z)]

    contracts.check_gradients(weights, contracts.with_gradients(kl, weights)[1])


def test_flow_prior_density_is_that_of_the_inverse_map():
    layer = make(AutoregressiveFlow, dtype="float64")
    randomize(*layer.networks)
    z = values(6, 3)
    with tf.GradientTape() as tape:
        tape.watch(z)
        u = layer().bijector.inverse(z)
    log_det = np.linalg.slogdet(tape.batch_jacobian(u, z).numpy())[1]
    expected = log_normal(u.numpy(), 0.0, 1.0) + log_det
    np.testing.assert_allclose(layer().log_prob(tf.identity(z)), expected, rtol=1e-6)


def test_flow_prior_density_needs_no_loop():
    layer = make(AutoregressiveFlow)
    log_prob = tf.function(lambda z: layer().log_prob(z))
    graph = log_prob.get_concrete_function(tf.TensorSpec([None, 3])).graph
    assert not any("While" in op.type for op in graph.get_operations())


def test_conditional_normal_equals_numpy():
    layer = make(ConditionalNormal, dtype="float64")
    randomize(layer)
    w, b, v, c = layer.get_weights()
    y, z = values(4, 5).numpy(), values(6, 4, 3, seed=1).numpy()
    expected = log_normal(z, y @ w + b, softplus(y @ v + c) + 1e-4)
    np.testing.assert_allclose(layer(y).log_prob(z), expected, rtol=1e-9)


def test_conditional_normal_builds_itself_from_the_condition():
    assert ConditionalNormal(3)(values(4, 5, dtype="float32")).batch_shape == (4,)


def test_a_prior_and_a_posterior_of_one_name_are_told_apart():
    for head in (AutoregressiveFlow(3), PosteriorFlow(3)):
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(head))
        assert type(copy) is type(head)


@pytest.mark.parametrize(
    "call, name",
    [
        (lambda: StandardNormal(0), "latent_dim"),
        (lambda: MixtureOfNormals(2, 0), "num_components"),
        (lambda: MixtureOfNormals(2, 3, seed=-1), "seed"),
        (lambda: VampPrior(2, 0), "num_pseudo_inputs"),
        (lambda: VampPrior(2, 3, activation="relu"), "activation"),
        (lambda: VampPrior(2, 3, learned_weights="yes"), "learned_weights"),
        (lambda: VampPrior(2, 3)(), "encoder_input_shape"),
        (lambda: VampPrior(2, 3).build((None, None, 3)), "encoder_input_shape"),
        (lambda: AutoregressiveFlow(2, num_flows=0), "num_flows"),
        (lambda: ConditionalNormal(2)(), "condition_shape"),
        (lambda: ConditionalNormal(2).build(None, (None, None)), "condition_shape"),
        (lambda: make(ConditionalNormal)(), "condition"),
        (lambda: make(VampPrior)(), "infer"),
    ],
)
def test_bad_arguments_are_named(call, name):
    with pytest.raises(ValueError, match=f"Argument `{name}`"):
        call()


def test_unknown_activation_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"must be one of \['sigmoid', 'linear'\].*'relu'"):
        VampPrior(2, 3, activation="relu")
