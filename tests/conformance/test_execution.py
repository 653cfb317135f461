"""Eager, graph and XLA agree; so do float32, mixed_bfloat16 and float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability.python.internal import samplers

import keras_vae as kv
from tests import registry

MODES = {
    "eager": {"run_eagerly": True},
    "graph": {"jit_compile": False, "steps_per_execution": 1},
    "xla": {"jit_compile": True, "steps_per_execution": 2},
}


@pytest.fixture
def same_noise(monkeypatch):
    """Give XLA the normal and uniform draws that the other modes have.

    On a CPU its floating-point draws come from another generator; integers of one algorithm do not.
    """
    integers = tf.random.stateless_uniform

    def normal(shape, seed, mean=0.0, stddev=1.0, dtype=tf.float32, alg="philox"):
        bits = integers(shape, seed, minval=None, maxval=None, dtype=tf.int32, alg=alg)
        uniform = (tf.cast(bits, tf.float64) + 0.5) / 2.0**32 + 0.5
        return mean + stddev * tf.cast(tf.math.ndtri(uniform), dtype)

    def uniform(shape, seed, minval=0, maxval=None, dtype=tf.float32, **kwargs):
        if tf.as_dtype(dtype).is_integer:
            return integers(shape, seed, minval, maxval, dtype, **kwargs)
        bits = integers(shape, seed, minval=0, maxval=2**23, dtype=tf.int32, alg="philox")
        fraction = tf.cast((tf.cast(bits, tf.float64) + 0.5) / 2.0**23, dtype)
        return minval + (1.0 if maxval is None else maxval - minval) * fraction

    for random in (tf.random, samplers.tf.random):  # of this package, and of TFP
        monkeypatch.setattr(random, "stateless_normal", normal)
        monkeypatch.setattr(random, "stateless_uniform", uniform)


def codes():
    """Return codes and labels for the example of a `PriorModel`."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 5, (8, 4)), rng.integers(0, registry.CLASSES, 8)


def two_steps(make, mode):
    """Return losses and weights of the model that `make()` returns, after two steps."""
    keras.utils.set_random_seed(0)
    model = make()
    x, y = codes() if isinstance(model, kv.PriorModel) else registry.batch(model)
    # SGD, not Adam: Adam's first steps are signs of gradients, and blow rounding up.
    model.compile(keras.optimizers.SGD(1e-3), **MODES[mode])
    history = model.fit(x, y, batch_size=4, shuffle=False, verbose=0).history
    return history, [w.numpy() for w in model.trainable_variables]


# Every kind of step: with a moving average, labels, relaxed draws, codebooks that follow averages,
# several parts, several groups, a bound of its own, and multipliers. The contracts of the heads, of
# the networks and of the objectives have compiled the others, each by itself.
TRAININGS = {
    "diagonal, standard, Bernoulli, MLP": lambda: kv.objectives.ELBO(estimator="score_function"),
    "diagonal, conditional, categorical, MLP": (
        lambda: kv.objectives.ELBO(num_samples=3, estimator="score_function")
    ),
    "categorical, categorical": lambda: kv.objectives.ImportanceWeighted(3, elbo_weight=0.5),
    "hierarchy of quantizers, uniform codes, maps": kv.objectives.ELBO,
    "Laplace, discriminator": None,
    "hierarchy": kv.objectives.ELBO,
    "ladder, chain": kv.objectives.ELBO,
    "models.IWAE": None,
    "models.GECOVAE": None,
    "models.VAEGAN": None,
    "models.PriorModel": None,
}


def model_of(training):
    if training.startswith("models."):
        return registry.example(training)
    objective = TRAININGS[training]
    options = {"objective": objective()} if objective else {}
    return registry.small_model(registry.COMBINATIONS[training], **options)


@pytest.mark.first_is_quick
@pytest.mark.parametrize(
    ("training", "mode"),
    [
        *((name, "xla") for name in TRAININGS),
        ("hierarchy of quantizers, uniform codes, maps", "graph"),
    ],
)
def test_modes_agree(same_noise, training, mode):
    eager, eager_weights = two_steps(lambda: model_of(training), "eager")
    other, other_weights = two_steps(lambda: model_of(training), mode)
    assert sorted(eager) == sorted(other)
    assert set(other) >= {"elbo", "kl", "loss", "reconstruction"}
    for name in eager:
        close(other[name], eager[name], name)
    for number, (one, two) in enumerate(zip(eager_weights, other_weights, strict=True)):
        close(two, one, f"weight {number}")


def close(found, expected, what):
    # Relative to the largest of a tensor: XLA sums in another order.
    scale = np.abs(expected).max() + 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * scale, err_msg=what)


@pytest.mark.full
def test_evaluate_agrees_between_modes(same_noise):
    losses = []
    for mode in ("eager", "xla"):
        keras.utils.set_random_seed(0)
        model = registry.small_model([])
        x, _ = registry.batch(model)
        model.compile("sgd", **MODES[mode])
        losses.append(model.evaluate(x, batch_size=4, verbose=0, return_dict=True))
    one, other = losses
    assert sorted(other) == sorted(one)
    for name, value in other.items():
        np.testing.assert_allclose(value, one[name], rtol=1e-4, err_msg=name)


def densities(model, x, y, z):
    """Return log-densities at a given z, in which there is no noise."""
    q, p_z, p_x = model.encode(x, y), model.prior(y), model.decode(z, y)
    standardized, _ = model.standardize(x, y)
    return {
        "log_q": q.log_prob(tf.cast(z, q.dtype)),
        "log_p_z": p_z.log_prob(tf.cast(z, p_z.dtype)),
        "log_p_x": p_x.log_prob(standardized),
    }


def latent_values(model, count):
    """Return values of z: codes for what is quantized, else real numbers."""
    shape, rng = (count, *model.posterior_head.event_shape), np.random.default_rng(1)
    if model.posterior_head.is_point_mass:
        return rng.integers(0, min(model.posterior_head.num_codes), shape)
    return rng.normal(size=shape).astype("float32")


def set_policy(name):
    """Set Keras's dtype policy; `clean_state` takes it back."""
    if name == "float64":
        keras.config.set_floatx("float64")
    keras.config.set_dtype_policy(name)


@pytest.mark.first_is_quick
@pytest.mark.parametrize("combination", sorted(registry.COMBINATIONS))
def test_a_model_in_other_precisions(combination):
    check_precisions(lambda: registry.small_model(registry.COMBINATIONS[combination]))


def test_a_vae_gan_in_other_precisions():
    """Fails for losses of a discriminator in bfloat16, and for a part that never moves."""
    check_precisions(lambda: registry.example("models.VAEGAN"))


def check_precisions(make):
    """Check densities and trainings of a model in other precisions against those in float32."""
    reference = make()
    x, y = registry.batch(reference)
    z = latent_values(reference, len(x))
    expected = densities(reference, x, y, z)
    # bfloat16 has 8 significant bits: networks of 3 layers keep about 2 digits.
    for policy, tolerance in {"mixed_bfloat16": 3e-2, "float64": 1e-4}.items():
        set_policy(policy)
        model = make()
        for mine, theirs in zip(model.weights, reference.weights, strict=True):
            mine.assign(theirs.numpy())
        dtype = "float64" if policy == "float64" else "float32"
        for name, value in densities(model, x, y, z).items():
            assert value.dtype.name == dtype, name
            scale = np.abs(expected[name]).max()
            np.testing.assert_allclose(
                value, expected[name], rtol=tolerance, atol=tolerance * scale, err_msg=name
            )
        standardized, labels = model.standardize(x, y)
        terms = model.compute_terms(standardized, 2, seed=0, y=labels)
        assert {t.dtype.name for t in terms[:4]} == {dtype}
        assert {number.dtype for number in model.objective.hyperparameters.values()} == {dtype}
        check_training(model, x, y, dtype)


def check_training(model, x, y, dtype):
    """Check that a training is finite, moves weights, and leaves them in their dtype.

    In float64 each has to move, if by a digit: one that never does is one that is never learned.
    """
    model.compile(keras.optimizers.SGD(1e-3), run_eagerly=True)
    before = [w.numpy() for w in model.trainable_variables]
    size = 2 if dtype == "float64" else 8  # what starts as the identity lets others move later
    history = model.fit(x, y, batch_size=size, shuffle=False, verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())
    moved = [np.any(a != b) for a, b in zip(before, model.trainable_variables, strict=True)]
    assert all(moved) if dtype == "float64" else any(moved)
    assert {w.dtype for w in model.trainable_variables} == {dtype}


def test_mixed_precision_runs_the_networks_in_bfloat16():
    set_policy("mixed_bfloat16")
    model = kv.VAE(**registry.parts())
    assert model.encoder(tf.zeros([1, *registry.SHAPE])).dtype == tf.bfloat16
    assert model.decoder(tf.zeros([1, registry.LATENT])).dtype == tf.bfloat16


def test_float64_of_one_model_needs_no_global_setting():
    # The oracle tests want float64 of single parts; the heads follow their own dtype.
    head = registry.example("posteriors.DiagonalNormal", dtype="float64")
    assert head(tf.zeros([1, 3], tf.float64)).dtype == tf.float64
