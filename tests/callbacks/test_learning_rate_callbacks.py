"""Callbacks that drive the learning rate do so from the step and the epoch they should."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.callbacks import CyclicalLearningRate, LinearScaling, OneCycleLearningRate
from keras_vae.schedules import Cosine, OneCycle

Rates = keras.callbacks.LearningRateScheduler
PER_EPOCH = 2  # 28 examples in batches of 16, the last one partial


@pytest.fixture
def train(make_vae, x):
    """Return a function that trains, and returns the learning rate of every step."""

    def train(callback, model=None, rate=0.01, data=x, **options):
        if model is None:
            model = make_vae()
            model.compile(keras.optimizers.SGD(rate), run_eagerly=True)
        rates, rate = [], model.optimizer.learning_rate
        record = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: rates.append(float(rate))
        )
        options = {"batch_size": 16, "verbose": 0, **options} if data is x else options
        callbacks = [callback, *options.pop("callbacks", []), record]
        model.fit(data, callbacks=callbacks, **{"verbose": 0, **options})
        return model, rates

    return train


@pytest.mark.full
def test_a_second_training_is_a_new_cycle_in_a_graph(make_vae, x):
    model, callback = make_vae(), OneCycleLearningRate(0.5)
    model.compile(keras.optimizers.SGD(0.01), jit_compile=False)
    for epochs in (2, 2, 3):
        fitted = model.fit(x, batch_size=len(x), epochs=epochs, callbacks=[callback], verbose=0)
        cycle = OneCycle(0.5, epochs)
        assert fitted.history["learning_rate"] == values(cycle, range(epochs))


@pytest.fixture
def weights():
    """Return a function that copies all weights of a model, and of its optimizer."""
    return lambda model: [w.numpy() for w in [*model.weights, *model.optimizer.variables]]


def values(schedule, steps):
    return pytest.approx([float(schedule(t)) for t in steps], rel=1e-6)


# Cycles that go on.


def test_cyclical_rate_goes_on_in_the_next_training(train):
    callback = CyclicalLearningRate(0.1, 0.4, step_size=1, amplitude="exponential", decay=0.9)
    model, rates = train(callback)
    _, more = train(callback, model, epochs=2)
    # The tops of the cycles are at steps 1, 3 and 5.
    expected = [0.1, 0.1 + 0.3 * 0.9, 0.1, 0.1 + 0.3 * 0.9**3, 0.1, 0.1 + 0.3 * 0.9**5]
    assert rates + more == pytest.approx(expected)


# One cycle in a training.


def test_one_cycle_takes_as_long_as_the_training(train):
    options = {"warmup": 0.5, "initial_division": 10.0, "final_division": 50.0, "shape": "linear"}
    _, rates = train(OneCycleLearningRate(0.5, **options), epochs=3)
    assert rates == values(OneCycle(0.5, 3 * PER_EPOCH, **options), range(6))
    assert rates[0] == pytest.approx(0.05) and rates[2] == max(rates) == 0.5
    assert rates[-1] == pytest.approx(0.001), "the last update has the final rate"
    options["endpoint"] = False
    _, rates = train(OneCycleLearningRate(0.5, **options), epochs=2)
    assert rates == values(OneCycle(0.5, 2 * PER_EPOCH, **options), range(4))
    assert rates[2] == max(rates) and rates[-1] > 0.01


@pytest.mark.full
def test_a_second_training_is_a_new_cycle_and_initial_epoch_goes_on(train):
    callback = OneCycleLearningRate(0.5)
    model, rates = train(callback, epochs=2)
    assert rates == values(OneCycle(0.5, 4), range(4))
    _, rates = train(callback, model, epochs=3)
    assert rates == values(OneCycle(0.5, 6), range(6))
    _, rates = train(callback, model, epochs=4, initial_epoch=3)
    assert rates == values(OneCycle(0.5, 8), range(6, 8))


class Interrupt(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


@pytest.mark.first_is_quick
@pytest.mark.parametrize("cycle", [1, 2])
def test_a_backup_resumes_the_cycle(train, tmp_path, cycle):
    backup = {"callbacks": [keras.callbacks.BackupAndRestore(tmp_path)], "epochs": 3}
    model = None
    if cycle == 2:
        model, _ = train(OneCycleLearningRate(0.5), epochs=1)
    broken = {**backup, "callbacks": [*backup["callbacks"], Interrupt()]}
    with pytest.raises(KeyboardInterrupt):
        train(OneCycleLearningRate(0.5), model, **broken)
    # As in a new process: a model that has not made a step.
    _, rates = train(OneCycleLearningRate(0.5), **backup)
    assert rates == values(OneCycle(0.5, 6), range(4, 6))


@pytest.mark.full
def test_steps_are_those_of_the_optimizer(make_vae, train):
    # Two batches to a step, three batches to an epoch.
    model = make_vae()
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    model.compile(keras.optimizers.LossScaleOptimizer(optimizer), run_eagerly=True)
    _, rates = train(OneCycleLearningRate(0.5), model, epochs=2, batch_size=10)
    assert rates == values(OneCycle(0.5, 3), np.arange(6) // 2)
    _, rates = train(OneCycleLearningRate(0.5), model, epochs=2, batch_size=10, initial_epoch=1)
    assert rates == values(OneCycle(0.5, 3), [1, 1, 2])


def unknown_length(x):
    return tf.data.Dataset.from_tensor_slices(x).batch(16).filter(lambda batch: True)


@pytest.mark.full
def test_data_of_unknown_length_need_the_number_of_steps(train, weights, x):
    model, _ = train(keras.callbacks.Callback())
    before = weights(model)
    with pytest.raises(ValueError, match="`steps` must be the number of optimizer steps"):
        train(OneCycleLearningRate(0.5), model, data=unknown_length(x))
    for a, b in zip(before, weights(model), strict=True):
        np.testing.assert_array_equal(a, b)
    for _ in range(2):  # each a cycle of its own
        _, rates = train(OneCycleLearningRate(0.5, 6), model, data=unknown_length(x))
        assert rates == values(OneCycle(0.5, 6), range(2))
    endless = tf.data.Dataset.from_tensors(x).repeat()
    _, rates = train(OneCycleLearningRate(0.5), model, data=endless, steps_per_epoch=2, epochs=2)
    assert rates == values(OneCycle(0.5, 4), range(4))


# Larger batches.


@pytest.mark.full
def test_linear_scaling_starts_at_the_rate_of_the_optimizer_once(train):
    callback = LinearScaling(4.0, warmup_steps=2)
    model, rates = train(callback, rate=0.02)
    _, more = train(callback, model)
    expected = [0.02 * (1 + 3 * min(1, t / 2)) for t in range(4)]
    assert rates + more == pytest.approx(expected, rel=1e-6)
    # Another optimizer has another rate.
    model.compile(keras.optimizers.SGD(0.05), run_eagerly=True)
    assert train(callback, model)[1][0] == pytest.approx(0.05)


@pytest.mark.full
def test_linear_scaling_takes_a_new_rate_before_the_first_step(make_vae, x):
    model, callback = make_vae(), LinearScaling(4.0, warmup_steps=6)
    model.compile(keras.optimizers.SGD(0.02), jit_compile=False)
    for rate in (0.02, 0.1):
        model.optimizer.learning_rate = rate
        fitted = model.fit(x, batch_size=len(x), callbacks=[callback], verbose=0)
        assert fitted.history["learning_rate"] == pytest.approx([rate])
        model.optimizer.iterations.assign(0)


@pytest.mark.full
def test_linear_scaling_does_not_guess_the_rate_of_a_trained_optimizer(train):
    model, _ = train(LinearScaling(4.0, warmup_steps=6), rate=0.02)
    with pytest.raises(ValueError, match="`base_lr` must be given.*here 2"):
        train(LinearScaling(4.0, warmup_steps=6), model)
    _, rates = train(LinearScaling(4.0, 6, base_lr=0.02), model)
    assert rates == pytest.approx([0.02 * (1 + 3 * t / 6) for t in range(2, 4)])


@pytest.mark.full
def test_linear_scaling_multiplies_a_schedule(train):
    base = Cosine(0.1, 0.0, steps=10)
    _, rates = train(LinearScaling(3.0, 2, base_lr=base), epochs=2)
    expected = [float(base(t)) * (1 + 2 * min(1, t / 2)) for t in range(4)]
    assert rates == pytest.approx(expected, rel=1e-6)


@pytest.mark.full
def test_linear_scaling_resumes_from_a_backup(train, tmp_path):
    backup = {"callbacks": [keras.callbacks.BackupAndRestore(tmp_path)], "epochs": 3}
    broken = {**backup, "callbacks": [*backup["callbacks"], Interrupt()]}
    with pytest.raises(KeyboardInterrupt):
        train(LinearScaling(4.0, 20), rate=0.02, **broken)
    _, rates = train(LinearScaling(4.0, 20), rate=0.02, **backup)
    assert rates == pytest.approx([0.02 * (1 + 3 * t / 20) for t in range(4, 6)])


# One number, one callback.

DRIVERS = {
    "CyclicalLearningRate": lambda: CyclicalLearningRate(1e-3, 1e-2, 4),
    "OneCycleLearningRate": lambda: OneCycleLearningRate(1e-2),
    "LinearScaling": lambda: LinearScaling(4.0, 10),
    "HyperparameterSchedule": lambda: kv.callbacks.HyperparameterSchedule(
        "learning_rate", kv.schedules.Constant(1e-3)
    ),
}
OF_KERAS = {
    "LearningRateScheduler": lambda: Rates(lambda epoch: 1e-3),
    "ReduceLROnPlateau": lambda: keras.callbacks.ReduceLROnPlateau("loss"),
}
PAIRS = [(a, b) for a in DRIVERS for b in {**DRIVERS, **OF_KERAS}]
PAIRS += [(b, a) for a in DRIVERS for b in OF_KERAS]


@pytest.mark.full
def test_two_callbacks_for_the_rate_are_refused_in_any_order(make_vae, weights, x):
    model = make_vae()
    model.build((None, 8, 8, 1))
    before = weights(model)
    for names in PAIRS:
        callbacks = [{**DRIVERS, **OF_KERAS}[name]() for name in names]
        with pytest.raises(ValueError, match="must not be driven by another callback") as error:
            model.fit(x, callbacks=callbacks, verbose=0)
        for word in (*names, "already", "name='learning_rate'"):
            assert word in str(error.value)
        assert model.hooks == {}
    for a, b in zip(before, weights(model), strict=True):
        np.testing.assert_array_equal(a, b)


def test_both_callbacks_of_keras_may_be_there(train):
    scheduler, plateau = (make() for make in OF_KERAS.values())
    _, rates = train(scheduler, callbacks=[plateau])
    assert rates == pytest.approx([1e-3] * PER_EPOCH)


@pytest.mark.parametrize("name", DRIVERS)
def test_a_rate_that_the_optimizer_computes_is_refused(make_vae, x, name):
    model = make_vae()
    model.compile(keras.optimizers.SGD(Cosine(0.1, 0.0, 10)))
    with pytest.raises(ValueError, match="has a schedule for its learning rate"):
        model.fit(x, callbacks=[DRIVERS[name]()], verbose=0)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: CyclicalLearningRate(0.0, 1.0, 2), "`base_lr`"),
        (lambda: CyclicalLearningRate(0.2, 0.1, 2), "`max_lr`"),
        (lambda: CyclicalLearningRate(0.1, 0.2, 0), "`step_size`"),
        (lambda: CyclicalLearningRate(0.1, 0.2, 2, shape="square"), "`shape`"),
        (lambda: OneCycleLearningRate(0.0), "`max_lr`"),
        (lambda: OneCycleLearningRate(0.1, steps=0), "`steps`"),
        (lambda: OneCycleLearningRate(0.1, warmup=1.0), "`warmup`"),
        (lambda: OneCycleLearningRate(0.1, momentum=(0.9, 0.8)), "`momentum`"),
        (lambda: LinearScaling(0.0, 10), "`factor`"),
        (lambda: LinearScaling(2.0, 0), "`warmup_steps`"),
        (lambda: LinearScaling(2.0, 10, base_lr=-1.0), "`base_lr`"),
    ],
)
def test_wrong_arguments_are_refused(make, word):
    with pytest.raises(ValueError, match=word):
        make()
