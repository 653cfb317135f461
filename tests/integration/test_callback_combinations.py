"""Callbacks of Keras beside those that drive numbers: what a Keras user expects of each."""

import csv

import keras
import numpy as np
import pytest

import keras_vae as kv

ANNEALING = kv.schedules.Linear(0.0, 1.0, steps=20)


def geco_model(make_vae):
    return make_vae(kv.GECOVAE, constraint=kv.objectives.SquaredError(3.0))


# What drives a number, the model for it, and the name of the number in the logs.
STEERED = {
    "annealing": (lambda make: make(), lambda: kv.callbacks.KLAnnealing(ANNEALING), "beta"),
    "GECO": (geco_model, lambda: kv.callbacks.GECO(0.02, clip=(0.8, 1.25)), "lambda"),
}


# A closed loop after a stop is in `test_geco_training.py` and in `test_exactness.py`.
@pytest.fixture(params=["annealing", pytest.param("GECO", marks=pytest.mark.full)])
def steered(request, make_vae):
    """Return functions that make a model and the callback that drives a number, and its name."""
    make_model, callback, name = STEERED[request.param]

    def make(optimizer=None):
        model = make_model(make_vae)
        model.compile(optimizer or keras.optimizers.SGD(1e-3), run_eagerly=True)
        model.build((None, 8, 8, 1))
        return model

    return make, callback, name


def train(model, x, *callbacks, **options):
    options = {"epochs": 3, "batch_size": 14, "shuffle": False, "verbose": 0, **options}
    return model.fit(x, callbacks=list(callbacks), **options)


def number(model, name):
    return float(model.hyperparameters[name])


def states(model):
    return [w.numpy() for w in [*model.weights, *model.optimizer.variables]]


def assert_same(one, other):
    for a, b in zip(states(one), states(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.full
def test_a_scheduler_of_the_rate(steered, x):
    make, driver, name = steered
    alone, model = make(), make()
    expected = train(alone, x, driver()).history[name]
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: 0.01 / (epoch + 1))
    history = train(model, x, driver(), scheduler).history
    assert history["learning_rate"] == pytest.approx([0.01, 0.005, 0.01 / 3])
    assert len(set(history[name])) == 3
    if name == "beta":  # which does not depend on what the weights are
        assert history[name] == expected


@pytest.mark.full
def test_a_plateau_reduces_the_rate(steered, x):
    make, driver, name = steered
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.1, patience=1, min_delta=1e9)
    model = make()
    history = train(model, x, driver(), plateau).history
    # The first epoch is the best; each further one is no better.
    assert history["learning_rate"] == pytest.approx([1e-3, 1e-3, 1e-4])
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-5)
    assert len(set(history[name])) == 3


def test_a_plateau_beside_a_schedule_for_a_part_is_refused(make_vae, x):
    model = make_vae()
    optimizer = kv.optimizers.by_part(model, encoder="adam", default="sgd")
    model.compile(optimizer, run_eagerly=True)
    plateau = keras.callbacks.ReduceLROnPlateau("loss")
    constant = kv.schedules.Constant(0.1)
    schedule = kv.callbacks.HyperparameterSchedule("encoder.learning_rate", constant)
    with pytest.raises(ValueError, match="ReduceLROnPlateau drives it already"):
        train(model, x, plateau, schedule, epochs=1)


def test_what_sets_the_rate_lets_no_step_be_traced_anew(make_vae, x):
    model = make_vae()
    model.compile("sgd", run_eagerly=True)
    functions = []
    for _ in range(2):
        train(model, x, keras.callbacks.ReduceLROnPlateau("loss"), epochs=1)
        functions.append(model.train_function)
    assert functions[0] is functions[1]


@pytest.mark.full
def test_early_stopping_restores_the_number_with_the_weights(steered, x):
    make, driver, name = steered
    stop = keras.callbacks.EarlyStopping(
        "val_elbo", mode="max", patience=1, min_delta=1e9, restore_best_weights=True
    )
    model = make()
    history = train(model, x, driver(), stop, epochs=9, validation_data=x)
    assert len(history.epoch) == 2
    first, last = history.history[name]
    assert number(model, name) == pytest.approx(first, rel=1e-6) and first != last
    logs = model.evaluate(x, batch_size=14, verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(history.history["val_loss"][0], rel=1e-6)
    if name == "beta":  # the step is the optimizer's, which stays where it is
        train(model, x, driver(), epochs=1)
        assert number(model, name) == float(ANNEALING(5))


@pytest.mark.first_is_quick
@pytest.mark.parametrize("weights_only", [False, True])
def test_a_checkpoint_goes_on(steered, x, tmp_path, weights_only):
    make, driver, name = steered
    path = tmp_path / ("{epoch}.weights.h5" if weights_only else "{epoch}.keras")
    save = keras.callbacks.ModelCheckpoint(path, save_weights_only=weights_only)
    unbroken = make(keras.optimizers.Adam(1e-2))
    expected = train(unbroken, x, driver(), save)
    if weights_only:
        model = make(keras.optimizers.Adam(1e-2))
        model.optimizer.build(model.trainable_variables)
        model.load_weights(str(path).format(epoch=1))
    else:
        model = keras.saving.load_model(str(path).format(epoch=1))
    assert number(model, name) == pytest.approx(expected.history[name][0], rel=1e-6)
    history = train(model, x, driver(), initial_epoch=1)
    assert history.history[name] == expected.history[name][1:]
    assert_same(unbroken, model)


class Interrupt(keras.callbacks.Callback):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_begin(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == self.step:
            raise KeyboardInterrupt


@pytest.mark.first_is_quick
@pytest.mark.parametrize("save_freq", ["epoch", 2])
def test_a_backup_goes_on(steered, x, tmp_path, save_freq):
    # Two batches an epoch: stopped within the second, where the backup is that after the first.
    make, driver, name = steered
    backup = keras.callbacks.BackupAndRestore(tmp_path, save_freq=save_freq)
    unbroken, model = make(), make()
    expected = train(unbroken, x, driver()).history[name]
    with pytest.raises(KeyboardInterrupt):
        train(make(), x, driver(), backup, Interrupt(step=3))
    history = train(model, x, driver(), backup)
    if save_freq == "epoch":
        assert history.epoch == [1, 2] and history.history[name] == expected[1:]
        assert_same(unbroken, model)
        return
    # After the last batch of an epoch, Keras takes the epoch for one that is not over: it is
    # trained again, from the weights and the step that were saved.
    assert history.epoch == [0, 1, 2] and int(model.optimizer.iterations) == 8
    if name == "beta":
        assert history.history[name] == [float(ANNEALING(t)) for t in (3, 5, 7)]


@pytest.mark.full
def test_driven_numbers_are_columns_of_the_log(steered, x, tmp_path):
    make, driver, name = steered
    logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    rate = kv.callbacks.OneCycleLearningRate(0.01)
    history = train(make(), x, logger, driver(), rate, validation_data=x).history
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {"epoch", *history}
    for column in (name, "learning_rate"):
        np.testing.assert_allclose([float(row[column]) for row in rows], history[column], rtol=1e-6)


@pytest.mark.full
def test_driven_numbers_are_in_tensorboard(steered, x, tmp_path):
    pytest.importorskip("tensorboard", reason="writes for TensorBoard, which is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    make, driver, name = steered
    board = keras.callbacks.TensorBoard(tmp_path, write_graph=False)
    train(make(), x, driver(), board)
    events = EventAccumulator(str(tmp_path / "train"), size_guidance={"tensors": 0}).Reload()
    assert {f"epoch_{name}", "epoch_elbo"} <= set(events.Tags()["tensors"])


@pytest.mark.full
def test_averaged_weights_are_swapped_in(steered, x, tmp_path):
    # The average is that of the weights alone: numbers are not trained, and stay what they are.
    make, driver, name = steered
    optimizer = keras.optimizers.SGD(1e-2, use_ema=True, ema_momentum=0.9)
    model, plain = make(optimizer), make(keras.optimizers.SGD(1e-2))
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    save = keras.callbacks.ModelCheckpoint(tmp_path / "model.keras")
    history = train(model, x, driver(), swap, save).history
    expected = train(plain, x, driver()).history
    assert history[name] == expected[name] and number(model, name) == history[name][-1]
    saved = keras.saving.load_model(tmp_path / "model.keras")
    differs = [
        np.any(a.numpy() != b.numpy())
        for a, b in zip(saved.trainable_variables, plain.trainable_variables, strict=True)
    ]
    assert any(differs)
    for a, b in zip(saved.trainable_variables, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
