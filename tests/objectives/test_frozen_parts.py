"""What is frozen or has not moved stays as it is; what would be frozen silently is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.objectives import ELBO, Adversarial, AdversarialPosterior
from tests.small_models import SHAPE, make_vae, parts

SGD = keras.optimizers.SGD
NAMES = ("encoder", "decoder", "discriminator")


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).random((8, *SHAPE)).astype("float32")


def discriminator():
    layers = [keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(5, "tanh")]
    return keras.Sequential([*layers, keras.layers.Dense(1)])


def adversarial(judge=None, **options):
    objective = Adversarial(ELBO(), judge or discriminator(), **options)
    return make_vae(objective=objective, likelihood=kv.likelihoods.Laplace(SHAPE, 0.5))


def by_part(model, make=lambda: SGD(1e-3), **options):
    return kv.optimizers.by_part(model, **{name: make() for name in NAMES}, **options)


def averaging():
    return SGD(1e-3, use_ema=True, ema_momentum=0.5)


def values_of(layer):
    return [weight.numpy().copy() for weight in layer.weights]


def assert_same(weights, others):
    for weight, other in zip(weights, others, strict=True):
        np.testing.assert_array_equal(weight, other)


# Averages of weights, which Keras assigns at the end of a training.


def test_a_part_that_makes_no_step_keeps_its_weights_beside_averages(x):
    model = adversarial()
    model.compile(by_part(model, averaging, start={"discriminator": 100}), run_eagerly=True)
    judge, decoder = model.objective.discriminator, values_of(model.decoder)
    before = values_of(judge)
    model.fit(x, batch_size=4, verbose=0)
    assert_same(values_of(judge), before)
    assert not np.array_equal(model.decoder.weights[0], decoder[0])


@pytest.mark.parametrize("kind", ["no epoch", "skipped"])
def test_a_training_without_a_step_keeps_the_weights_beside_averages(x, kind):
    model = make_vae()
    model.compile(averaging(), run_eagerly=True)
    before = values_of(model.decoder)
    if kind == "no epoch":
        model.fit(x, initial_epoch=1, epochs=1, verbose=0)
    else:
        check = kv.callbacks.HealthCheck(non_finite="skip")
        weights = np.full(len(x), 3e38, "float32")  # Times a loss, this is infinite.
        model.fit(x, sample_weight=weights, verbose=0, callbacks=[check])
        assert int(model.optimizer.iterations) == 0
    assert_same(values_of(model.decoder), before)


@pytest.mark.full
def test_averages_begin_at_the_weights_on_replicas(x, replicas):
    with replicas.scope():
        model = adversarial()
        model.compile(by_part(model, averaging, start={"discriminator": 100}))
    before = values_of(model.objective.discriminator)
    model.fit(x, batch_size=4, verbose=0)
    assert_same(values_of(model.objective.discriminator), before)


# Frozen layers, made anew from their configuration.


def frozen(layer):
    layer.trainable = False
    return layer


def features():
    network = kv.networks.ConvEncoder((4,))
    network.build((None, *SHAPE))
    return network


def frozen_encoder():
    inner = frozen(kv.networks.MLPEncoder((5,)))
    return keras.Sequential([keras.Input(SHAPE), inner, keras.layers.Dense(4)])


MODELS = {
    "perceptual": lambda: adversarial(perceptual=features()),
    "discriminator": lambda: adversarial(frozen(kv.networks.PatchDiscriminator((4,)))),
    "built without": lambda: adversarial(kv.networks.PatchDiscriminator((4,), trainable=False)),
    "encoder": lambda: make_vae(encoder=frozen_encoder()),
    "condition": lambda: kv.ConditionalVAE(
        condition=frozen(keras.Sequential([keras.Input((3,)), kv.networks.MLPEncoder((4,))])),
        **parts(),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_frozen_stays_so_in_a_model_of_the_same_configuration(name):
    model = MODELS[name]()
    again = type(model).from_config(model.get_config())
    assert len(again.variables) == len(model.variables)
    assert len(again.trainable_variables) == len(model.trainable_variables)
    trainable = {name: len(own) for name, own in model.trainable_parts.items()}
    assert {name: len(own) for name, own in again.trainable_parts.items()} == trainable
    # All that is trained belongs to a part.
    assert sum(trainable.values()) == len(model.trainable_variables)


def test_a_perceptual_network_does_not_learn_beside_another_prior(x):
    model = adversarial(perceptual=features(), perceptual_weight=100.0)
    other = model.with_prior(kv.priors.StandardNormal(2))
    other.compile(keras.optimizers.Adam(1e-2), run_eagerly=True)
    network = other.objective._distance.network
    before = values_of(network)
    other.fit(x, batch_size=4, verbose=0)
    assert_same(values_of(network), before)


@pytest.mark.parametrize("place", ["discriminator", "encoder"])
def test_a_perceptual_network_that_learns_elsewhere_is_refused_and_left_as_it_is(place):
    judge, encoder = discriminator(), kv.networks.MLPEncoder((4,))
    learning = judge if place == "discriminator" else encoder
    phi = [judge.layers[1]] if place == "discriminator" else encoder
    with pytest.raises(ValueError, match="`perceptual` must share no layer with the model or the"):
        make_vae(encoder=encoder, objective=Adversarial(ELBO(), judge, perceptual=phi))
    assert all(layer.trainable for layer in learning._flatten_layers())


def test_freezing_a_part_goes_on_with_the_optimizer_of_before(x):
    model = adversarial()
    model.compile(by_part(model, lambda: SGD(1e-3, clipnorm=1.0)), run_eagerly=True)
    model.fit(x, batch_size=4, verbose=0)
    model.encoder.trainable = False
    encoder, decoder = values_of(model.encoder), values_of(model.decoder)
    model.fit(x, batch_size=4, verbose=0)
    assert_same(values_of(model.encoder), encoder)
    assert not np.array_equal(model.decoder.weights[0], decoder[0])


# Discriminators and priors that cannot be what they are given for.


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda: keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten()]),
            r"`discriminator` must take inputs of shape \(None, 8, 8, 1\)",
        ),
        (
            lambda: keras.Model(one := keras.Input(SHAPE), [one, one]),
            "`discriminator` must return a single tensor of logits",
        ),
    ],
)
def test_a_built_discriminator_is_checked_against_the_data(wrong, message):
    with pytest.raises(ValueError, match=message):
        adversarial(wrong())


def test_the_image_itself_is_no_learned_feature():
    wrapped = keras.Sequential([keras.Input(SHAPE), kv.networks.ConvDiscriminator((4,))])
    with pytest.raises(ValueError, match="`feature_layer` must name a hidden layer: what goes"):
        kv.VAEGAN(**parts(), discriminator=wrapped)


def critic():
    return keras.Sequential([keras.layers.Dense(1)])


def test_a_critic_of_z_has_no_prior_that_nothing_trains():
    prior = kv.priors.MixtureOfNormals(2, 3)
    with pytest.raises(ValueError, match="`prior` must have no weights that learn, as nothing"):
        make_vae(prior=prior, objective=AdversarialPosterior(critic())).compile("sgd")
    objective = AdversarialPosterior(critic(), objective=ELBO(beta=0.5))
    make_vae(prior=kv.priors.MixtureOfNormals(2, 3), objective=objective).compile("sgd")
    kept = frozen(kv.priors.MixtureOfNormals(2, 3))
    make_vae(prior=kept, objective=AdversarialPosterior(critic())).compile("sgd")


def test_a_prior_is_fitted_to_the_codes_that_a_critic_has_shaped(x):
    model = make_vae(objective=AdversarialPosterior(critic()))
    model.compile("sgd", run_eagerly=True)
    model.fit(x, batch_size=4, verbose=0)
    prior = kv.evaluation.fit_prior(model, x, kv.priors.MixtureOfNormals(2, 2))
    other = model.with_prior(prior)
    assert np.all(
        np.isfinite(kv.evaluation.log_likelihood(other, x, 10, verbose=False).per_example)
    )


def test_a_critic_of_z_needs_no_kl(x):
    model = make_vae(objective=AdversarialPosterior(critic()))
    model.compile("sgd", run_eagerly=True)
    check = kv.callbacks.HealthCheck()
    model.fit(x, batch_size=4, verbose=0, callbacks=[check])
    assert "beta still zero" not in {finding.symptom for finding in check.findings}


# Gates, and the smallest of batches and kernels.


def test_a_gate_without_feedback_holds_its_part(x):
    class Closed(kv.controllers.Gate):
        def gate(self, means):
            return {part: tf.constant(False) for part in self.counts}

    model = adversarial()
    model.compile(by_part(model), run_eagerly=True)
    model.attach(Closed("closed", {"decoder": model.optimizer["decoder"]._iterations}))
    before = values_of(model.decoder)
    history = model.fit(x, batch_size=4, verbose=0).history
    assert history["decoder_steps"] == [0.0]
    assert_same(values_of(model.decoder), before)


def test_a_gate_beside_accumulated_gradients_is_refused(x):
    model = adversarial(loss="non_saturating")
    model.compile(by_part(model, lambda: SGD(1e-3, gradient_accumulation_steps=2)))
    with pytest.raises(ValueError, match="`optimizer` must not accumulate gradients, as a gate"):
        model.fit(x, batch_size=4, verbose=0, callbacks=[kv.callbacks.Equilibrium()])


def test_a_kernel_of_zeros_has_finite_outputs_and_slopes():
    for dtype in ("float32", "mixed_float16"):
        layer = kv.networks.SpectralNormalization(
            keras.layers.Dense(3, use_bias=False, kernel_initializer="zeros"), dtype=dtype
        )
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(tf.cast(layer(tf.ones([2, 4])), "float32"))
        slope = tape.gradient(total, layer.trainable_variables[0])
        assert float(total) == 0.0
        assert np.all(np.isfinite(slope)), dtype
        assert np.abs(slope).max() < 1e8


# Objectives around others.


class Wasserstein(ELBO):
    """A user's objective, with a part of its own that only the model's shapes build."""

    loss_parts = ("critic",)
    matches_prior = True

    def __init__(self, critic, **kwargs):
        super().__init__(**kwargs)
        self.critic, self.asked = critic, []

    @property
    def parts(self):
        return {"critic": (self.critic,)}

    def build_for(self, model):
        self.critic.build((None, *model.likelihood_head.event_shape))

    def check_trainable(self, model):
        self.asked.append(model.name)

    def loss(self, terms):
        gap = (self.critic(terms.draws.x) - self.critic(terms.draws.p_x.mean()[0]))[:, 0]
        return {"": super().loss(terms) + gap, "critic": -gap}


def test_a_discriminator_is_added_to_an_objective_with_a_part_of_its_own(x):
    inner = Wasserstein(keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(1)]))
    model = make_vae(objective=Adversarial(inner, discriminator()))
    assert list(model.trainable_parts) == ["encoder", "decoder", "prior", "critic", "discriminator"]
    assert model.objective.matches_prior and inner.critic.built
    before = values_of(inner.critic)
    model.compile("sgd", run_eagerly=True)
    assert inner.asked == [model.name]
    model.fit(x, batch_size=4, verbose=0)
    assert any(np.any(a != b) for a, b in zip(before, values_of(inner.critic), strict=True))
