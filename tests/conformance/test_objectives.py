"""Every objective does what all of its kind must."""

import keras
import pytest
import tensorflow as tf

import keras_vae as kv
from tests import contracts, registry
from tests.small_models import make_mean_vae, make_vae, normal_values

PIXELS = 4


def linear(make, **changes):
    """Return a linear model of few pixels of unknown scale, which is compiled fast."""
    return make(
        encoder=keras.layers.Dense(PIXELS),
        decoder=keras.layers.Dense(PIXELS),
        likelihood=kv.likelihoods.Normal((PIXELS,), "shared"),
        **changes,
    )


def rolled(z, seed):
    """Permute codes without noise, of which XLA has its own."""
    columns = tf.unstack(z, axis=-1)
    return tf.stack([tf.roll(column, i, axis=-1) for i, column in enumerate(columns)], axis=-1)


@pytest.mark.full
def test_objectives_are_the_same_compiled(monkeypatch):
    monkeypatch.setattr(kv.adversaries, "permute_dimensions", rolled)
    x = normal_values(6, PIXELS, dtype="float32")
    contracts.check_objectives(linear(make_mean_vae), x, contracts.objectives())


@pytest.mark.first_is_quick
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
def test_objectives_in_other_precisions(policy):
    if policy == "float64":
        keras.config.set_floatx(policy)
    keras.config.set_dtype_policy(policy)
    model = linear(make_vae)
    x, _ = model.standardize(normal_values(6, PIXELS))
    for objective in contracts.objectives().values():
        contracts.check_objective_dtype(objective, model, x)


@pytest.mark.full
def test_the_exact_marginal_is_the_same_compiled():
    posterior, prior = (registry.example(f"{room}.Bernoulli") for room in ("posteriors", "priors"))
    model = linear(make_vae, posterior=posterior, prior=prior)
    made = {"ExactMarginal": kv.objectives.ExactMarginal(max_points=9)}
    contracts.check_objectives(model, normal_values(6, PIXELS, dtype="float32"), made)


@pytest.mark.full
def test_the_learned_similarity_is_the_same_compiled():
    model = make_mean_vae(
        encoder=keras.layers.Dense(PIXELS),
        decoder=keras.layers.Dense(PIXELS),
        likelihood=kv.likelihoods.Normal((PIXELS,)),
    )
    made = {"LearnedSimilarity": registry.example("objectives.LearnedSimilarity")}
    contracts.check_objectives(model, normal_values(6, PIXELS, dtype="float32"), made)
