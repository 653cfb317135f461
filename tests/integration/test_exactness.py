"""At every optimizer step, each number that is driven has the value of its formula.

The values are written down inside the step, and where the loss, the gradient or the weights tell
which value the step used, that is held against the formula, too. Each mode of execution has some of
the numbers, and all schedules are in one training.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.callbacks import HyperparameterSchedule, KLAnnealing, OneCycleLearningRate
from keras_vae.controllers import StepHook
from keras_vae.core.hyperparameters import Steerable

STEPS = 37  # of an epoch, and of an execution where there are several in one
MODES = {
    "graph, 37 steps, dataset": {"jit_compile": False, "steps_per_execution": 37},
    "XLA, dataset": {"jit_compile": True},
    "XLA, 37 steps, arrays": {"jit_compile": True, "steps_per_execution": 37},
    "replicas, dataset": {},
}
EAGER = {"run_eagerly": True}

SCHEDULES = {
    "Constant": kv.schedules.Constant(0.3),
    "Cosine": kv.schedules.Cosine(2.0, 0.1, 50),
    "Cyclical": kv.schedules.Cyclical(0.1, 1.0, 20, amplitude="halving"),
    "Exponential": kv.schedules.Exponential(1.0, 1e-3, 60),
    "Linear": kv.schedules.Linear(0.0, 1.0, 41),
    "OneCycle": kv.schedules.OneCycle(0.3, 70),
    "Piecewise": kv.schedules.Piecewise([10, 37, 38], [0.1, 0.2, 0.3, 0.4]),
    "Sigmoid": kv.schedules.Sigmoid(0.0, 2.0, 66),
    "WarmupThen": kv.schedules.WarmupThen(kv.schedules.Cosine(1.0, 0.0, 40), 12),
}


def test_no_schedule_is_forgotten():
    assert set(SCHEDULES) == set(kv.schedules.__all__) - {"Schedule"}


@keras.saving.register_keras_serializable(package="test_exactness")
class Numbers(Steerable):
    """Passes its input on, and holds a number for each schedule."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        for name in SCHEDULES:
            self.add_hyperparameter(name, -1.0)

    def call(self, inputs):
        return inputs


class Recorder(StepHook):
    """Writes down, in the step, the numbers that hooks drive, and what the step made of them."""

    def __init__(self, model, steps, measures):
        super().__init__("recorder")
        self.model, self.steps, self.feedback = model, steps, measures
        self.names = [name for hook in model.hooks.values() for name in hook.logged]
        self.driven = [v for hook in model.hooks.values() for v in hook.logged.values()]
        self.weight = model.trainable_variables[-1]  # a bias of the decoder
        size = int(np.prod(self.weight.shape))
        self.tables = [self.table(n) for n in (len(self.names), len(measures), size, size)]

    def table(self, columns):
        zeros = np.zeros((self.steps, columns), "float32")
        with self.model.distribute_strategy.scope():
            return keras.Variable(zeros, trainable=False, aggregation="only_first_replica")

    def write(self, table, step, row):
        # Added, so that a step that is made twice does not pass for one.
        here = tf.one_hot(step, self.steps)[:, None] * tf.cast(row, "float32")
        table.assign(table + here)

    def observe(self, step):
        numbers, _, weights, gradients = self.tables
        self.write(numbers, step.number, tf.stack([tf.convert_to_tensor(v) for v in self.driven]))
        self.write(weights, step.number, self.weight)
        self.write(gradients, step.number, step.gradients[-1] / step.loss_scale)

    def after_step(self, step, means):
        if means:
            self.write(self.tables[1], step, tf.stack([means[name] for name in self.feedback]))
        return ()

    @property
    def seen(self):
        numbers, measures, weights, gradients = (t.numpy() for t in self.tables)
        columns = [*zip(self.names, numbers.T, strict=True)]
        columns += zip(self.feedback, measures.T, strict=True)
        return {**dict(columns), "weights": weights, "gradients": gradients}


class Record(keras.callbacks.Callback):
    """Lets a recorder run for all trainings of a model; the last of the callbacks."""

    def __init__(self, steps, *measures):
        super().__init__()
        self.steps, self.measures, self.recorder = steps, measures, None

    def set_params(self, params):  # after all other callbacks have their model
        super().set_params(params)
        if self.recorder is None:
            self.recorder = Recorder(self.model, self.steps, self.measures)
        self.model.attach(self.recorder)

    def on_train_end(self, logs=None):
        self.model.detach(self.recorder)


@pytest.fixture
def compiled(make_vae, make_mean_vae, replicas):
    """Return a function that makes a small model for a mode."""

    def compiled(mode, objective, optimizer=None, **parts):
        scope = replicas if "replicas" in mode else tf.distribute.get_strategy()
        with scope.scope():
            layers = [Numbers(), keras.layers.Flatten(), keras.layers.Dense(4, "tanh")]
            model = make_vae(objective=objective(), encoder=keras.Sequential(layers), **parts)
            optimizer = keras.optimizers.SGD(0.05) if optimizer is None else optimizer()
            model.compile(optimizer, **MODES.get(mode, EAGER))
        model.build((None, 8, 8, 1))
        return model

    return compiled


def train(model, mode, callbacks, steps=STEPS, **options):
    x = np.random.default_rng(1).integers(0, 2, (2 * steps, 8, 8, 1)).astype("float32")
    if "dataset" in mode:
        x = tf.data.Dataset.from_tensor_slices(x).batch(2)
    else:
        options["batch_size"] = 2
    model.fit(x, callbacks=callbacks, verbose=0, **options)


def assert_is(found, formula, first=0):
    """Hold a number, as the steps from `first` on had it, against a function of the step."""
    steps = np.arange(first, len(found))
    np.testing.assert_array_equal(found[first:], np.array([float(formula(t)) for t in steps], "f4"))


# Open loop.

BETA = kv.schedules.Linear(0.5, 1.0, 45)
FREE_BITS = kv.schedules.Cosine(90.0, 60.0, 30)  # more than any dimension's KL: all that counts
CYCLE = {"warmup": 0.4, "initial_division": 4.0, "momentum": (0.5, 0.9)}


def open_loop():
    numbers = [HyperparameterSchedule(name, schedule) for name, schedule in SCHEDULES.items()]
    return [KLAnnealing(BETA), HyperparameterSchedule("free_bits", FREE_BITS), *numbers]


def assert_open_loop(seen, first=0):
    for name, formula in {**SCHEDULES, "beta": BETA, "free_bits": FREE_BITS}.items():
        assert_is(seen[name], formula, first)


@pytest.mark.full
@pytest.mark.parametrize("mode", ["XLA, 37 steps, arrays", "replicas, dataset"])
def test_every_schedule_and_the_one_cycle_policy(compiled, mode):
    model = compiled(mode, kv.objectives.ELBO, lambda: keras.optimizers.SGD(0.05, momentum=0.9))
    record = Record(2 * STEPS, "loss", "reconstruction")
    train(model, mode, [*open_loop(), OneCycleLearningRate(0.02, **CYCLE), record], epochs=2)
    seen = record.recorder.seen
    assert_open_loop(seen)
    cycle = kv.schedules.OneCycle(0.02, 2 * STEPS, **CYCLE)
    assert_is(seen["learning_rate"], cycle)
    assert_is(seen["momentum"], cycle.momentum_schedule)
    # Two latent dimensions, each of which costs the free bits.
    used = (seen["loss"] - seen["reconstruction"]) / 2
    np.testing.assert_allclose(used, seen["beta"] * seen["free_bits"], rtol=1e-5)
    if "replicas" not in mode:  # where a gradient is that of one replica
        assert_steps_of_sgd(seen)


def assert_steps_of_sgd(seen):
    memory = np.zeros_like(seen["weights"][0])
    for t in range(2 * STEPS - 1):
        memory = seen["momentum"][t] * memory - seen["learning_rate"][t] * seen["gradients"][t]
        step = seen["weights"][t + 1] - seen["weights"][t]
        np.testing.assert_allclose(step, memory, rtol=1e-4, atol=1e-6, err_msg=f"step {t}")


@pytest.mark.full
def test_a_second_fit_goes_on(compiled):
    mode = "graph, 37 steps, dataset"
    model, record = compiled(mode, kv.objectives.ELBO), Record(2 * STEPS)
    rate = kv.callbacks.CyclicalLearningRate(0.001, 0.02, 15, shape="cosine")
    for _ in range(2):
        train(model, mode, [*open_loop(), rate, record])
    seen = record.recorder.seen
    assert_open_loop(seen)
    assert_is(seen["learning_rate"], rate.schedule)


class Interrupt(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


def in_two_parts(how, make, callbacks, folder, *measures):
    """Train for two epochs of 4 steps in two models; return what was seen of all 8 steps."""
    records = [Record(8, *measures) for _ in range(2)]
    backup = [keras.callbacks.BackupAndRestore(folder / "backup")] if how == "backup" else []
    options = {"steps": 4, "epochs": 2, "shuffle": False}
    model = make()
    with pytest.raises(KeyboardInterrupt):
        train(model, "", [*callbacks(), *backup, records[0], Interrupt()], **options)
    if how == "saved":
        model.save(folder / "model.keras")
        model = keras.saving.load_model(folder / "model.keras")
        options["initial_epoch"] = 1
    else:
        model = make()
    train(model, "", [*callbacks(), *backup, records[1]], **options)
    first, second = (record.recorder.seen for record in records)
    return {name: first[name] + second[name] for name in first}


@pytest.mark.first_is_quick
@pytest.mark.parametrize("how", ["backup", "saved"])
def test_an_open_loop_goes_on_after_a_stop(compiled, tmp_path, how):
    def callbacks():
        return [*open_loop(), OneCycleLearningRate(0.02, **CYCLE)]

    def make():
        return compiled("", kv.objectives.ELBO, lambda: keras.optimizers.SGD(0.05, momentum=0.9))

    seen = in_two_parts(how, make, callbacks, tmp_path)
    assert_open_loop(seen)
    cycle = kv.schedules.OneCycle(0.02, 8, **CYCLE)
    assert_is(seen["learning_rate"], cycle)
    assert_is(seen["momentum"], cycle.momentum_schedule)


# Closed loop: the rules replayed in NumPy, on the means that the steps had.

KAPPA = kv.schedules.Linear(6.0, 3.0, 50)
TARGET = kv.schedules.Exponential(20.0, 0.5, 50)


def geco():
    one, other = (kv.objectives.SquaredError(5.0, name=name) for name in ("one", "other"))
    return kv.objectives.GECO([one, other], initial_multiplier=0.5)


def geco_callbacks():
    rule = kv.callbacks.GECO(0.02, alpha=0.8, clip=(0.8, 1.25), every=2, warmup_steps=3)
    return [rule, HyperparameterSchedule("one.kappa", KAPPA)]


GECO_MEASURES = ("loss", "kl", "constraint_squared_error_1", "constraint_squared_error_2")


def assert_geco(seen):
    assert_is(seen["one.kappa"], KAPPA)
    difference = seen["constraint_squared_error_2"] - seen["constraint_squared_error_1"]  # κ² alone
    np.testing.assert_allclose(difference, seen["one.kappa"] ** 2 - 25.0, atol=2e-4)
    penalty = 0.0
    for name in ("squared_error_1", "squared_error_2"):
        multiplier, average, constraints = 0.5, None, seen[f"constraint_{name}"]
        for t, constraint in enumerate(constraints):
            # What the step used is what the one before left.
            assert seen[f"lambda_{name}"][t] == pytest.approx(multiplier, rel=1e-5), t
            average = constraint if t == 0 else 0.8 * average + 0.2 * constraint
            if t >= 3 and (t + 1) % 2 == 0:
                multiplier *= np.exp(np.clip(0.02 * average, *np.log([0.8, 1.25])))
        penalty += seen[f"lambda_{name}"] * constraints
    np.testing.assert_allclose(seen["loss"], seen["kl"] + penalty, rtol=1e-4, atol=1e-3)


@pytest.mark.full
def test_multipliers(compiled):
    mode = "XLA, 37 steps, arrays"
    model, record = compiled(mode, geco), Record(2 * STEPS, *GECO_MEASURES)
    callbacks = [*geco_callbacks(), record]
    for _ in range(2):
        train(model, mode, callbacks)
    assert_geco(record.recorder.seen)


@pytest.mark.first_is_quick
@pytest.mark.parametrize("how", ["backup", "saved"])
def test_multipliers_go_on_after_a_stop(compiled, tmp_path, how):
    make = lambda: compiled("", geco)  # noqa: E731
    assert_geco(in_two_parts(how, make, geco_callbacks, tmp_path, *GECO_MEASURES))


def target_kl():
    return kv.objectives.TargetKL(20.0, beta=0.5)


def kl_controller():
    return [kv.callbacks.KLController(0.02, 0.003, target=TARGET)]


def assert_kl_controller(seen):
    assert_is(seen["target_kl"], TARGET)
    beta = integral = 0.5
    for t, kl in enumerate(seen["kl"]):
        assert seen["beta"][t] == pytest.approx(beta, rel=1e-5), t
        error = seen["target_kl"][t] - kl
        integral = np.clip(integral - 0.003 * error, 0.0, 1.0)
        beta = np.clip(0.02 / (1.0 + np.exp(error)) + integral, 0.0, 1.0)
    used = seen["loss"] - seen["reconstruction"]
    np.testing.assert_allclose(used, seen["beta"] * seen["kl"], rtol=1e-4, atol=1e-4)


@pytest.mark.full
def test_the_proportional_integral_controller(compiled):
    mode = "graph, 37 steps, dataset"
    model, record = compiled(mode, target_kl), Record(STEPS, "kl", "loss", "reconstruction")
    train(model, mode, [*kl_controller(), record])
    assert_kl_controller(record.recorder.seen)


@pytest.mark.full
def test_the_proportional_integral_controller_goes_on_after_a_stop(compiled, tmp_path):
    make = lambda: compiled("", target_kl)  # noqa: E731
    measures = ("kl", "loss", "reconstruction")
    assert_kl_controller(in_two_parts("saved", make, kl_controller, tmp_path, *measures))


# Other numbers of the parts of a model.


@pytest.mark.full
def test_capacity_and_temperature(compiled):
    mode = "XLA, dataset"
    posterior = kv.posteriors.Bernoulli(2, temperature=1.0)
    discrete = {"posterior": posterior, "prior": kv.priors.Bernoulli(2)}
    model = compiled(mode, lambda: kv.objectives.Capacity(0.0, gamma=3.0), **discrete)
    capacity, temperature = kv.schedules.Linear(0.0, 5.0, 30), kv.schedules.Exponential(2, 0.5, 30)
    record = Record(STEPS, "loss", "reconstruction", "kl")
    callbacks = [HyperparameterSchedule("capacity", capacity)]
    callbacks += [HyperparameterSchedule("temperature", temperature), record]
    train(model, mode, callbacks)
    seen = record.recorder.seen
    assert_is(seen["capacity"], capacity)
    assert_is(seen["temperature"], temperature)
    used = seen["loss"] - seen["reconstruction"]
    np.testing.assert_allclose(used, 3.0 * abs(seen["kl"] - seen["capacity"]), atol=1e-3)
