"""`VAE.with_prior`: the same parts under another prior."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv

IMAGE, LATENT = (8, 8, 1), 2


def parts():
    return {
        "encoder": kv.networks.MLPEncoder((6,)),
        "decoder": kv.networks.MLPDecoder(IMAGE, (6,)),
        "posterior": kv.posteriors.DiagonalNormal(LATENT),
        "likelihood": kv.likelihoods.Bernoulli(IMAGE),
        "seed": 3,
    }


@keras.saving.register_keras_serializable("tests")
class WithCritic(kv.VAE):
    """A user's subclass: a number and a layer more, both arguments of the constructor."""

    def __init__(self, strength, critic, **kwargs):
        self.strength, self.critic = strength, critic  # The constructor of a VAE locks it.
        if not self.critic.built:
            self.critic.build((None, LATENT))
        super().__init__(**kwargs)

    def get_config(self):
        critic = keras.saving.serialize_keras_object(self.critic)
        return {**super().get_config(), "strength": self.strength, "critic": critic}


@keras.saving.register_keras_serializable("tests")
class SelfMade(kv.VAE):
    """A user's subclass with a layer that its constructor makes itself."""

    def __init__(self, **kwargs):
        self.further = keras.layers.Dense(3)
        self.further.build((None, LATENT))
        super().__init__(**kwargs)


def geco():
    features = keras.Sequential([keras.Input(IMAGE), keras.layers.Flatten(), keras.layers.Dense(3)])
    constraint = kv.objectives.FeatureMatch(features, kappa=2.0)
    return kv.GECOVAE(**parts(), constraint=constraint, initial_multiplier=0.5)


MODELS = {
    "VAE": lambda: kv.VAE(**parts(), objective=kv.objectives.Capacity(3.0)),
    "BetaVAE": lambda: kv.BetaVAE(**parts(), beta=2.0),
    "IWAE": lambda: kv.IWAE(**parts(), num_samples=3),
    "GECOVAE": geco,
    "ConditionalVAE": lambda: kv.ConditionalVAE(condition=3, **parts()),
    "learned condition": lambda: kv.ConditionalVAE(
        condition=keras.Sequential([keras.Input(()), keras.layers.Embedding(3, 2)]), **parts()
    ),
    "user": lambda: WithCritic(0.5, keras.layers.Dense(1), **parts()),
}


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.integers(0, 2, (6, *IMAGE)).astype("float32"), rng.integers(0, 3, 6)


def labels(model, y):
    return y if isinstance(model, kv.ConditionalVAE) else None


def mixture(**kwargs):
    return kv.priors.MixtureOfNormals(LATENT, num_components=3, seed=4, **kwargs)


@pytest.mark.parametrize("name", MODELS)
def test_all_but_prior_and_objective_are_the_same_objects(name, data):
    model, prior = MODELS[name](), mixture()
    before = [weight.numpy() for weight in model.weights]
    other = model.with_prior(prior)
    assert type(other) is type(model) and other.prior_head is prior and other.seed == 3
    for part in ("encoder", "decoder", "posterior_head", "likelihood_head", "condition", "critic"):
        assert getattr(other, part, None) is getattr(model, part, None)
    assert isinstance(model.prior_head, kv.priors.StandardNormal)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)
    x, y = data
    y = labels(model, y)
    np.testing.assert_array_equal(other.reconstruct(x, y=y), model.reconstruct(x, y=y))


@pytest.mark.parametrize("name", MODELS)
def test_the_objective_is_an_equal_one_of_its_own(name, data):
    model = MODELS[name]()
    driven = model.objective.hyperparameters
    for number in driven.values():
        number.assign(0.75)  # as a schedule would leave it
    other = model.with_prior(kv.priors.StandardNormal(LATENT))
    assert other.objective is not model.objective
    assert not {*map(id, other.objective.weights)} & {*map(id, model.objective.weights)}
    assert {n: float(v) for n, v in other.objective.hyperparameters.items()} == dict.fromkeys(
        driven, 0.75
    )
    for mine, theirs in zip(other.objective.weights, model.objective.weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)  # of GECO's network of features, too
    for number in other.objective.hyperparameters.values():
        number.assign(0.25)
    assert all(float(number) == 0.75 for number in driven.values())
    x, y = data
    for each in (model, other):
        each.compile("sgd", run_eagerly=True)
    for number in other.objective.hyperparameters.values():
        number.assign(0.75)
    y = labels(model, y)
    assert other.evaluate(x, y, verbose=0) == model.evaluate(x, y, verbose=0)


@pytest.mark.parametrize("name", ["GECOVAE", "learned condition", "user"])
def test_saving_keeps_the_prior(name, data, tmp_path):
    model = MODELS[name]().with_prior(mixture())
    model.prior_head.locs.assign_add(tf.ones_like(model.prior_head.locs))
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert type(again) is type(model) and isinstance(again.prior_head, kv.priors.MixtureOfNormals)
    x, y = data
    y = labels(model, y)
    found, expected = (each.log_weights(x, 3, seed=1, y=y) for each in (again, model))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(
        again.sample(6, seed=2, y=y), model.sample(6, seed=2, y=y), rtol=1e-5
    )


def test_to_train_one_is_to_train_both(data):
    model = kv.VAE(**parts())
    other = model.with_prior(mixture())
    other.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    before = model.reconstruct(data[0])
    other.fit(data[0], epochs=1, verbose=0)
    assert np.any(before != model.reconstruct(data[0]))
    np.testing.assert_array_equal(other.reconstruct(data[0]), model.reconstruct(data[0]))


def test_a_conditional_prior_gets_the_condition(data):
    model = kv.ConditionalVAE(condition=3, **parts())
    other = model.with_prior(kv.priors.ConditionalNormal(LATENT))
    assert other.prior([0, 2]).batch_shape == (2,)


def test_weights_keep_being_frozen():
    model = kv.VAE(**parts())
    model.encoder.trainable = False
    other = model.with_prior(mixture())
    assert not model.encoder.trainable_variables
    head = other.posterior_head.trainable_variables
    assert list(map(id, other.trainable_parts["encoder"])) == list(map(id, head))
    assert len(other.trainable_parts["prior"]) == 3


def test_a_prior_of_another_latent_space_raises_the_error_of_the_constructor():
    prior = kv.priors.StandardNormal(LATENT + 1)
    with pytest.raises(ValueError, match="Argument `prior`") as of_constructor:
        kv.VAE(**parts(), prior=prior)
    with pytest.raises(ValueError, match="Argument `prior`") as found:
        kv.VAE(**parts()).with_prior(prior)
    assert str(found.value) == str(of_constructor.value)
    with pytest.raises(ValueError, match="Argument `prior` must be an instance of"):
        kv.VAE(**parts()).with_prior("normal")


def test_layers_that_cannot_be_shared_are_named():
    with pytest.raises(ValueError, match=r"SelfMade, of which the weights \['.*kernel'"):
        SelfMade(**parts()).with_prior(mixture())
