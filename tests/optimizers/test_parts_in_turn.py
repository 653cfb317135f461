"""Parts that step every so many batches, from a batch on, or where a gate lets them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.optimizers import by_part
from tests.small_models import MeanVAE, make_mean_vae

Adam, SGD = keras.optimizers.Adam, keras.optimizers.SGD

BATCHES, SIZE = 12, 4
EVERY, START = {"decoder": 3}, {"encoder": 5, "decoder": 2}
DUE = {
    "encoder": [n >= 5 for n in range(BATCHES)],
    "decoder": [n in (3, 6, 9) for n in range(BATCHES)],
}


@keras.saving.register_keras_serializable(package="test_parts_in_turn")
class Watched(kv.objectives.ELBO):
    """The ELBO, with a discriminator's numbers that the first three pixels of x tell."""

    measure_names = ("discriminator_real", "discriminator_fake", "discriminator_accuracy")

    def loss_and_measures(self, terms):
        pixels = [terms.draws.x[:, i, 0, 0] for i in range(3)]
        return self.loss(terms), dict(zip(self.measure_names, pixels, strict=True))


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).random((BATCHES * SIZE, 8, 8, 1)).astype("float32")


def make(optimizer=None, objective=None, **options):
    likelihood = kv.likelihoods.ContinuousBernoulli((8, 8, 1))
    model = make_mean_vae(objective=objective or Watched(), likelihood=likelihood)
    if optimizer is None:
        parts = {"encoder": Adam(1e-2), "decoder": Adam(kv.schedules.Linear(0.1, 0.0, 12))}
        optimizer = by_part(model, **parts, every=EVERY, start=START)
    model.compile(optimizer, **options)
    return model


def train(model, x, **options):
    return model.fit(x, batch_size=SIZE, shuffle=False, verbose=0, **options).history


def count(number):
    return int(np.asarray(number))


def values(model):
    return [v.numpy() for v in model.trainable_variables]


@pytest.fixture(scope="module")
def expected(x):
    """Return the weights after steps by hand, each with a tape and Adam of its own."""
    model = make(SGD())
    parts = {part: vs for part, vs in model.trainable_parts.items() if vs}
    optimizers = {"encoder": Adam(1e-2), "decoder": Adam(0.1)}
    for n in range(BATCHES):
        # A schedule counts batches; bias corrections count the steps of the part.
        optimizers["decoder"].learning_rate = 0.1 * (1.0 - n / 12.0)
        with tf.GradientTape() as tape:
            terms = model.compute_terms(tf.constant(x[n * SIZE : (n + 1) * SIZE]), training=True)
            loss = -tf.reduce_mean(terms.elbo)
        gradients = tape.gradient(loss, list(parts.values()))
        for (part, variables), own in zip(parts.items(), gradients, strict=True):
            if DUE[part][n]:
                optimizers[part].apply(own, variables)
    return values(model)


MODES = {
    "eager": {"run_eagerly": True},
    "XLA, 10 at a time": {"jit_compile": True, "steps_per_execution": 10},
}


@pytest.mark.first_is_quick
@pytest.mark.parametrize("mode", MODES)
def test_every_way_of_running_takes_the_steps_that_are_due(x, expected, mode):
    model = make(**MODES[mode])
    train(model, x)
    for mine, theirs in zip(values(model), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=2e-6)
    assert count(model.optimizer.iterations) == BATCHES
    for part, due in DUE.items():
        assert count(model.optimizer[part].iterations) == sum(due)


def test_a_training_goes_on_in_turn(x, expected, tmp_path):
    model = make(run_eagerly=True)
    train(model, x[: 7 * SIZE])
    model.save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras", {"MeanVAE": MeanVAE})
    assert dict(model.optimizer.every) == EVERY and dict(model.optimizer.start) == START
    model.run_eagerly = True
    train(model, x[7 * SIZE :])
    for mine, theirs in zip(values(model), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=2e-6)


@keras.saving.register_keras_serializable(package="test_parts_in_turn")
class Breaking(Watched):
    """Is not finite where the first pixel is 1."""

    def loss(self, terms):
        bad = terms.draws.x[:, 0, 0, 0] == 1.0
        return super().loss(terms) + tf.where(bad, np.inf, 0.0)


@pytest.mark.full
def test_the_count_stands_still_where_a_step_is_skipped(x):
    x = x[: 5 * SIZE].copy()
    x[SIZE, 0] = 1.0  # in the second batch
    model = make(run_eagerly=True, objective=Breaking())
    with pytest.warns(kv.callbacks.HealthWarning, match="the loss was not finite"):
        train(model, x, callbacks=[kv.callbacks.HealthCheck(non_finite="skip")])
    assert count(model.optimizer.iterations) == 4
    assert count(model.optimizer["decoder"].iterations) == 1  # at the count of 3


@pytest.mark.full
def test_a_number_is_driven_by_the_count_of_batches(x):
    model = make(run_eagerly=True)
    schedule = kv.schedules.Linear(1.0, 0.0, steps=BATCHES)
    logs = train(model, x[: 3 * SIZE], callbacks=[kv.callbacks.KLAnnealing(schedule)])
    assert logs["beta"] == pytest.approx([1.0 - 2.0 / BATCHES])


# Gates.


def pixels(*rows):
    """Return images of batches whose first pixels have these means, though no example has."""
    x = np.full((len(rows) * SIZE, 8, 8, 1), 0.5, "float32")
    for n, row in enumerate(rows):
        for i, mean in enumerate(row):
            # Two examples a replica: that of one is above the mean, that of the other below.
            spread = min(mean, 1.0 - mean) * np.array([1.0, 1.0, -1.0, -1.0])
            x[n * SIZE : (n + 1) * SIZE, i, 0, 0] = mean + spread
    return x


# real and fake losses; with e = 0.6 and m = 0.2: does the decoder step, does the discriminator?
BALANCE = [
    ((0.6, 0.6), (True, True)),
    ((0.3, 0.6), (True, False)),
    ((0.6, 0.3), (True, False)),
    ((0.9, 0.6), (False, True)),
    ((0.6, 0.9), (False, True)),
    ((0.9, 0.3), (True, True)),
]


def balanced(**options):
    """Return a model whose encoder stands in for the discriminator, and what balances them."""
    model = make(SGD())
    model.compile(by_part(model, encoder=Adam(1e-2), decoder=Adam(1e-2)), **options)
    return model, kv.callbacks.Equilibrium(0.2, 0.6, discriminator="encoder")


def test_the_equilibrium_holds_who_is_ahead():
    model, callback = balanced(run_eagerly=True)
    for losses, (decodes, encodes) in BALANCE:
        before = {part: [v.numpy() for v in vs] for part, vs in model.trainable_parts.items()}
        train(model, pixels(losses), callbacks=[callback])
        for part, moved in {"decoder": decodes, "encoder": encodes}.items():
            pairs = zip(model.trainable_parts[part], before[part], strict=True)
            assert any(np.any(v.numpy() != old) for v, old in pairs) == moved


# With an accuracy of at most 0.7 for the discriminator, besides.
GATES = [*((*losses, 0.5) for losses, _ in BALANCE), (0.6, 0.6, 0.8), (0.9, 0.6, 0.8)]
GATED = {
    "graph, 4 at a time": {"jit_compile": False, "steps_per_execution": 4},
    "XLA, 4 at a time": {"jit_compile": True, "steps_per_execution": 4},
    "replicas, 3 at a time": {"jit_compile": False, "steps_per_execution": 3},
}


def gated(**options):
    """Return a model whose encoder stands in for the discriminator, and both gates."""
    model = make(SGD())
    parts = {"encoder": SGD(0.01, momentum=0.9), "decoder": SGD(0.01)}
    model.compile(by_part(model, **parts), **options)
    equilibrium = kv.callbacks.Equilibrium(0.2, 0.6, discriminator="encoder")
    return model, [equilibrium, kv.callbacks.AccuracyGate(0.7, discriminator="encoder")]


@pytest.mark.first_is_quick
@pytest.mark.parametrize("way", GATED)
def test_gates_are_of_the_step_and_of_all_replicas_in_every_way_of_running(replicas, way):
    """Fails for a gate that decides once an execution, or by the batch of one replica."""
    one, callbacks = gated(run_eagerly=True)
    expected = train(one, pixels(*GATES), callbacks=callbacks)
    with (replicas if "replicas" in way else tf.distribute.get_strategy()).scope():
        two, callbacks = gated(**GATED[way])
    logs = train(two, pixels(*GATES), callbacks=callbacks)
    assert set(logs) == set(expected)
    for name, value in {"decoder": 5, "encoder": 4}.items():
        assert count(two.optimizer[name].iterations) == logs[f"{name}_steps"][-1] == value
        assert expected[f"{name}_steps"] == [value]
    assert count(two.optimizer.iterations) == len(GATES)
    for mine, theirs in zip(values(two), values(one), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=2e-6)


def test_the_accuracy_gate():
    model = make(run_eagerly=True)
    optimizer = by_part(model, encoder=Adam(), decoder=Adam(), every={"encoder": 2})
    model.compile(optimizer, run_eagerly=True)
    callback = kv.callbacks.AccuracyGate(0.7, discriminator="encoder")
    train(model, pixels(*((0.5, 0.5, a) for a in (0.6, 0.6, 0.8, 0.6, 0.65))), callbacks=[callback])
    assert count(optimizer["encoder"].iterations) == 2  # batches 0 and 4: not due, or held, else
    assert model.hooks == {}


def test_a_gate_says_nothing_of_a_batch_without_weight():
    model = make(run_eagerly=True)
    model.compile(by_part(model, encoder=SGD(), decoder=SGD()), run_eagerly=True)
    callback = kv.callbacks.Equilibrium(0.2, 0.6, discriminator="encoder")
    x = pixels((0.6, 0.6))
    train(model, x, sample_weight=np.zeros(len(x), "float32"), callbacks=[callback])
    assert count(model.optimizer["encoder"].iterations) == 1


@pytest.mark.full
def test_loss_scaling_goes_around_parts_in_turn(replicas):
    keras.config.set_dtype_policy("mixed_float16")
    with replicas.scope():
        model = make()
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    train(model, pixels(*[(0.6, 0.6)] * 7))
    inner = model.optimizer.inner_optimizer
    assert [count(inner[part].iterations) for part in ("encoder", "decoder")] == [2, 2]
    assert count(inner.iterations) == 7


# Refusals.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": {"decoder": 0}}, r"`every\['decoder'\]` must be an integer >= 1"),
        ({"start": {"decoder": -1}}, r"`start\['decoder'\]` must be an integer >= 0"),
        ({"every": {"critic": 2}}, r"own, of \['encoder', 'decoder'\]. Received: every="),
        ({"every": 2}, "`every` must be a dict of numbers"),
    ],
)
def test_wrong_numbers_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        by_part(make(SGD()), encoder=SGD(), decoder=SGD(), **options)


def test_accumulation_in_turn_is_refused():
    def accumulating():
        return SGD(gradient_accumulation_steps=2)

    model = make(SGD())
    with pytest.raises(ValueError, match="left out with gradient_accumulation_steps"):
        by_part(model, encoder=accumulating(), decoder=accumulating(), every={"decoder": 2})


def test_gates_are_refused_where_they_cannot_work(x):
    model = make(SGD(), run_eagerly=True)
    for callback in (kv.callbacks.Equilibrium(), kv.callbacks.AccuracyGate()):
        with pytest.raises(ValueError, match="`optimizer` must be one of .*by_part"):
            train(model, x, callbacks=[callback])
    model = make(SGD(), objective=kv.objectives.ELBO())
    model.compile(by_part(model, encoder=SGD(), decoder=SGD()))
    with pytest.raises(ValueError, match=r"measures \['discriminator_real', .*for Equilibrium"):
        train(model, x, callbacks=[kv.callbacks.Equilibrium(discriminator="encoder")])
    with pytest.raises(ValueError, match="`maximum` must be a finite number >= 0 and <= 1"):
        kv.callbacks.AccuracyGate(2.0)
