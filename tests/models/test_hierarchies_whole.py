"""Models of several groups as wholes: how they are trained, kept, averaged, served and judged."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae import bounds
from tests import registry
from tests.callbacks.test_resume import Interrupt, assert_equal
from tests.evaluation.test_report import quick, value
from tests.integration.test_averaged_weights import MOMENTUM, Weights, assert_close, averages_of
from tests.models.test_hierarchical import hierarchy
from tests.small_models import randomize, trainable_weights_of

ELBO, ImportanceWeighted = kv.objectives.ELBO, kv.objectives.ImportanceWeighted

MODELS = {
    "chain": lambda objective: registry.small_model(
        ["posteriors.Chain", "priors.Chain"], objective=objective
    ),
    "ladder": lambda objective: registry.example("models.LadderVAE", objective=objective),
    "hierarchy": lambda objective: hierarchy(objective=objective),
    "recomputed": lambda objective: registry.example("models.HierarchicalVAE", objective=objective),
}
every_kind = pytest.mark.parametrize("kind", MODELS)
from_the_top = pytest.mark.parametrize("kind", ["ladder", "hierarchy"])


def make(kind, objective=None):
    """Return a small model of several groups, whose weights are always the same."""
    keras.utils.set_random_seed(0)
    model = MODELS[kind](objective or ELBO())
    randomize(model.encoder, model.decoder, model.posterior_head, model.prior_head, scale=0.3)
    return model


# Estimators, against their formulas: with the densities of the three distributions at the same z.


def check_loss(tape, model, loss, expected):
    """Check that a loss and its gradient by every weight are as expected."""
    np.testing.assert_allclose(loss, expected, rtol=1e-9)
    weights = [weight.value for weight in model.trainable_variables]
    both = (tape.gradient(one, weights) for one in (loss, expected))
    for weight, found, exact in zip(model.trainable_variables, *both, strict=True):
        assert exact is not None and np.any(exact != 0.0), weight.path
        np.testing.assert_allclose(found, exact, rtol=1e-6, atol=1e-9, err_msg=weight.path)


@every_kind
def test_sticking_the_landing_holds_all_that_q_is_made_of(kind):
    """Also the weights that it shares with p, which are those of another model here."""
    keras.config.set_dtype_policy("float64")
    model, held = make(kind), make(kind)
    x, _ = model.standardize(registry.batch(model, 4)[0])
    with tf.GradientTape(persistent=True) as tape:
        terms = model.compute_terms(x, 3, training=True, seed=1)
        z = terms.draws.z
        log_w = model.decode(z).log_prob(x) + model.prior().log_prob(z)
        log_w -= held.encode(x).log_prob(z)
        expected = [
            -tf.reduce_mean(log_w, axis=0),
            np.log(3.0) - tf.reduce_logsumexp(log_w, axis=0),
        ]
        options = {"num_samples": 3, "estimator": "sticking_the_landing"}
        found = [kind_of(**options).loss(terms) for kind_of in (ELBO, ImportanceWeighted)]
    for loss, exact in zip(found, expected, strict=True):
        check_loss(tape, model, loss, exact)


@every_kind
def test_vimco_lets_no_gradient_through_any_group(kind):
    """grad L_K at fixed z, and sum_k (L_K - L_-k) grad log q(z_k|x)."""
    keras.config.set_dtype_policy("float64")
    model = make(kind)
    x, _ = model.standardize(registry.batch(model, 4)[0])
    with tf.GradientTape(persistent=True) as tape:
        terms = model.compute_terms(x, 3, training=True, seed=1)
        loss = ImportanceWeighted(3, "score_function").loss(terms)
        z = tf.constant(terms.draws.z.numpy())
        log_q = model.encode(x).log_prob(z)
        log_w = model.decode(z).log_prob(x) + model.prior().log_prob(z) - log_q
        bound = tf.reduce_logsumexp(log_w, axis=0) - np.log(3.0)
        signal = tf.stop_gradient(bound - bounds.leave_one_out_bound(log_w))
        expected = -bounds.with_gradient_of(bound, tf.reduce_sum(signal * log_q, axis=0))
    check_loss(tape, model, loss, expected)


@pytest.mark.first_is_quick
@pytest.mark.parametrize(
    ("kind", "estimator"),
    [
        ("ladder", "sticking_the_landing"),
        ("hierarchy", "score_function"),
    ],
)
def test_a_step_moves_every_weight_alike_in_a_graph(kind, estimator):
    def trained(**execution):
        model = make(kind, ImportanceWeighted(3, estimator))
        start = trainable_weights_of(model)
        model.compile(keras.optimizers.SGD(1e-3), **execution)
        model.fit(registry.batch(model)[0], batch_size=8, verbose=0)
        return model.trainable_variables, start, trainable_weights_of(model)

    variables, start, eager = trained(run_eagerly=True)
    _, _, in_graph = trained(jit_compile=False)
    for variable, before, one, other in zip(variables, start, eager, in_graph, strict=True):
        assert np.all(np.isfinite(one)) and np.any(one != before), variable.path
        step = np.abs(one - before).max()
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-3 * step, err_msg=variable.path)


# A training that is interrupted, and one whose weights are averaged.


@pytest.mark.first_is_quick
@from_the_top
def test_a_training_goes_on_bit_for_bit_within_an_epoch(kind, tmp_path):
    """With β on its way, and groups that are balanced by it."""

    def train(folder, *callbacks):
        model, resume = make(kind, ELBO(kl_balancing="size")), kv.callbacks.Resume(folder, every=1)
        annealing = kv.callbacks.KLAnnealing(kv.schedules.Linear(0.0, 1.0, steps=5))
        model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), run_eagerly=True)
        options = {"batch_size": 4, "initial_epoch": resume.epoch, "verbose": 0}
        x, _ = registry.batch(model)
        history = model.fit(x, callbacks=[resume, annealing, *callbacks], **options).history
        return model, history

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", Interrupt(0, 1))
    kept = sorted(path.name for path in (tmp_path / "broken").glob("*.checkpoint"))
    assert kept == ["epoch_0_step_1.checkpoint"]
    model, history = train(tmp_path / "broken")
    unbroken, expected = train(tmp_path / "unbroken")
    assert history == expected and history["beta"] == [pytest.approx(0.2)]
    assert_equal(model, unbroken)


@pytest.mark.first_is_quick
@from_the_top
def test_validation_is_that_of_the_averaged_weights(kind):
    """Weights that posterior and prior share are swapped once."""
    model, kept, swap = make(kind), Weights(), keras.callbacks.SwapEMAWeights()
    x, _ = registry.batch(model)
    model.compile(keras.optimizers.SGD(1e-2, use_ema=True, ema_momentum=MOMENTUM), run_eagerly=True)
    options = {"batch_size": 4, "shuffle": False, "verbose": 0}
    history = model.fit(x, validation_data=(x,), callbacks=[kept, swap], **options).history

    def elbo_of(weights):
        other = make(kind)
        for variable, weight in zip(other.trainable_variables, weights, strict=True):
            variable.assign(weight)
        other.compile("sgd", run_eagerly=True)
        return other.evaluate(x, batch_size=4, verbose=0, return_dict=True)["elbo"]

    _, average = averages_of(kept.steps)
    np.testing.assert_allclose(history["val_elbo"], elbo_of(average), rtol=1e-5)
    assert abs(history["val_elbo"][0] - elbo_of(kept.steps[-1])) > 1e-3
    assert_close(model, average)


# What is made of a model.


@pytest.mark.full
@from_the_top
def test_signatures_have_every_group(kind, tmp_path):
    model = make(kind)
    x = tf.constant(registry.batch(model, 3)[0])
    path = kv.export_saved_model(model, tmp_path / "1")
    loaded = tf.saved_model.load(path)
    q, head, close = model.encode(x), model.posterior_head, {"rtol": 1e-4, "atol": 1e-5}
    encoded = loaded.signatures["encode"](x=x)
    for key, whole in {"mean": head.mean(q), "scale": head.stddev(q)}.items():
        np.testing.assert_allclose(encoded.pop(key), whole, **close)
        for name, group in model.split(whole).items():
            np.testing.assert_allclose(encoded.pop(f"{key}_{name}"), group, **close)
    assert not encoded
    z = model.prior().sample(5, seed=[0, 1])
    count, seed = tf.constant(4), tf.constant(7)
    images = {
        "decode": ({"z": z}, model.decode(z).mean()),
        "reconstruct": ({"x": x}, model.reconstruct(x)),
        "sample": ({"count": count, "seed": seed}, model.sample(4, seed=7)),
    }
    for name, (given, expected) in images.items():
        np.testing.assert_allclose(loaded.signatures[name](**given)["mean"], expected, **close)
    found = loaded.signatures["log_likelihood"](x=x, count=count, seed=seed)["log_likelihood"]
    assert found.shape == (3,) and np.all(np.isfinite(found))


@pytest.mark.full
@from_the_top
def test_a_report_has_a_row_for_every_group(kind, tmp_path):
    model = make(kind)
    x, _ = registry.batch(model, 6)
    # What takes long, and is about z as a whole.
    skip = ["gaps of inference", "samples", "disentanglement"]
    skip += ["annealed importance sampling", "figures"] if kind == "ladder" else []
    report = quick(model, x, tmp_path / "report", skip=skip)
    left_out = {name: why for name, why in report.omitted.items() if name not in skip}
    maps = {"annealed importance sampling": "latent variables are maps"}
    assert left_out == (maps if kind == "hierarchy" else {})
    rates = [value(report, "Likelihood", f"rate of {name}").value for name in model.latents]
    np.testing.assert_allclose(sum(rates), value(report, "Likelihood", "rate").value, rtol=1e-5)
    units = [value(report, "Latent code", f"active units of {name}") for name in model.latents]
    sizes = [math.prod(shape) for shape in model.latents.values()]
    assert [row.unit for row in units] == [f"of {size}" for size in sizes]
    assert sum(row.value for row in units) == value(report, "Latent code", "active units").value
    for rows in report.sections.values():
        assert all(np.isfinite(row.value) for row in rows)
    drawn = {"Reconstructions", "Samples", "Traversals", "KL of each latent group"}
    assert drawn <= set(report.figures) or kind == "ladder"
    assert (tmp_path / "report" / "report.html").exists()
