"""Callbacks of Keras beside those that drive numbers: what a Keras user expects of each."""

import csv

import keras
import numpy as np
import pytest

import keras_vae as kv
from tests.small_models import make_vae, trainable_weights_of

KAPPA = kv.schedules.Linear(3.0, 5.0, steps=20)
DRIVEN = ("kappa", "lambda")  # one by a schedule, one by what the training does


def make(optimizer=None):
    model = make_vae(kv.GECOVAE, constraint=kv.objectives.SquaredError(3.0))
    model.compile(optimizer or keras.optimizers.SGD(1e-3), run_eagerly=True)
    model.build((None, 8, 8, 1))
    return model


def driver():
    return kv.callbacks.GECO(0.02, clip=(0.8, 1.25), kappa=KAPPA)


def train(model, x, *callbacks, **options):
    options = {"epochs": 3, "batch_size": 14, "shuffle": False, "verbose": 0, **options}
    return model.fit(x, callbacks=list(callbacks), **options)


def kappas(*steps):
    return [float(KAPPA(step)) for step in steps]


def number(model, name):
    return float(model.hyperparameters[name])


def states(model):
    return [w.numpy() for w in [*model.weights, *model.optimizer.variables]]


def assert_same(one, other):
    for a, b in zip(states(one), states(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.full
def test_a_scheduler_of_the_rate(x):
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: 0.01 / (epoch + 1))
    history = train(make(), x, driver(), scheduler).history
    assert history["learning_rate"] == pytest.approx([0.01, 0.005, 0.01 / 3])
    assert history["kappa"] == kappas(1, 3, 5)
    assert len(set(history["lambda"])) == 3


def test_a_plateau_reduces_the_rate_and_the_log_has_a_column_of_every_number(x, tmp_path):
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.1, patience=1, min_delta=1e9)
    logger, model = keras.callbacks.CSVLogger(tmp_path / "log.csv"), make()
    options = {"batch_size": len(x), "validation_data": x}
    history = train(model, x, logger, driver(), plateau, **options).history
    # The first epoch is the best; each further one is no better.
    assert history["learning_rate"] == pytest.approx([1e-3, 1e-3, 1e-4])
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-5)
    assert history["kappa"] == kappas(0, 1, 2)
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {"epoch", *history} > {*DRIVEN, "learning_rate", "val_elbo"}
    for column, values in history.items():
        np.testing.assert_allclose([float(row[column]) for row in rows], values, rtol=1e-6)


def test_a_plateau_beside_a_schedule_for_a_part_is_refused(x):
    model = make_vae()
    optimizer = kv.optimizers.by_part(model, encoder="adam", default="sgd")
    model.compile(optimizer, run_eagerly=True)
    plateau = keras.callbacks.ReduceLROnPlateau("loss")
    constant = kv.schedules.Constant(0.1)
    schedule = kv.callbacks.HyperparameterSchedule("encoder.learning_rate", constant)
    with pytest.raises(ValueError, match="ReduceLROnPlateau drives it already"):
        train(model, x, plateau, schedule, epochs=1)


def test_what_sets_the_rate_lets_no_step_be_traced_anew(x):
    model = make_vae()
    model.compile("sgd", run_eagerly=True)
    functions = []
    for _ in range(2):
        plateau = keras.callbacks.ReduceLROnPlateau("loss")
        train(model, x, plateau, epochs=1, batch_size=len(x))
        functions.append(model.train_function)
    assert functions[0] is functions[1]


@pytest.mark.full
def test_early_stopping_restores_the_numbers_with_the_weights(x):
    stop = keras.callbacks.EarlyStopping(
        "val_elbo", mode="max", patience=1, min_delta=1e9, restore_best_weights=True
    )
    model = make()
    history = train(model, x, driver(), stop, epochs=9, validation_data=x)
    assert len(history.epoch) == 2
    for name in DRIVEN:
        first, last = history.history[name]
        assert number(model, name) == pytest.approx(first, rel=1e-6) and first != last
    logs = model.evaluate(x, batch_size=14, verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(history.history["val_loss"][0], rel=1e-6)
    # The step is the optimizer's, which stays where it is.
    train(model, x, driver(), epochs=1)
    assert [number(model, "kappa")] == kappas(5)


@pytest.mark.first_is_quick
@pytest.mark.parametrize("weights_only", [False, True])
def test_a_checkpoint_goes_on(x, tmp_path, weights_only):
    path = tmp_path / ("{epoch}.weights.h5" if weights_only else "{epoch}.keras")
    save = keras.callbacks.ModelCheckpoint(path, save_weights_only=weights_only)
    unbroken = make(keras.optimizers.Adam(1e-2))
    expected = train(unbroken, x, driver(), save, epochs=2)
    if weights_only:
        model = make(keras.optimizers.Adam(1e-2))
        model.optimizer.build(model.trainable_variables)
        model.load_weights(str(path).format(epoch=1))
    else:
        model = keras.saving.load_model(str(path).format(epoch=1))
    for name in DRIVEN:
        assert number(model, name) == pytest.approx(expected.history[name][0], rel=1e-6)
    history = train(model, x, driver(), epochs=2, initial_epoch=1)
    for name in DRIVEN:
        assert history.history[name] == expected.history[name][1:]
    assert_same(unbroken, model)


class Interrupt(keras.callbacks.Callback):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_begin(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == self.step:
            raise KeyboardInterrupt


def test_a_backup_goes_on(x, tmp_path):
    # Two batches an epoch: stopped within the second, where the backup is that after the first.
    backup = keras.callbacks.BackupAndRestore(tmp_path)
    unbroken, model = make(), make()
    expected = train(unbroken, x, driver(), epochs=2).history
    with pytest.raises(KeyboardInterrupt):
        train(make(), x, driver(), backup, Interrupt(step=3), epochs=2)
    history = train(model, x, driver(), backup, epochs=2)
    assert history.epoch == [1]
    for name in DRIVEN:
        assert history.history[name] == expected[name][1:]
    assert_same(unbroken, model)


@pytest.mark.full
def test_a_backup_within_an_epoch_trains_it_again(x, tmp_path):
    # After the last batch of an epoch, Keras takes the epoch for one that is not over: it is
    # trained again, from the weights and the step that were saved.
    backup, model = keras.callbacks.BackupAndRestore(tmp_path, save_freq=2), make()
    with pytest.raises(KeyboardInterrupt):
        train(make(), x, driver(), backup, Interrupt(step=3), epochs=2)
    history = train(model, x, driver(), backup, epochs=2)
    assert history.epoch == [0, 1] and int(model.optimizer.iterations) == 6
    assert history.history["kappa"] == kappas(3, 5)


@pytest.mark.full
def test_driven_numbers_are_in_tensorboard(x, tmp_path):
    pytest.importorskip("tensorboard", reason="writes for TensorBoard, which is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = keras.callbacks.TensorBoard(tmp_path, histogram_freq=1, write_graph=False)
    train(make(), x, driver(), board, epochs=1, validation_data=x)
    events = EventAccumulator(str(tmp_path / "train"), size_guidance={"tensors": 0}).Reload()
    tags = events.Tags()["tensors"]
    assert {"epoch_kappa", "epoch_lambda", "epoch_elbo"} <= set(tags)
    assert any("histogram" in tag for tag in tags)


@pytest.mark.full
def test_averaged_weights_are_swapped_in(x, tmp_path):
    # The average is that of the weights alone: numbers are not trained, and stay what they are.
    model, raw = make(keras.optimizers.SGD(1e-2, use_ema=True, ema_momentum=0.9)), []
    before = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: raw.append(trainable_weights_of(model))
    )
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    save = keras.callbacks.ModelCheckpoint(tmp_path / "model.keras")
    history = train(model, x, driver(), before, swap, save, epochs=2).history
    assert history["kappa"] == kappas(1, 3)
    saved = keras.saving.load_model(tmp_path / "model.keras")
    for name in DRIVEN:
        assert number(model, name) == number(saved, name) == history[name][-1]
    averages = trainable_weights_of(saved)
    assert any(np.any(a != b) for a, b in zip(averages, raw[-1], strict=True))
    for a, b in zip(averages, trainable_weights_of(model), strict=True):
        np.testing.assert_array_equal(a, b)
