"""Every symptom caused in a small training, and trainings that have none."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import keras_vae as kv

tfd = tfp.distributions
HealthWarning = kv.callbacks.HealthWarning
SHAPE, SIZE, BATCH = (6,), 80, 20
GRAPH = {"run_eagerly": False, "jit_compile": False, "steps_per_execution": 4}


@pytest.fixture
def x():
    """Return data with two directions that matter, in [0, 1]."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(SIZE, 2)) @ rng.normal(size=(2, 6)) * 0.1 + 0.5
    return np.clip(values, 0.0, 1.0).astype("float32")


def make(model_class=kv.VAE, **changes):
    keras.utils.set_random_seed(0)
    parts = {
        "encoder": kv.networks.MLPEncoder((8,)),
        "decoder": kv.networks.MLPDecoder(SHAPE, (8,)),
        "posterior": kv.posteriors.DiagonalNormal(2),
        "likelihood": kv.likelihoods.Normal(SHAPE, scale=0.05),
    }
    return model_class(**{**parts, **changes})


def train(model, x, check, *callbacks, rate=0.01, epochs=4, y=None, **options):
    """Train, and return the logs; what was warned of must be what was found."""
    with model.distribute_strategy.scope():
        model.compile(keras.optimizers.Adam(rate), **{"run_eagerly": True, **options})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kwargs = {"batch_size": BATCH, "epochs": epochs, "shuffle": False, "verbose": 0}
        history = model.fit(x, y, callbacks=[*callbacks, check], **kwargs).history
    told = [str(one.message) for one in caught if one.category is HealthWarning]
    assert [text.partition(" (")[0] for text in told] == symptoms(check)
    return history


def symptoms(check):
    return [finding.symptom for finding in check.findings]


class Spoil(keras.layers.Layer):
    """Makes NaN of examples that are all ones."""

    def call(self, x):
        return tf.where(tf.reduce_all(x == 1.0, axis=1, keepdims=True), np.nan, x)


def spoiled():
    """Return a model that fails on examples that are all ones."""
    keras.utils.set_random_seed(0)
    return make(encoder=keras.Sequential([keras.Input(SHAPE), Spoil(), keras.layers.Dense(5)]))


# One training for each symptom.


def test_posterior_collapse(x):
    check = kv.callbacks.HealthCheck(grace=20)
    objective = kv.objectives.ELBO(beta=1e4)
    train(make(objective=objective), x, check, rate=0.03, epochs=40, **GRAPH)
    (finding,) = check.findings
    assert finding.symptom == "posterior collapse"
    assert finding.text.startswith("0 of 2 latent dimensions are active")
    assert finding.step == 4 * (finding.epoch + 1) > 20


def test_kl_explosion_and_data_out_of_range(x):
    check = kv.callbacks.HealthCheck()
    linear = keras.Sequential([keras.Input(SHAPE), keras.layers.Dense(5)])
    model = make(encoder=linear, likelihood=kv.likelihoods.Normal(SHAPE, scale=100.0))
    train(model, 1e4 * x[: 2 * BATCH], check, rate=1e-3, epochs=2)
    assert symptoms(check) == ["data out of range", "KL explosion"]
    assert [finding.epoch for finding in check.findings] == [0, 1]


@pytest.mark.full
def test_a_decoder_of_dead_units(x):
    dead = keras.layers.Dense(8, "relu", bias_initializer=keras.initializers.Constant(-100.0))
    decoder = keras.Sequential([keras.Input((2,)), dead, keras.layers.Dense(6)])
    check = kv.callbacks.HealthCheck(grace=0)
    model = make(decoder=decoder, objective=kv.objectives.Capacity(5.0))
    train(model, x, check, rate=0.03, epochs=30, **GRAPH)
    assert symptoms(check) == ["dead decoder"]
    assert "the same for every z" in check.findings[0].text


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_a_decoder_without_gradient(x):
    class Cut(keras.layers.Layer):
        def call(self, x):
            return tf.stop_gradient(x)

    decoder = keras.Sequential([keras.Input((2,)), keras.layers.Dense(6), Cut()])
    check = kv.callbacks.HealthCheck(grace=0)
    train(make(decoder=decoder), x, check, epochs=1)
    assert symptoms(check) == ["dead decoder"]
    assert "exactly zero" in check.findings[0].text


@pytest.mark.full
def test_a_learned_scale_that_slides_to_its_floor():
    x = np.full((SIZE, 6), 0.5, "float32")
    likelihood = kv.likelihoods.Normal(SHAPE, scale="shared", initial_scale=0.01)
    constant = keras.initializers.Constant(0.5)
    dense = keras.layers.Dense(6, kernel_initializer="zeros", bias_initializer=constant)
    decoder = keras.Sequential([keras.Input((2,)), dense])
    decoder.trainable = False
    check = kv.callbacks.HealthCheck(grace=1000)
    train(make(decoder=decoder, likelihood=likelihood), x, check, rate=0.6, epochs=2)
    assert symptoms(check) == ["likelihood scale at its floor"]


@pytest.mark.full
def test_a_posterior_that_becomes_a_point(x):
    model = make()
    model.posterior_head.raw_scale.bias.assign([1.0, -20.0])
    check = kv.callbacks.HealthCheck()
    train(model, x, check, rate=0.0, epochs=1)
    assert symptoms(check) == ["posterior scale at its floor"]


@pytest.mark.full
def test_a_multiplier_at_its_bound(x):
    check = kv.callbacks.HealthCheck()
    rule = kv.callbacks.GECO(1.0, clip=(0.5, 2.0), bounds=(1e-6, 4.0))
    model = make(objective=kv.objectives.GECO(kv.objectives.SquaredError(1e-3)))
    train(model, x[:BATCH], check, rule, rate=1e-3, epochs=2)
    assert symptoms(check) == ["multiplier at its bound"]


@pytest.mark.full
def test_a_schedule_that_never_begins(x):
    check = kv.callbacks.HealthCheck()
    annealing = kv.callbacks.KLAnnealing(kv.schedules.Linear(0.0, 1.0, 10**6))
    train(make(), x[:BATCH], check, annealing, epochs=2)
    assert symptoms(check) == ["beta still zero"]
    assert check.findings[0].epoch == 1


@pytest.mark.full
def test_a_cycle_that_ends_with_the_epoch_is_no_schedule_that_never_begins(x):
    # Its steps are at 0, at 1 and at 0 again.
    check = kv.callbacks.HealthCheck()
    annealing = kv.callbacks.KLAnnealing(kv.schedules.Cyclical(0.0, 1.0, 2))
    history = train(make(), x[: 3 * BATCH], check, annealing, epochs=1)
    assert history["beta"] == [0.0]
    assert symptoms(check) == []


def test_bad_steps_are_skipped_and_told_once(x):
    x[BATCH + 7] = 1.0
    check = kv.callbacks.HealthCheck(non_finite="skip")
    history = train(spoiled(), x[: 2 * BATCH], check, epochs=2)
    assert history["skipped_steps"] == [1, 2]
    assert symptoms(check) == ["non-finite steps"]
    assert "log p(x|z) was not finite; 1 of 2 steps" in check.findings[0].text
    assert np.isfinite(history["loss"]).all()


def test_a_training_of_bad_steps_alone_ends(x):
    x[::BATCH] = 1.0
    check = kv.callbacks.HealthCheck(non_finite="skip")
    model = spoiled()
    history = train(model, x[: 2 * BATCH], check, epochs=5)
    assert history["skipped_steps"] == [2]
    assert symptoms(check) == ["nothing but non-finite steps"]
    assert int(model.optimizer.iterations.numpy()) == 0


def test_stop_ends_the_training_with_the_weights_before(x):
    model, expected = spoiled(), spoiled()
    train(expected, x[:BATCH], kv.callbacks.HealthCheck(), epochs=1)
    x[BATCH + 7] = 1.0
    check = kv.callbacks.HealthCheck(non_finite="stop")
    history = train(model, x, check, epochs=5)
    assert history["skipped_steps"] == [1] and symptoms(check) == ["non-finite steps"]
    for one, two in zip(model.trainable_variables, expected.trainable_variables, strict=True):
        np.testing.assert_allclose(one.numpy(), two.numpy(), rtol=1e-4, atol=1e-6)


def test_raise_is_the_default(x):
    x[3] = 1.0
    with pytest.raises(ArithmeticError, match=r"log p\(x\|z\) is not finite"):
        train(spoiled(), x, kv.callbacks.HealthCheck())


# Trainings without a symptom.


@pytest.mark.full
@pytest.mark.filterwarnings("error::keras_vae.callbacks.HealthWarning")
def test_digits_are_healthy():
    data = kv.data.load("digits", split="train", batch_size=64, shuffle=True)
    model = make(
        encoder=kv.networks.MLPEncoder((64,)),
        decoder=kv.networks.MLPDecoder((8, 8, 1), (64,)),
        posterior=kv.posteriors.DiagonalNormal(8),
        likelihood=kv.likelihoods.Bernoulli((8, 8, 1)),
    )
    model.compile(keras.optimizers.Adam(1e-3), jit_compile=False, steps_per_execution=23)
    check = kv.callbacks.HealthCheck(non_finite="skip", every=3)
    annealing = kv.callbacks.KLAnnealing(kv.schedules.Linear(0.0, 1.0, 300))
    history = model.fit(data, epochs=30, verbose=0, callbacks=[annealing, check]).history
    assert model.optimizer.iterations.numpy() > 600, "not beyond the grace"
    assert history["kl"][-1] > 1.0 and check.findings == []


@pytest.mark.full
@pytest.mark.filterwarnings("error::keras_vae.callbacks.HealthWarning")
def test_standardized_vectors_are_healthy():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 2)) @ rng.normal(size=(2, 6)) + 0.3 * rng.normal(size=(400, 6))
    x = ((x - x.mean(axis=0)) / x.std(axis=0)).astype("float32")
    model = make(likelihood=kv.likelihoods.Normal(SHAPE, scale="per_dimension"))
    model.compile(keras.optimizers.Adam(3e-3), jit_compile=False, steps_per_execution=8)
    check = kv.callbacks.HealthCheck(x, every=8)
    model.fit(x, batch_size=50, epochs=80, verbose=0, callbacks=[check])
    assert model.optimizer.iterations.numpy() > 600, "not beyond the grace"
    assert check.findings == []


@pytest.mark.full
def test_statistics_that_lag_behind(x):
    """A KL of some nats in training is none, or another, in evaluation; dropout changes little."""
    model, check = normalized(0.999), kv.callbacks.HealthCheck()
    history = train(model, x, check, epochs=20, **GRAPH)
    assert symptoms(check) == ["training and evaluation mode apart"] and history["kl"][-1] > 1.0
    modes = check._known.look().modes
    assert modes.training_kl > 1.0 and modes.are_apart
    dense, normalization, *_ = model.encoder.layers
    units = dense(x).numpy()
    normalization.moving_mean.assign(units.mean(axis=0))
    normalization.moving_variance.assign(units.var(axis=0))
    assert not check._known.look().modes.are_apart


def normalized(momentum):
    """Return a model whose encoder normalizes batches, far from their first statistics."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(8), keras.layers.BatchNormalization(momentum=momentum)]
    layers += [keras.layers.Activation("tanh"), keras.layers.Dropout(0.1, seed=1)]
    return make(encoder=keras.Sequential([keras.Input(SHAPE), *layers]))


# Ways of training, and kinds of models.


@pytest.mark.full
def test_replicas(x, replicas):
    with replicas.scope():
        model = make(objective=kv.objectives.ELBO(beta=0.0))
    check = kv.callbacks.HealthCheck(non_finite="skip")
    history = train(model, 255.0 * x, check, epochs=2, run_eagerly=False)
    assert symptoms(check) == ["data out of range", "beta still zero"]
    assert history["skipped_steps"] == [0, 0]


@pytest.mark.full
def test_once_in_a_training_and_again_in_the_next(x):
    check = kv.callbacks.HealthCheck()
    model = make(objective=kv.objectives.ELBO(beta=0.0))
    model.compile("adam", run_eagerly=True)
    functions = []
    with warnings.catch_warnings(record=True) as caught:
        # As by default in Python, which hears each place in the code once.
        warnings.simplefilter("default", HealthWarning)
        for first in (0, 2):  # The second goes on where the first ended.
            options = {"initial_epoch": first, "epochs": first + 2, "verbose": 0}
            model.fit(255.0 * x[:BATCH], batch_size=BATCH, callbacks=[check], **options)
            assert [finding.epoch for finding in check.findings] == [first, first + 1]
            functions.append(model.train_function)
    assert sum(one.category is HealthWarning for one in caught) == 4
    assert functions[0] is functions[1], "traced anew"
    assert model.hooks == {}


@pytest.mark.full
def test_a_backup_that_is_restored_later_is_where_the_training_begins(x):
    def restore(logs=None):
        model.optimizer.iterations.assign(100)

    backup = keras.callbacks.Callback()
    backup.on_train_begin = restore
    model, check = make(), kv.callbacks.HealthCheck()
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    model.fit(x[:BATCH], epochs=2, verbose=0, callbacks=[check, backup])
    assert [evidence.begin for evidence in check._evidence] == [100]


@pytest.mark.full
def test_the_first_examples_of_the_training_are_looked_at(x):
    check = kv.callbacks.HealthCheck()
    x = x[: 2 * BATCH]
    train(make(), x, check, epochs=1)
    kept, y = check._known.hook.read()
    np.testing.assert_array_equal(kept, x)
    assert y is None


@pytest.mark.full
def test_a_conditional_model_is_looked_at_with_its_labels(x):
    model = make(kv.ConditionalVAE, condition=3)
    x, y = x[:BATCH], np.arange(BATCH) % 3
    for data in (None, (x, y)):
        check = kv.callbacks.HealthCheck(data, grace=0)
        train(model, x, check, epochs=1, y=y)
        assert check._known.look().dimensions == 2
    kept, labels = check._known._examples()
    np.testing.assert_array_equal(labels, y)


@pytest.mark.full
def test_an_own_model_is_judged_by_what_it_has(x):
    class Linear(kv.LatentVariableModel):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.shift = self.add_weight(shape=(), name="shift")

        def standardize(self, x, y=None):
            return tf.convert_to_tensor(x), None

        def check_support(self, x, y=None):
            return x, y

        def compute_terms(self, x, num_samples=1, training=False, seed=0, y=None):
            q, p_z = tfd.MultivariateNormalDiag(x / 2.0), tfd.MultivariateNormalDiag(0.0 * x[0])
            z = q.sample(num_samples, seed=seed)
            log_p_x = tfd.MultivariateNormalDiag(z + self.shift).log_prob(x)
            kl = q.kl_divergence(p_z)[:, None]
            return kv.Terms(log_p_x, p_z.log_prob(z), q.log_prob(z), kl)

    check = kv.callbacks.HealthCheck(non_finite="skip", grace=0)
    train(Linear(objective=kv.objectives.ELBO(beta=0.0)), 255.0 * x[:BATCH], check, epochs=2)
    assert symptoms(check) == ["beta still zero"]


@pytest.mark.full
def test_the_training_is_the_same_to_the_bit(x):
    weights = []
    for callbacks in ([], [kv.callbacks.HealthCheck()]):
        model = normalized(0.9)
        model.compile("adam", run_eagerly=True)
        model.fit(x[: 2 * BATCH], batch_size=BATCH, epochs=2, verbose=0, callbacks=callbacks)
        weights.append(model.get_weights())
    for one, two in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("non_finite", "ignore"),
        ("every", 0),
        ("grace", -1),
        ("min_active_units", 1.5),
        ("max_kl", 0.0),
        ("data_range", (1.0, 0.0)),
        ("data", [1.0]),
    ],
)
def test_bad_arguments_are_refused(name, value):
    with pytest.raises(ValueError, match=f"Argument `{name}` must"):
        kv.callbacks.HealthCheck(**{name: value})


@pytest.mark.parametrize("kind", [kv.callbacks.HealthCheck, kv.callbacks.GradientMonitor])
def test_a_second_one_in_a_training_is_refused(x, kind):
    model = make()
    model.compile("sgd")
    with pytest.raises(ValueError, match=f"{kind.__name__} drives it already"):
        model.fit(x, callbacks=[kind(), kind()])


def test_another_kind_of_model_is_refused():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="`model` must be a LatentVariableModel"):
        data = np.zeros([4, 2])
        model.fit(data, data, verbose=0, callbacks=[kv.callbacks.HealthCheck()])
