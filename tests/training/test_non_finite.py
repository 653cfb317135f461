"""Steps with something that is not finite: named, skipped without a trace, or the end."""

import contextlib
import re
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.training import non_finite

SHAPE, BATCH = (4, 3), 8


@keras.saving.register_keras_serializable("tests")
class Spoil(keras.layers.Layer):
    """Makes NaN of examples that are all ones."""

    def call(self, x):
        ones = tf.reduce_all(x == 1.0, axis=1, keepdims=True)
        return tf.where(ones, np.nan, x)


class WithRule(keras.callbacks.Callback):
    """Sets the rule for a training, as `HealthCheck` does."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def set_model(self, model):
        super().set_model(model)
        with model.distribute_strategy.scope():
            options = {"dtype": "int32", "trainable": False, "aggregation": "only_first_replica"}
            self.skipped, self.first = keras.Variable(0, **options), keras.Variable(-1, **options)
        model.non_finite = self.kind(self.skipped, self.first)

    @property
    def name(self):
        names = non_finite.names_of_quantities((), self.model.trainable_variables)
        return names[int(self.first.numpy())]


@pytest.fixture
def x():
    return np.random.default_rng(0).uniform(0.0, 0.9, (3 * BATCH, *SHAPE)).astype("float32")


@pytest.fixture
def bad_x(x):
    """Return three batches, of which one example of the second is bad."""
    bad = x.copy()
    bad[BATCH + 5] = 1.0
    return bad


def make(**changes):
    keras.utils.set_random_seed(0)
    # Without a bias, whose gradient before a normalization is rounding alone, which Adam enlarges.
    layers = [keras.layers.Flatten(), Spoil(), keras.layers.Dense(5, use_bias=False)]
    layers += [keras.layers.BatchNormalization(), keras.layers.Activation("tanh")]
    parts = {
        "encoder": keras.Sequential([keras.Input(SHAPE), *layers]),
        "decoder": kv.networks.MLPDecoder(SHAPE, (5,)),
        "posterior": kv.posteriors.DiagonalNormal(2),
        "likelihood": kv.likelihoods.Normal(SHAPE),
        "objective": kv.objectives.GECO(kv.objectives.SquaredError(0.1)),
    }
    return kv.VAE(**{**parts, **changes})


def fit(model, x, *callbacks, **options):
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0, **options}
    return model.fit(x, callbacks=list(callbacks), **options).history


def state(model):
    """Return every number that a training leaves behind."""
    variables = [*model.weights, *model.optimizer.variables]
    # Layers have other numbers in the next model.
    return {f"{i} {v.name[-12:]}": _copies(v) for i, v in enumerate(variables)}


def _copies(variable):
    """Return the value, or that of every replica."""
    parts = getattr(variable.value, "values", [variable])
    return np.stack([part.numpy() for part in parts])


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)


def prepared(**options):
    """Return a model with slots, and with averages that are not those of the beginning."""
    model = make()
    model.compile(keras.optimizers.Adam(0.05), **options)
    model.build((None, *SHAPE))
    model.optimizer.build(model.trainable_variables)
    for variable in [*model.non_trainable_variables, *model.optimizer.variables]:
        if variable.dtype == "float32" and "learning_rate" not in variable.name:
            variable.assign(np.full(variable.shape, 0.5))
    return model


OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.05),
    "accumulating": lambda: keras.optimizers.SGD(0.05, gradient_accumulation_steps=2),
}


@pytest.mark.first_is_quick
@pytest.mark.parametrize(
    ("options", "optimizer"),
    [
        ({"run_eagerly": True}, "accumulating"),
        ({"jit_compile": True, "steps_per_execution": 3}, "adam"),
    ],
    ids=["accumulating", "xla, one execution"],
)
def test_a_skipped_step_leaves_no_trace(x, bad_x, options, optimizer):
    # Weights, BatchNorm's averages, the multiplier and its average, slots and iterations are those
    # of the two good batches, and the last batch has the noise that it has in any case.
    model, rule = make(), WithRule(non_finite.Skip)
    model.compile(OPTIMIZERS[optimizer](), **options)
    history = fit(model, bad_x, kv.callbacks.GECO(), rule)
    assert history["skipped_steps"] == [1]
    assert rule.name == "log p(x|z)"

    other = make()  # XLA draws other noise
    other.compile(OPTIMIZERS[optimizer](), **{**options, "steps_per_execution": 1})
    first = fit(other, x[:BATCH], kv.callbacks.GECO())
    other.trained_batches.assign_add(1)
    second = fit(other, x[2 * BATCH :], kv.callbacks.GECO())
    assert_same(state(model), state(other))
    for name in ("loss", "elbo", "kl", "constraint"):
        expected = (first[name][0] + second[name][0]) / 2.0
        np.testing.assert_allclose(history[name], [expected], rtol=1e-5, err_msg=name)


@pytest.mark.full
def test_a_step_that_is_bad_on_one_replica_is_skipped_by_all(bad_x, replicas):
    # The bad example is of the second replica, whose name for it the first has to learn.
    with replicas.scope():
        model = prepared()
    before, rule = state(model), WithRule(non_finite.Skip)
    assert fit(model, bad_x[BATCH : 2 * BATCH], kv.callbacks.GECO(), rule)["skipped_steps"] == [1]
    assert rule.name == "log p(x|z)"
    for name, value in state(model).items():
        if "ined_batches" not in name:  # which counts batches that are read
            np.testing.assert_array_equal(value, before[name], err_msg=name)


@pytest.mark.first_is_quick
@pytest.mark.parametrize("kind", [non_finite.Stop, non_finite.Skip])
def test_what_follows_within_one_execution(x, bad_x, kind):
    # Skip goes on with the third batch; Stop leaves the weights as the first batch left them.
    model, other = make(), make()
    model.compile(keras.optimizers.SGD(0.05), jit_compile=False, steps_per_execution=3)
    other.compile(keras.optimizers.SGD(0.05), run_eagerly=True)
    rule = WithRule(kind)
    history = fit(model, bad_x, rule)
    fit(other, x[:BATCH])
    assert history["skipped_steps"] == [1] and int(rule.skipped.numpy()) == 1
    moved = [
        np.abs(a.numpy() - b.numpy()).max() > 1e-5
        for a, b in zip(model.trainable_variables, other.trainable_variables, strict=True)
    ]
    assert any(moved) == (kind is non_finite.Skip)
    assert int(model.optimizer.iterations.numpy()) == (2 if kind is non_finite.Skip else 1)


@pytest.mark.full
def test_the_rule_is_that_of_one_training(x):
    model = make()
    model.compile("sgd", run_eagerly=True)
    x, before = x[:BATCH], model.non_finite
    fit(model, x, WithRule(non_finite.Skip))
    assert model.non_finite is before

    class Breaks(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(model, x, WithRule(non_finite.Skip), Breaks())
    assert model.non_finite is before


@pytest.mark.full
@pytest.mark.parametrize("mode", ["xla", "observed", "replicas"])
def test_without_a_rule_the_training_ends_before_anything_moves(bad_x, mode, replicas):
    # BatchNorm's averages, too, which the forward pass moves before anything is known.
    with replicas.scope() if mode == "replicas" else contextlib.nullcontext():
        model = prepared(jit_compile=mode != "replicas")
    before = state(model)
    callbacks = (
        [kv.callbacks.GradientMonitor(log_dir=tempfile.mkdtemp())] if mode == "observed" else []
    )
    with pytest.raises(ArithmeticError, match=r"log p\(x\|z\) is not finite; all weights are as"):
        fit(model, bad_x[BATCH:], *callbacks)
    for name, value in state(model).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_an_epoch_of_skipped_steps_alone_has_no_loss(x):
    model, rule = make(), WithRule(non_finite.Skip)
    model.compile("sgd", run_eagerly=True)
    history = fit(model, np.ones_like(x), rule)
    assert np.isnan([history[name][0] for name in ("loss", "elbo", "kl")]).all(), history
    assert history["skipped_steps"] == [3]


@pytest.mark.full
def test_overflow_under_loss_scaling_is_keras_own_affair(x):
    model, rule = make(), WithRule(non_finite.Skip)
    inner = keras.optimizers.SGD(0.0)
    scaled = keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0**127)
    model.compile(scaled, run_eagerly=True)
    history = fit(model, 30.0 * x, rule)
    assert history["skipped_steps"] == [0]
    assert int(inner.iterations.numpy()) < 3, "no step overflowed"


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("log_p_x", "kl", "loss", "gradients", "expected"),
    [
        (NAN, NAN, NAN, (NAN, NAN), "log p(x|z)"),
        (-INF, 0.0, INF, (0.0, 0.0), "log p(x|z)"),
        (0.0, INF, INF, (0.0, NAN), "KL(q(z|x) || p(z))"),
        (0.0, 0.0, NAN, (0.0, NAN), "the loss"),
        (0.0, 0.0, 0.0, (None, NAN), "the gradient of w1"),
        (0.0, 0.0, 0.0, ("slices", 0.0), "the gradient of w0"),
        (0.0, 0.0, 0.0, (None, 1e30), None),
    ],
)
def test_the_first_bad_quantity_is_named(log_p_x, kl, loss, gradients, expected):
    ones = tf.ones([1, 2])
    made = [
        tf.IndexedSlices(tf.constant([[NAN]]), tf.constant([0]))
        if gradient == "slices"
        else None
        if gradient is None
        else tf.constant([0.0, gradient])
        for gradient in gradients
    ]
    terms = kv.Terms(log_p_x * ones, ones, ones, kl * tf.ones([2, 3]))
    first = non_finite.first_bad([*terms.quantities, tf.constant([0.0, loss]), *made])
    variables = [keras.Variable(0.0, name=name) for name in ("w0", "w1")]
    names = non_finite.names_of_quantities((), variables)
    assert (None if int(first) < 0 else names[int(first)]) == expected
    if expected:
        with pytest.raises(ArithmeticError, match=re.escape(f"{expected} is not finite; ")):
            non_finite.require_finite(ones, first, names)
