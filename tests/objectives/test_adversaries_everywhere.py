"""Adversarial objectives: compiled, on replicas, driven, and with features of other networks."""

from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.controllers import StepHook
from keras_vae.objectives import (
    ELBO,
    Adversarial,
    AdversarialPosterior,
    FactorVAE,
    LearnedSimilarity,
)
from keras_vae.training import losses, optimization
from keras_vae.training.step import TrainingStep
from tests.small_models import SHAPE, make_mean_vae, make_vae, trainable_weights_of

SIZE = 4
SGD = keras.optimizers.SGD


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).random((6 * SIZE, *SHAPE)).astype("float32")


def discriminator(*hidden, shape=SHAPE):
    layers = hidden or [keras.layers.Dense(5, "tanh")]
    layers = [keras.Input(shape), keras.layers.Flatten(), *layers, keras.layers.Dense(1)]
    return keras.Sequential(layers)


def critic():
    return keras.Sequential([keras.layers.Dense(5, "tanh"), keras.layers.Dense(1)])


def make(objective, rates=(1e-3, 0.02), **options):
    """Return a model without noise, whose decoder and discriminator have their own optimizers."""
    keras.utils.set_random_seed(1)
    model = make_mean_vae(objective=objective(), likelihood=kv.likelihoods.Laplace(SHAPE, 0.5))
    maker, judge = rates
    parts = {"default": SGD(maker), "decoder": SGD(maker), "discriminator": SGD(judge, 0.9)}
    model.compile(kv.optimizers.by_part(model, **parts), **options)
    return model


def train(model, x, **options):
    return model.fit(x, batch_size=SIZE, shuffle=False, verbose=0, **options).history


def assert_alike(model, other):
    for variable, theirs in zip(model.trainable_variables, other.trainable_variables, strict=True):
        np.testing.assert_allclose(
            variable.numpy(), theirs.numpy(), rtol=1e-4, atol=2e-6, err_msg=variable.path
        )


def assert_same_logs(found, expected):
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert np.all(np.isfinite(values)), name
        np.testing.assert_allclose(found[name], values, rtol=1e-3, atol=1e-5, err_msg=name)


# Compiled.

WAYS = {
    "graph, 4 at a time": {"jit_compile": False, "steps_per_execution": 4},
    "XLA, 4 at a time": {"jit_compile": True, "steps_per_execution": 4},
}


def adaptive():
    return Adversarial(ELBO(), discriminator(), adaptive=True)


@pytest.mark.first_is_quick
@pytest.mark.parametrize("way", WAYS)
def test_the_adaptive_weight_is_the_same_in_every_way_of_running(x, way):
    """Fails for a weight that is found once an execution, or when the step is traced."""
    one = make(adaptive, run_eagerly=True)
    start, expected = trainable_weights_of(one), train(one, x)
    assert 1.0 < expected["adversarial_weight"][0] < 1e4
    assert all(np.any(a != b) for a, b in zip(start, trainable_weights_of(one), strict=True))
    two = make(adaptive, **WAYS[way])
    assert_same_logs(train(two, x), expected)
    assert_alike(two, one)


def test_xla_on_replicas_is_refused_where_the_weight_is_adaptive(x, replicas):
    """Fails where XLA is let to compile sums over replicas, which it does not know."""
    with replicas.scope():
        model = make(adaptive, jit_compile=True)
    with pytest.raises(ValueError, match=r"`jit_compile` must be False or \"auto\" on several"):
        train(model, x[:SIZE])


# A replica without data.


def convolutional():
    judge = kv.networks.ConvDiscriminator((4, 8), 3, 6, "group", "tanh")
    return LearnedSimilarity(judge, 0.2, r1=0.3, lecam=0.2)


def similarity():
    return LearnedSimilarity(discriminator(), 0.2, r1=0.3, lecam=0.2)


def posterior():
    return AdversarialPosterior(critic(), 20.0, r1=0.3, lecam=0.2)


# With what decides who may step, which a replica without data must do like the others.
HELD = {
    "VAE-GAN": (similarity, lambda: [kv.callbacks.Equilibrium(0.0, 0.7)]),
    "VAE-GAN of convolutions": (convolutional, list),
    "AAE": (posterior, lambda: [kv.callbacks.AccuracyGate(0.5)]),
    "adaptive": (adaptive, list),
}


@pytest.mark.full
@pytest.mark.parametrize(
    ("name", "run_eagerly"),
    [
        ("VAE-GAN", True),
        ("VAE-GAN of convolutions", False),
        ("AAE", False),
        ("adaptive", False),
    ],
)
def test_a_replica_without_data_changes_nothing(x, replicas, name, run_eagerly):
    """Fails for a mean over no examples, and for a gate that a replica decides by itself."""
    objective, callbacks = HELD[name]
    x = x[: SIZE + 1]  # The last batch is of one example, and the second replica has none.
    one = make(objective, run_eagerly=True)
    expected = train(one, x, callbacks=callbacks())
    with replicas.scope():
        two = make(objective, run_eagerly=run_eagerly)
    assert_same_logs(train(two, x, callbacks=callbacks()), expected)
    assert_alike(two, one)
    for variable in [*two.trainable_variables, *two.optimizer.variables, *two.objective.variables]:
        first, second = replicas.experimental_local_results(variable.value)
        np.testing.assert_array_equal(first.numpy(), second.numpy(), err_msg=variable.path)
        assert np.all(np.isfinite(first.numpy())), variable.path
    if run_eagerly:
        options = {"batch_size": SIZE, "verbose": 0, "return_dict": True}
        assert_same_logs(*(model.evaluate(x, **options) for model in (two, one)))


def normalized():
    hidden = keras.layers.Dense(5, "tanh"), keras.layers.BatchNormalization(synchronized=True)
    return Adversarial(ELBO(), discriminator(*hidden), weight=20.0)


@pytest.mark.full
def test_a_discriminator_with_statistics_of_all_replicas_is_that_of_one_device(x, replicas):
    """Fails for statistics of each replica by itself, also where the second has no data."""
    x = x[: SIZE + 1]
    one = make(normalized, run_eagerly=True)
    expected = train(one, x)
    with replicas.scope():
        two = make(normalized, run_eagerly=True)
    assert_same_logs(train(two, x), expected)
    assert_alike(two, one)
    for mine, theirs in zip(
        two.objective.discriminator.weights, one.objective.discriminator.weights, strict=True
    ):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-4, atol=2e-6)


# Weights of terms, driven.


class Slopes(StepHook):
    """Keeps a number and the gradients of each step, which has to be run eagerly."""

    def __init__(self, number):
        super().__init__("slopes")
        self.number, self.numbers, self.gradients = number, [], []

    def observe(self, step):
        self.numbers.append(float(self.number))
        self.gradients.append([g.numpy() for g in step.gradients])


def features():
    return keras.Sequential([keras.Input(SHAPE), keras.layers.AveragePooling2D(2)])


def perceptual():
    return Adversarial(ELBO(), discriminator(), perceptual=features())


# Of each number, who has to feel it, and who must not by one bit.
DRIVEN = {
    "r1": (lambda: Adversarial(ELBO(), discriminator(), r1=0.5), {"discriminator"}),
    "lecam": (lambda: Adversarial(ELBO(), discriminator(), lecam=0.5), {"discriminator"}),
    "weight": (lambda: Adversarial(ELBO(), discriminator()), {"encoder", "decoder"}),
    "weight of adaptive": (adaptive, {"encoder", "decoder"}),
    "perceptual_weight": (perceptual, {"encoder", "decoder"}),
    "gamma": (lambda: LearnedSimilarity(discriminator()), {"decoder"}),
    "gamma of FactorVAE": (lambda: FactorVAE(critic()), {"encoder"}),
    "weight of AdversarialPosterior": (lambda: AdversarialPosterior(critic()), {"encoder"}),
    "r1 of FactorVAE": (lambda: FactorVAE(critic(), r1=0.5), {"discriminator"}),
}


@pytest.mark.parametrize("case", DRIVEN)
def test_the_weight_of_a_term_is_that_of_its_schedule(x, monkeypatch, case):
    """Fails for a weight that is late, or is the constructor's, or reaches another part."""
    monkeypatch.setattr(kv.adversaries, "permute_dimensions", lambda z, seed: z[..., ::-1, :])
    (objective, feeling), name = DRIVEN[case], case.split()[0]
    model = make(objective, rates=(0.0, 0.0), run_eagerly=True)
    x = np.tile(x[:SIZE], (3, 1, 1, 1))
    train(model, x[:SIZE])  # LeCam has its averages from then on.
    slopes = Slopes(model.hyperparameters[name])
    model.attach(slopes)
    squares = kv.callbacks.HyperparameterSchedule(name, lambda step: tf.cast(step, "float32") ** 2)
    logs = train(model, x, callbacks=[squares])
    assert slopes.numbers == [1.0, 4.0, 9.0] and logs[name] == [9.0]
    part_of = {id(v): part for part, own in model.trainable_parts.items() for v in own}
    felt = set()
    for variable, *of_steps in zip(model.trainable_variables, *slopes.gradients, strict=True):
        first, second, third = of_steps
        if part_of[id(variable)] not in feeling:
            np.testing.assert_array_equal(first, second, err_msg=variable.path)
            np.testing.assert_array_equal(first, third, err_msg=variable.path)
        elif np.any(first != second):
            felt.add(part_of[id(variable)])
            scale = max(np.abs(gradient).max() for gradient in slopes.gradients[-1])
            np.testing.assert_allclose(
                3.0 * (third - first), 8.0 * (second - first), rtol=1e-3, atol=1e-4 * scale
            )
    assert felt == feeling


# Features of networks of others.

COLOURS = (32, 32, 3)


def of_applications(kind):
    """Return a network with batch statistics that are not those of its beginning, and φ of it."""
    keras.utils.set_random_seed(3)
    options = {"input_shape": COLOURS, "alpha": 0.35, "include_top": False, "weights": None}
    network = keras.applications.MobileNetV2(**options)
    rng = np.random.default_rng(0)
    for variable in network.non_trainable_variables:
        low, high = (0.05, 0.1) if variable.name == "moving_variance" else (-0.05, 0.05)
        variable.assign(rng.uniform(low, high, variable.shape))
    names = ["block_1_expand_relu", "block_2_add"]
    phi = [network.get_layer(name) for name in names] if kind == "layers" else network
    outputs = [one.output for one in phi] if kind == "layers" else network.outputs
    return network, phi, keras.Model(network.input, outputs)


def distance(network, x, other):
    found = [keras.tree.flatten(network(one, training=False)) for one in (x, other)]
    return tf.add_n([tf.reduce_mean((a - b) ** 2) for a, b in zip(*found, strict=True)])


@pytest.mark.full
@pytest.mark.parametrize("kind", ["layers", "network"])
def test_the_features_of_a_network_of_keras_applications_teach_and_stay(kind):
    """Fails for features without a gradient, and for batch statistics or weights that move."""
    network, phi, by_hand = of_applications(kind)
    options = {"weight": 0.0, "perceptual_weight": 0.0, "perceptual": phi}
    model = make_vae(
        shape=COLOURS,
        objective=Adversarial(ELBO(), discriminator(shape=COLOURS), **options),
        likelihood=kv.likelihoods.Laplace(COLOURS),
    )
    optimizer = kv.optimizers.by_part(model, default=SGD(0.1), discriminator=SGD(0.1))
    model.compile(optimizer, run_eagerly=True)
    model.trainable = True
    frozen = {id(variable) for variable in by_hand.variables}
    assert not frozen & {id(variable) for variable in model.trainable_variables}
    before = [variable.numpy() for variable in network.variables]
    images = np.random.default_rng(1).random((SIZE, *COLOURS)).astype("float32")

    def slopes(weight):
        model.hyperparameters["perceptual_weight"].assign(weight)
        given = tf.constant(images), None, tf.ones(SIZE), tf.constant(float(SIZE)), 0
        found = model.training_step._attempt(*given)
        own = {id(v): g for v, g in zip(model.trainable_variables, found.gradients, strict=True)}
        return [own[id(v)] for v in model.trainable_parts["decoder"]]

    without, heavy = slopes(0.0), slopes(1e4)
    with tf.GradientTape() as tape:
        seed = model.training_step._seed("train", model.trained_batches, tf.constant(0))
        terms = model.compute_terms(tf.constant(images), 1, True, seed)
        loss = 1e4 * distance(by_hand, images, terms.draws.p_x.mean()[0])
    expected = tape.gradient(loss, model.trainable_parts["decoder"])
    for one, other, slope in zip(without, heavy, expected, strict=True):
        scale = np.abs(slope).max()
        assert scale > 1e-3 * np.abs(one).max()
        np.testing.assert_allclose(other - one, slope, rtol=1e-2, atol=1e-3 * scale)
    model.fit(images, batch_size=SIZE, verbose=0)
    model.evaluate(images, batch_size=SIZE, verbose=0)
    for variable, old in zip(network.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), old, err_msg=variable.path)


# Parameters in no optimizer.


def test_every_parameter_beside_a_discriminator_is_trained(x):
    """Fails for a learned scale of the likelihood, or a prior, that no optimizer holds."""
    model = make_vae(
        objective=Adversarial(ELBO(), discriminator(), "non_saturating"),
        likelihood=kv.likelihoods.Laplace(SHAPE, "shared"),
        prior=kv.priors.VampPrior(2, num_pseudo_inputs=3),
    )
    parts = {part: SGD(0.05) for part in ("encoder", "decoder", "prior", "discriminator")}
    model.compile(kv.optimizers.by_part(model, **parts), run_eagerly=True)
    before = trainable_weights_of(model)
    train(model, x[:SIZE])
    assert model.likelihood_head.trainable_variables
    for variable, old in zip(model.trainable_variables, before, strict=True):
        assert np.any(variable.numpy() != old), variable.path


# What plain models have of all this: nothing.


def operations(model, x):
    """Return how many operations of each type are in a step of training."""
    step = tf.function(model.train_step, autograph=False)
    definition = step.get_concrete_function(tf.constant(x[:SIZE])).graph.as_graph_def()
    nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
    return Counter(node.op for node in nodes)


def plain(by_part):
    model = make_vae(likelihood=kv.likelihoods.Laplace(SHAPE))
    adam = keras.optimizers.Adam()
    model.compile(kv.optimizers.by_part(model, default=adam) if by_part else adam)
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.mark.full
def test_a_plain_model_has_no_operation_of_parts_or_gates(x, monkeypatch):
    """Fails for a gate, a branch or a sum over parts in the step of a model that has none."""
    found, of_parts = (operations(plain(by_part), x) for by_part in (False, True))
    branches = "If", "StatelessIf", "Case", "StatelessCase"
    assert [of_parts[branch] for branch in branches] == [found[branch] for branch in branches]

    def gradients(tape, totals, model):
        return tape.gradient(totals[""], model.trainable_variables)

    def whole(self, by_part, regularization):
        return [("", by_part[""], regularization)]

    monkeypatch.setattr(optimization, "moving_parts", lambda *given: {})
    monkeypatch.setattr(losses, "by_part", lambda loss, *given: {"": loss})
    monkeypatch.setattr(losses, "gradients", gradients)
    monkeypatch.setattr(TrainingStep, "_with_own_losses", whole)
    assert found == operations(plain(False), x)
