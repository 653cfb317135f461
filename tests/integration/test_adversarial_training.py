"""Adversarial trainings: the same in every way of running, and what implementations get wrong."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.objectives import (
    ELBO,
    GECO,
    Adversarial,
    AdversarialPosterior,
    FactorVAE,
    ImportanceWeighted,
    LearnedSimilarity,
    SquaredError,
)
from tests.small_models import MeanVAE, make_mean_vae, make_vae, randomize

SHAPE, BATCHES, SIZE = (8, 8, 1), 8, 4
SGD = keras.optimizers.SGD


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).random((48, *SHAPE)).astype("float32")


def discriminator(normalization="group"):
    keras.utils.set_random_seed(1)
    options = {"kernel_size": 3, "activation": "tanh", "normalization": normalization}
    return kv.networks.PatchDiscriminator((4, 6), **options)


def adversarial(**changes):
    options = {"weight": 20.0, "weight_start": 4, "r1": 0.5, "lecam": 0.5, **changes}
    return Adversarial(ELBO(), discriminator(), **options)


def make(objective=None, model=make_mean_vae, **options):
    likelihood = kv.likelihoods.Laplace(SHAPE, 0.5)
    model = model(objective=objective or adversarial(), likelihood=likelihood)
    optimizers = {"default": SGD(1e-3), "discriminator": SGD(0.02, momentum=0.9)}
    every, start = {"discriminator": 2}, {"discriminator": 3}
    model.compile(kv.optimizers.by_part(model, **optimizers, every=every, start=start), **options)
    return model


def train(model, x, **options):
    return model.fit(x, batch_size=SIZE, shuffle=False, verbose=0, **options).history


def values(model):
    return [v.numpy() for v in model.trainable_variables]


def count(number):
    return int(np.asarray(number))


def assert_equal(model, expected, atol=2e-6):
    for variable, value in zip(model.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(
            variable.numpy(), value, rtol=1e-4, atol=atol, err_msg=variable.path
        )


# The same in every way of running.


@pytest.fixture(scope="module")
def reference(x):
    """Return the weights after an eager training, the logs, and the weights at its start."""
    model = make(run_eagerly=True)
    start = values(model)
    logs = train(model, x[: BATCHES * SIZE])
    assert all(np.any(a != b) for a, b in zip(start, values(model), strict=True))
    assert count(model.optimizer["discriminator"].iterations) == 2  # batches 4 and 6
    return values(model), logs


MODES = {"XLA, 5 at a time": {"jit_compile": True, "steps_per_execution": 5}, "replicas": {}}


@pytest.mark.full
@pytest.mark.parametrize("mode", MODES)
def test_every_way_of_running_gives_the_same_weights(x, reference, replicas, mode):
    expected, logs = reference
    with (replicas if mode == "replicas" else tf.distribute.get_strategy()).scope():
        model = make(**MODES[mode])
    found = train(model, x[: BATCHES * SIZE])
    assert_equal(model, expected)
    assert set(found) == set(logs)
    for name in logs:
        np.testing.assert_allclose(found[name], logs[name], rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.full
def test_a_training_goes_on_from_a_file(x, reference, tmp_path):
    """Fails for a discriminator, its optimizer's state or the averages missing in the file."""
    expected, _ = reference
    model = make(run_eagerly=True)
    train(model, x[: 5 * SIZE])
    model.save(tmp_path / "model.keras")
    resumed = keras.saving.load_model(tmp_path / "model.keras", {"MeanVAE": MeanVAE})
    resumed.run_eagerly = True
    train(resumed, x[5 * SIZE : BATCHES * SIZE])
    assert_equal(resumed, expected)


@pytest.mark.full
def test_adaptive_weights_are_those_of_the_global_batch(x, replicas):
    """Fails for norms of each replica by itself."""
    x = x[: 2 * SIZE]
    one = make(adversarial(adaptive=True, weight=1.0, weight_start=0), run_eagerly=True)
    logs = train(one, x)
    with replicas.scope():
        two = make(adversarial(adaptive=True, weight=1.0, weight_start=0), run_eagerly=True)
    found = train(two, x)
    assert logs["adversarial_weight"][0] > 10.0
    np.testing.assert_allclose(found["adversarial_weight"], logs["adversarial_weight"], rtol=1e-3)
    assert_equal(two, values(one))


@pytest.mark.full
def test_the_weight_starts_at_its_step_and_is_driven(x):
    model = make(adversarial(weight=2.0, weight_start=2), run_eagerly=True)
    logs = train(model, x[: 4 * SIZE])
    assert logs["adversarial_weight"] == pytest.approx([2.0 * 2 / 4])
    schedule = kv.callbacks.HyperparameterSchedule("weight", kv.schedules.Linear(0.0, 1.0, 10))
    logs = train(model, x[: 2 * SIZE], callbacks=[schedule])
    assert logs["adversarial_weight"] == pytest.approx([(0.4 + 0.5) / 2])
    assert {"weight", "r1", "lecam", "beta"} <= set(model.hyperparameters)


# What implementations get wrong.


def test_the_discriminator_learns_to_tell_data_from_fakes_and_the_doctor_tells_it_has_won(x):
    """Fails for logits or targets that are swapped, and for a discriminator that never steps."""
    model = make_mean_vae(
        objective=adversarial(weight=0.0, weight_start=0, r1=0.0, lecam=0.0),
        likelihood=kv.likelihoods.Laplace(SHAPE),
    )
    fast = keras.optimizers.Adam(1e-2)
    model.compile(kv.optimizers.by_part(model, default=SGD(0.0), discriminator=fast))
    check = kv.callbacks.HealthCheck(grace=10, min_active_units=0)
    with pytest.warns(kv.callbacks.HealthWarning, match="it has won"):
        logs = model.fit(x, batch_size=12, epochs=16, verbose=0, callbacks=[check]).history
    assert "adversary has won" in [finding.symptom for finding in check.findings]
    assert logs["discriminator_accuracy"][-1] > 0.95
    assert logs["discriminator_loss"][-1] < 0.5 * logs["discriminator_loss"][0]
    logits = [
        tf.reduce_mean(model.objective.discriminator(images))
        for images in (x, model.reconstruct(x))
    ]
    assert float(logits[0]) > 0.0 > float(logits[1])


@pytest.mark.full
@pytest.mark.parametrize("maker", ["Adversarial", "AdversarialPosterior"])
def test_the_maker_of_fakes_learns_to_deceive(x, maker):
    """Fails for a maker whose loss has the wrong sign."""
    if maker == "Adversarial":
        objective = adversarial(weight=1e4, weight_start=0, r1=0.0, lecam=0.0)
    else:
        critic = keras.Sequential([keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
        objective = AdversarialPosterior(critic, 1e4)
    model = make_mean_vae(objective=objective, likelihood=kv.likelihoods.Laplace(SHAPE))
    model.compile(
        kv.optimizers.by_part(model, default=keras.optimizers.Adam(1e-2), discriminator=SGD(0.0)),
        run_eagerly=True,
    )
    logs = model.fit(x, batch_size=len(x), epochs=4, verbose=0).history
    assert logs["adversarial"][-1] < logs["adversarial"][0]


@pytest.mark.full
def test_the_perceptual_loss_has_a_gradient_and_frozen_weights(x):
    """Fails for features computed without a gradient, and for weights that thaw."""
    phi = keras.Sequential(
        [keras.Input(SHAPE), keras.layers.Conv2D(3, 3, name="c"), keras.layers.ReLU(name="r")]
    )
    objective = adversarial(
        perceptual=[phi.get_layer("c"), phi.get_layer("r")], weight=0.0, perceptual_weight=1e3
    )
    model = make(objective, run_eagerly=True)
    model.trainable = True
    assert not phi.trainable_variables
    before = phi.get_weights()
    logs = train(model, x[:SIZE], epochs=2)
    assert logs["perceptual"][1] < logs["perceptual"][0]
    for one, other in zip(before, phi.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("part", ["discriminator", ""])
def test_what_is_not_finite_in_the_loss_of_one_part_moves_nothing(x, part):
    class Bad(Adversarial):
        def loss_and_measures(self, terms):
            losses, measures = super().loss_and_measures(terms)
            return {**losses, part: losses[part] * np.nan}, measures

    model = make(Bad(ELBO(), discriminator(), lecam=0.5), run_eagerly=True)
    before = [v.numpy() for v in model.variables if v.name not in ("total", "count")]
    named = "the loss of the discriminator" if part else "the loss"
    with pytest.raises(ArithmeticError, match=f"{named} is not finite"):
        train(model, x)
    after = [v.numpy() for v in model.variables if v.name not in ("total", "count")]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.full
def test_half_precision_gives_a_finite_adaptive_weight(x):
    for policy in ("mixed_float16", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        model = make(adversarial(adaptive=True, weight=1.0, weight_start=0), run_eagerly=True)
        logs = train(model, x[:SIZE])
        assert np.isfinite(logs["adversarial_weight"]) and logs["adversarial_weight"][0] > 0.0
        assert np.isfinite(logs["loss"])


def test_batch_statistics_on_replicas_are_refused(replicas):
    layers = [keras.layers.Flatten(), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    message = "`discriminator` must have no BatchNormalization on several replicas"
    with replicas.scope(), pytest.raises(ValueError, match=message):
        make_vae(objective=Adversarial(ELBO(), keras.Sequential(layers)))
    make_vae(objective=Adversarial(ELBO(), keras.Sequential(layers)))


# Parts, files and export.


def test_the_discriminator_is_a_part_that_every_variable_of_it_belongs_to():
    model = make()
    parts = model.trainable_parts
    assert list(parts) == ["encoder", "decoder", "prior", "discriminator"]
    own = model.objective.discriminator.trainable_variables
    assert [id(v) for v in parts["discriminator"]] == [id(v) for v in own] and own
    ids = [id(v) for variables in parts.values() for v in variables]
    assert sorted(ids) == sorted(id(v) for v in model.trainable_variables)


def test_models_of_one_part_have_the_discriminator_apart():
    class Own(kv.LatentVariableModel):
        def __init__(self, objective):
            super().__init__(objective)
            self.dense = keras.layers.Dense(3)
            self.dense.build((None, 2))

    judge = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    parts = Own(Adversarial(ELBO(), judge)).trainable_parts
    assert {name: len(variables) for name, variables in parts.items()} == {
        "model": 2,
        "discriminator": 2,
    }


@pytest.mark.parametrize(
    "kind",
    ["VQVAE", "HierarchicalVAE", pytest.param("ConditionalVAE", marks=pytest.mark.full)],
)
def test_every_model_takes_an_adversary(kind):
    objective = Adversarial(ELBO(), discriminator(), adaptive=True)
    likelihood = kv.likelihoods.Laplace(SHAPE)
    y = None
    if kind == "ConditionalVAE":
        model, y = (
            make_vae(kv.ConditionalVAE, condition=3, objective=objective, likelihood=likelihood),
            np.zeros(8, "int32"),
        )
    elif kind == "HierarchicalVAE":
        bottom_up = kv.networks.BottomUp({4: 4, 1: 4})
        top_down = kv.networks.TopDown({1: (1, 2), 4: (1, 2)})
        model = kv.HierarchicalVAE(bottom_up, top_down, likelihood, objective)
    else:
        model = kv.VQVAE(
            encoder=kv.networks.MapEncoder((4, 8), blocks=1),
            decoder=kv.networks.MapDecoder(SHAPE, (8, 4), blocks=1),
            posterior=kv.posteriors.VectorQuantizer((2, 2), codebook_size=8, code_dim=4),
            likelihood=likelihood,
            objective=objective,
        )
    model.compile(
        kv.optimizers.by_part(model, default=SGD(1e-3), discriminator=SGD(1e-2)), run_eagerly=True
    )
    before = values(model)
    logs = model.fit(np.ones((8, *SHAPE), "float32"), y, batch_size=8, verbose=0).history
    assert logs["adversarial_weight"][0] > 0.0
    part = {id(v) for v in model.trainable_parts["discriminator"]}
    pairs = zip(model.trainable_variables, before, strict=True)
    assert any(np.any(v.numpy() != old) for v, old in pairs if id(v) in part)


@pytest.mark.full
def test_another_prior_takes_the_discriminator_along():
    model = make()
    randomize(model.objective.discriminator)
    other = model.with_prior(kv.priors.MixtureOfNormals(2, 3))
    mine, theirs = (one.objective.discriminator for one in (model, other))
    assert mine is not theirs
    for one, two in zip(mine.weights, theirs.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())


@pytest.mark.full
def test_the_discriminator_stays_out_of_a_saved_model(x, tmp_path):
    with_one, without = (
        make_vae(objective=objective, likelihood=kv.likelihoods.Laplace(SHAPE))
        for objective in (adversarial(), ELBO())
    )
    served = tf.saved_model.load(kv.export_saved_model(with_one, tmp_path / "model"))
    training = {id(v) for part in (*without.metrics, without.objective) for v in part.variables}
    expected = [tuple(v.shape) for v in without.variables if id(v) not in training]
    assert sorted(tuple(weight.shape) for weight in served.weights) == sorted(expected)
    mean = served.signatures["reconstruct"](tf.constant(x[:2]))["mean"]
    np.testing.assert_allclose(mean, with_one.reconstruct(x[:2]), rtol=1e-5, atol=1e-6)


def test_callbacks_find_the_objective_within(x):
    objective = Adversarial(GECO(SquaredError(1.0)), discriminator())
    model = make(objective, run_eagerly=True)
    logs = train(model, x[: 2 * SIZE], callbacks=[kv.callbacks.GECO(learning_rate=0.1)])
    assert logs["lambda"][-1] > 1.0 and "constraint" in logs


# The doctor.


@pytest.mark.full
def test_a_discriminator_that_never_moves_is_told(x):
    """Fails for a start beyond the end, and for a part that no loss depends on."""
    model = make_mean_vae(objective=adversarial(), likelihood=kv.likelihoods.Laplace(SHAPE))
    late = {"start": {"discriminator": 1000}}
    model.compile(
        kv.optimizers.by_part(model, default=SGD(1e-4), discriminator=SGD(), **late),
        run_eagerly=True,
    )
    check = kv.callbacks.HealthCheck()
    with pytest.warns(kv.callbacks.HealthWarning, match="the discriminator has not made a single"):
        train(model, x[: 2 * SIZE], callbacks=[check])
    assert [finding.symptom for finding in check.findings] == ["part that never moved"]

    class Forgotten(Adversarial):
        def loss_and_measures(self, terms):
            losses, measures = super().loss_and_measures(terms)
            return {**losses, "discriminator": tf.zeros_like(losses[""])}, measures

    model = make(Forgotten(ELBO(), discriminator()), run_eagerly=True)
    model.compile(SGD(1e-4), run_eagerly=True)
    with pytest.warns(kv.callbacks.HealthWarning, match="no loss may depend on it"):
        train(model, x[: 2 * SIZE], callbacks=[kv.callbacks.HealthCheck()])


@pytest.mark.full
def test_dimensions_are_permuted_over_all_replicas(x, replicas):
    """Three batches, the last of a single example: one replica has none."""
    trained = []
    for strategy in (tf.distribute.get_strategy(), replicas):
        keras.utils.set_random_seed(1)
        critic = keras.Sequential([keras.layers.Dense(5, "tanh"), keras.layers.Dense(1)])
        with strategy.scope():
            model = make(FactorVAE(critic, gamma=5.0), run_eagerly=True)
            model.compile(SGD(1e-2), run_eagerly=True)
        train(model, x[: 2 * SIZE + 1])
        trained.append(model)
    one, two = trained
    assert_equal(two, values(one))


def test_a_preset_takes_all_that_its_objective_does(x):
    options = {"gamma": 0.5, "beta": 2.0, "num_samples": 2, "r1": 0.3, "lecam": 0.2}
    parts = {name: getattr(make_vae(), f"{name}_head") for name in ("posterior", "likelihood")}
    networks = {"encoder": make_vae().encoder, "decoder": make_vae().decoder}
    model = kv.VAEGAN(**parts, **networks, discriminator=discriminator(), **options)
    copy = kv.VAEGAN.from_config(model.get_config())
    config = copy.objective.get_config()
    assert {name: config[name] for name in options} == options


@keras.saving.register_keras_serializable("tests")
class Wasserstein(ELBO):
    """As in `docs/adversaries.md`, and saved."""

    loss_parts = ("critic",)

    def __init__(self, critic, **kwargs):
        super().__init__(**kwargs)
        self.critic = critic

    @property
    def parts(self):
        return {"critic": (self.critic,)}

    def loss(self, terms):
        gap = (self.critic(terms.draws.x) - self.critic(terms.draws.p_x.mean()[0]))[:, 0]
        return {"": super().loss(terms) + gap, "critic": -gap}

    def get_config(self):
        return {**super().get_config(), "critic": self.critic}


def test_an_objective_of_ones_own_is_saved_with_its_critic(x, tmp_path):
    critic = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(1)])
    model = make_vae(objective=Wasserstein(critic))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for one, other in zip(values(model), values(loaded), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(loaded.trainable_parts["critic"]) == 2


# Refusals.


def test_a_critic_that_nobody_builds_is_refused():
    critic = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(1, name="judge")])
    with pytest.raises(ValueError, match="`objective` must build the layers of its parts"):
        make_vae(objective=Wasserstein(critic)).compile("sgd")


def test_objectives_that_do_not_fit_are_refused():
    judge = discriminator()
    with pytest.raises(ValueError, match="`objective` must have no discriminator itself"):
        Adversarial(Adversarial(ELBO(), judge), judge)
    for bound in (ELBO(estimator="score_function"), _doubly()):
        with pytest.raises(ValueError, match="let the gradient of z pass as it is"):
            Adversarial(bound, judge)
    with pytest.raises(
        ValueError, match="`objective` must be an instance of keras_vae.objectives.Objective\\."
    ):
        Adversarial("elbo", judge)
    with pytest.raises(ValueError, match="`loss` must be one of .*'hinge'"):
        Adversarial(ELBO(), judge, "wasserstein")
    with pytest.raises(ValueError, match="`discriminator` must be a Keras layer"):
        Adversarial(ELBO(), lambda x: x)
    with pytest.raises(ValueError, match="`weight` must be a finite number >= 0"):
        Adversarial(ELBO(), judge, weight=-1.0)
    with pytest.raises(ValueError, match="`perceptual` must be a Keras model, or a list"):
        Adversarial(ELBO(), judge, perceptual=[])
    with pytest.raises(ValueError, match="layers of one functional or sequential model"):
        Adversarial(ELBO(), judge, perceptual=[keras.layers.Dense(3)])


def _doubly():
    return ImportanceWeighted(2, "doubly_reparameterized")


def test_models_that_do_not_fit_are_refused():
    narrow = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="`likelihood` must have no weights of its own"):
        make_vae(
            objective=LearnedSimilarity(discriminator()),
            likelihood=kv.likelihoods.Normal(SHAPE, "shared"),
        )
    with pytest.raises(ValueError, match="`feature_layer` must name a layer"):
        layers = [keras.layers.Flatten(), keras.layers.Dense(1)]
        make_vae(objective=LearnedSimilarity(keras.Sequential(layers), feature_layer="hidden"))
    with pytest.raises(ValueError, match="`feature_layer` must be None for a network of keras_vae"):
        own = kv.networks.ConvDiscriminator((4,))
        make_vae(objective=LearnedSimilarity(own, feature_layer="judge"))
    with pytest.raises(ValueError, match="`discriminator` must have no keras.layers.SpectralNorm"):
        layers = [keras.layers.SpectralNormalization(keras.layers.Dense(4)), keras.layers.Dense(1)]
        make_vae(objective=Adversarial(ELBO(), keras.Sequential([keras.layers.Flatten(), *layers])))
    with pytest.raises(ValueError, match=r"`perceptual` must take images of shape \(None, 8, 8, 1"):
        of_colours = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3)])
        make_vae(objective=Adversarial(ELBO(), discriminator(), perceptual=of_colours))
    with pytest.raises(ValueError, match="`adaptive` must be False for a model without"):
        decoder = keras.Sequential([kv.networks.OutputBias(), keras.layers.Reshape(SHAPE)])
        make_vae(
            objective=Adversarial(ELBO(), discriminator(), adaptive=True),
            decoder=decoder,
            posterior=kv.posteriors.DiagonalNormal(64),
        )
    with pytest.raises(ValueError, match="`discriminator` must take inputs of shape"):
        make_vae(objective=FactorVAE(_unbuilt(narrow)))


def _unbuilt(model):
    class OfFour(keras.layers.Layer):
        def call(self, inputs):
            return model(inputs)

    return OfFour()
