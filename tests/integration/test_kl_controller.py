"""A PI controller holds the KL at its target; `test_exactness.py` has its every step."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.controllers import PIRule

SHAPE = (8, 8, 1)


@pytest.fixture(scope="module")
def digits():
    data = kv.data.load("digits", split="train", batch_size=100)
    return np.concatenate(list(data.as_numpy_iterator()))[:1400]


def make_vae(**arguments):
    keras.utils.set_random_seed(0)
    return kv.VAE(
        encoder=kv.networks.MLPEncoder((32,)),
        decoder=kv.networks.MLPDecoder(SHAPE, (32,)),
        posterior=kv.posteriors.DiagonalNormal(4),
        likelihood=kv.likelihoods.Bernoulli(SHAPE),
        objective=kv.objectives.TargetKL(**arguments),
    )


def train(model, x, epochs, callbacks=None, **options):
    model.compile(keras.optimizers.Adam(3e-3), **{"jit_compile": False, **options})
    if callbacks is None:
        callbacks = [kv.callbacks.KLController(0.01, 1e-3)]
    fit = {"batch_size": 100, "shuffle": False, "verbose": 0}
    return model.fit(x, epochs=epochs, callbacks=callbacks, **fit).history


# The rule.


def after(error, integral=0.2, proportional=0.1, gain=0.01, bounds=(0.0, 1.0)):
    """Return I and β after a step in which the KL missed its target of 10 by an error."""
    weights = [keras.Variable(value, dtype="float64") for value in (0.5, integral, 10.0)]
    rule = PIRule("beta", *weights, proportional, gain, bounds)
    updates = rule.after_step(0, {"kl": tf.constant(10.0 - error, tf.float64)})
    assert [weight for weight, _ in updates] == [weights[1], weights[0]]
    return [float(value) for _, value in updates]


@pytest.mark.parametrize("error", [-3.0, 0.0, 5.0])
def test_the_rule_is_the_formula(error):
    integral = 0.2 - 0.01 * error
    expected = [integral, 0.1 / (1.0 + np.exp(error)) + integral]
    np.testing.assert_allclose(after(error), expected, rtol=1e-12)


@pytest.mark.parametrize("error, bound", [(500.0, 0.3), (-500.0, 0.6)])
def test_at_a_bound_the_integral_does_not_wind_up(error, bound):
    integral, beta = after(error, integral=0.4, bounds=(0.3, 0.6))
    np.testing.assert_allclose([integral, beta], [bound, bound], rtol=1e-12)


def test_an_enormous_error_gives_a_finite_beta():
    assert np.isfinite(after(1e30)).all() and np.isfinite(after(-1e30)).all()


# Trainings.


def test_the_kl_goes_to_its_target(digits):
    # From a KL of 5, too little, which β 0 lets grow to 10, to 9 nats.
    model = make_vae(target=9.0, beta=0.0)
    history = train(model, digits, epochs=45, steps_per_execution=14)
    np.testing.assert_allclose(np.mean(history["kl"][-10:]), 9.0, rtol=0.03)
    assert 0.0 < history["beta"][-1] < 1.0
    assert history["beta"][-1] == model.objective.beta.numpy()


@pytest.mark.full
def test_without_the_callback_beta_stays(digits):
    model = make_vae(target=9.0, beta=0.5)
    elbo = kv.VAE(**{**parts_of(make_vae(target=9.0)), "objective": kv.objectives.ELBO(0.5)})
    options = {"epochs": 1, "callbacks": [], "run_eagerly": True}
    history = train(model, digits[:200], **options)
    assert model.objective.beta.numpy() == 0.5 and "beta" not in history
    assert history["loss"] == train(elbo, digits[:200], **options)["loss"]


def parts_of(model):
    parts = {"encoder": model.encoder, "decoder": model.decoder}
    return {**parts, "posterior": model.posterior_head, "likelihood": model.likelihood_head}


@pytest.mark.full
def test_a_schedule_drives_the_target(digits):
    schedule = kv.schedules.Linear(2.0, 12.0, steps=4)
    model = make_vae(target=9.0)
    controller = kv.callbacks.KLController(target=schedule)
    options = {"epochs": 2, "run_eagerly": True}
    history = train(model, digits[:200], callbacks=[controller], **options)
    assert history["target_kl"] == [float(schedule(1)), float(schedule(3))]
    assert "beta" in history
    # Both are detached: another training leaves them where they are.
    before = model.objective.beta.numpy(), model.objective.target.numpy()
    history = train(model, digits[:200], epochs=1, callbacks=[], run_eagerly=True)
    assert not {"beta", "target_kl"} & set(history)
    assert before == (model.objective.beta.numpy(), model.objective.target.numpy())


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"proportional": -1.0}, "`proportional` must be .* >= 0"),
        ({"integral": -1.0}, "`integral` must be .* >= 0"),
        ({"bounds": (-1.0, 1.0)}, "`bounds` must be .* >= 0"),
        ({"bounds": (1.0, 0.5)}, "`bounds` must have low <= high"),
        ({"bounds": 1.0}, "`bounds` must be a pair"),
        ({"target": 3.0}, "`target` must be a function"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        kv.callbacks.KLController(**arguments)


def test_another_objective_is_refused(digits):
    model = kv.VAE(**{**parts_of(make_vae(target=9.0)), "objective": kv.objectives.ELBO()})
    with pytest.raises(ValueError, match="`model` must have a .*TargetKL"):
        train(model, digits[:100], epochs=1)


def test_two_drivers_of_beta_are_refused(digits):
    callbacks = [kv.callbacks.KLAnnealing(kv.schedules.Linear(0.0, 1.0, steps=9))]
    callbacks.append(kv.callbacks.KLController())
    with pytest.raises(ValueError, match="must not be driven by another callback"):
        train(make_vae(target=9.0), digits[:100], epochs=1, callbacks=callbacks)
