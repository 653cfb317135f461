"""A training goes on where it was interrupted, whatever it was doing then."""

import os
import signal
import warnings

import keras
import numpy as np
import pytest

import keras_vae as kv
from keras_vae.training import keeping
from keras_vae.training.checkpoints import configuration
from keras_vae.training.data import Data

IMAGE = (8, 8, 1)
X = np.random.default_rng(0).integers(0, 2, (24, *IMAGE)).astype("float32")


def make(hidden=8, optimizer=None, noise=False, **changes):
    keras.utils.set_random_seed(0)
    encoder = kv.networks.MLPEncoder((8,))
    if noise:  # Layers with seeds and statistics of their own.
        layers = [keras.layers.Flatten(), keras.layers.GaussianNoise(0.1), keras.layers.Dense(8)]
        layers += [keras.layers.BatchNormalization(), keras.layers.Dropout(0.2)]
        encoder = keras.Sequential([keras.Input(IMAGE), *layers])
    parts = {
        "encoder": encoder,
        "decoder": kv.networks.MLPDecoder(IMAGE, (hidden,)),
        "posterior": kv.posteriors.DiagonalNormal(2),
        "likelihood": kv.likelihoods.Bernoulli(IMAGE),
        "objective": kv.objectives.GECO(kv.objectives.SquaredError(kappa=2.0)),
    }
    model = kv.VAE(**{**parts, **changes})
    rate = keras.optimizers.schedules.CosineDecay(1e-2, 20)
    model.compile(optimizer or keras.optimizers.Adam(rate), run_eagerly=True)
    return model


def fit(model, folder, epochs, *callbacks, x=X, every=None, **options):
    resume = kv.callbacks.Resume(folder, every=every)
    options = {"initial_epoch": resume.epoch, "batch_size": 8, "verbose": 0, **options}
    callbacks = [resume, kv.callbacks.GECO(), *callbacks]  # wherever it stands
    return model.fit(x, epochs=epochs, callbacks=callbacks, **options)


def variables(model):
    return [*model.variables, *model.optimizer.variables]


def assert_equal(one, two):
    for a, b in zip(variables(one), variables(two), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)


class Interrupt(keras.callbacks.Callback):
    """Ends the training within an epoch."""

    def __init__(self, epoch, batch=1, how=KeyboardInterrupt):
        super().__init__()
        self.end, self.how = (epoch, batch), how
        self.on_train_batch_end = self.look

    def get_state(self):
        return {}

    def set_state(self, state):
        pass

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def look(self, batch, logs=None):
        if (self.epoch, batch) == self.end:
            if isinstance(self.how, type):
                raise self.how
            os.kill(os.getpid(), self.how)


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name[0] != ".")


@pytest.mark.full
def test_the_end_is_that_of_the_unbroken_training(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(make(), tmp_path / "broken", 3, Interrupt(1, 0))
    assert names(tmp_path / "broken") == ["epoch_1.checkpoint"]
    broken, unbroken = make(), make()
    history = fit(broken, tmp_path / "broken", 3)
    assert names(tmp_path / "broken") == ["epoch_2.checkpoint", "epoch_3.checkpoint"]
    expected = fit(unbroken, tmp_path / "unbroken", 3)
    assert_equal(broken, unbroken)
    assert history.epoch == [0, 1, 2] and history.history == expected.history


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Return a model of three epochs with noise, its history, and its table."""
    folder = tmp_path_factory.mktemp("unbroken")
    model, table = make(noise=True), keras.callbacks.CSVLogger(folder / "table.csv")
    history = fit(model, folder, 3, table, validation_data=X[:8])
    return model, history, (folder / "table.csv").read_bytes()


@pytest.mark.first_is_quick
@pytest.mark.parametrize(("batch", "how"), [(2, KeyboardInterrupt), (0, signal.SIGTERM)])
def test_a_training_goes_on_within_an_epoch(tmp_path, unbroken, batch, how, capfd):
    # Arrays that are shuffled, layers with noise, the means of half an epoch, a table of Keras.
    def train(model, *callbacks):
        table = keras.callbacks.CSVLogger(tmp_path / "table.csv")
        options = {"every": 2, "validation_data": X[:8]}
        return fit(model, tmp_path, 3, table, *callbacks, **options)

    with pytest.raises(KeyboardInterrupt if how is KeyboardInterrupt else SystemExit) as end:
        train(make(noise=True), Interrupt(1, batch, how))
    if how is signal.SIGTERM:
        assert end.value.code == 143
        assert f"SIGTERM. The training is kept in '{tmp_path}'" in capfd.readouterr().err
        assert f"epoch_1_step_{batch + 1}.checkpoint" in names(tmp_path)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    model, (expected, expected_history, expected_table) = make(noise=True), unbroken
    history = train(model)
    assert_equal(model, expected)
    assert history.history == expected_history.history
    assert (tmp_path / "table.csv").read_bytes() == expected_table


@pytest.mark.full
def test_data_of_the_package_are_read_on_from_the_same_batch(tmp_path):
    def train(folder, *callbacks):
        model, resume = make(), kv.callbacks.Resume(folder, every=2)
        options = {"batch_size": 400, "binarize": "dynamic", "initial_epoch": resume.epoch}
        data = kv.data.load("digits", **options)
        options = {"epochs": 2, "initial_epoch": resume.epoch, "verbose": 0}
        model.fit(data, callbacks=[kv.callbacks.GECO(), *callbacks, resume], **options)
        return model

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", Interrupt(1, 2))
    assert names(tmp_path / "broken") == ["epoch_1.checkpoint", "epoch_1_step_2.checkpoint"]
    assert_equal(train(tmp_path / "broken"), train(tmp_path / "unbroken"))


@pytest.mark.full
def test_other_data_go_on_from_the_start_of_the_epoch(tmp_path):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(X).batch(12)
    told = pytest.warns(UserWarning, match="keeps the ends of epochs alone")
    with told, pytest.raises(KeyboardInterrupt):
        fit(make(), tmp_path, 2, Interrupt(1), x=data, every=1, batch_size=None)
    assert names(tmp_path) == ["epoch_1.checkpoint"]


class Counts(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.batches = 0

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1


class Remembers(Counts):
    def get_state(self):
        return {"batches": self.batches, "array": np.arange(3), 5: [None, True, "a"]}

    def set_state(self, state):
        self.batches, self.found = state["batches"], state


@pytest.mark.full
def test_callbacks_go_on_where_they_were(tmp_path):
    best, weights = tmp_path / "best.weights.h5", {"save_weights_only": True}

    def callbacks():
        return [
            keras.callbacks.EarlyStopping("loss", patience=3, min_delta=1e9, baseline=0.0),
            keras.callbacks.ReduceLROnPlateau("loss", patience=2, min_delta=1e9),
            keras.callbacks.ModelCheckpoint(best, "loss", save_best_only=True, **weights),
            kv.callbacks.StopWhenConstraintSatisfied(patience=9, tolerance=1e9),
            Remembers(),
        ]

    def train(folder, *more):
        model, own = make(optimizer=keras.optimizers.SGD(1e-4)), callbacks()
        epochs = fit(model, folder, 9, *own, *more, every=2).epoch
        return model, own, epochs

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", Interrupt(1, 2))
    broken, own, epochs = train(tmp_path / "broken")
    unbroken, expected, _ = train(tmp_path / "unbroken")
    assert epochs == [0, 1, 2]
    assert_equal(broken, unbroken)
    for one, other, names in zip(
        own,
        expected,
        [("wait", "best", "stopped_epoch"), ("wait", "best"), ("best",), ("_met",), ("batches",)],
        strict=True,
    ):
        assert [getattr(one, n) for n in names] == [getattr(other, n) for n in names]
    assert own[-1].found[5] == [None, True, "a"] and list(own[-1].found["array"]) == [0, 1, 2]
    # Started again, a training that a callback has ended stays where it was.
    with pytest.warns(UserWarning, match="was ended by a callback after 3 epochs"):
        model, _, epochs = train(tmp_path / "broken")
    assert epochs == [0, 1, 2]
    assert_equal(model, unbroken)


@pytest.mark.full
def test_what_cannot_be_restored_is_named(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(make(), tmp_path, 1, Counts(), keras.callbacks.TerminateOnNaN(), x=X[:8])
    with pytest.warns(UserWarning, match=r"what these callbacks remember: Counts\. Give them get_"):
        fit(make(), tmp_path, 2, Counts(), keras.callbacks.TerminateOnNaN(), x=X[:8])


@pytest.mark.full
def test_a_training_that_is_done_is_loaded_and_another_initial_epoch_refused(tmp_path):
    trained, loaded = make(), make()
    # So many epochs that the names sort otherwise than the numbers.
    fit(trained, tmp_path, 10, x=X[:8])
    for initial_epoch in (0, 11):
        rule = r"`initial_epoch` must be .*, here 10\. Received: initial_epoch="
        with pytest.raises(ValueError, match=rule):
            fit(loaded, tmp_path, 12, x=X[:8], initial_epoch=initial_epoch)
    assert fit(loaded, tmp_path, 10, x=X[:8]).epoch == list(range(10))
    assert_equal(trained, loaded)


OTHERS = {
    "model.config.decoder.config.hidden_units[0]: 8, here 16": {"hidden": 16},
    "optimizer.class_name: 'Adam', here 'SGD'": {"optimizer": keras.optimizers.SGD(1e-2)},
    "model.config.seed: 0, here 1": {"seed": 1},
}


def test_the_folder_of_another_training_is_refused(tmp_path):
    fit(make(), tmp_path, 1)
    for words, changes in OTHERS.items():
        other = make(**changes)
        other.build((None, *IMAGE))
        before = [weight.numpy() for weight in other.weights]
        with pytest.raises(ValueError) as error:
            fit(other, tmp_path, 2)
        for told in (
            words,
            "`directory` of Resume must be the folder of this training alone",
            "epoch_1.checkpoint in it is of another",
            "a folder of its own",
            str(tmp_path),
        ):
            assert told in str(error.value), str(error.value)
        for weight, value in zip(other.weights, before, strict=True):
            np.testing.assert_array_equal(weight.numpy(), value, err_msg=weight.path)
        assert int(other.optimizer.iterations) == 0
    same = make()
    for changes in ({"x": X[:16]}, {"x": 1.0 - X}, {"batch_size": 4}, {"shuffle": False}):
        with pytest.raises(ValueError, match=r"epoch_1\.checkpoint in it is of another: data\."):
            fit(same, tmp_path, 2, **changes)
    assert fit(same, tmp_path, 2).epoch == [0, 1]


def test_a_default_that_is_named_is_the_same_training():
    data = Data.of("x", X)
    named = {"batch_size": 32, "shuffle": True, "validation_split": None}
    assert configuration.of_data(data, {}) == configuration.of_data(data, named)
    assert configuration.of_data(data, {}) != configuration.of_data(data, {"batch_size": 8})


@pytest.mark.full
def test_a_checkpoint_of_an_earlier_version_is_read(tmp_path):
    trained, loaded = make(), make()
    trained.fit(X, batch_size=8, verbose=0, callbacks=[kv.callbacks.GECO()])
    trained.save_weights(tmp_path / "epoch_1.weights.h5")
    assert fit(loaded, tmp_path, 1).epoch == []
    for a, b in zip(trained.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)
    assert int(loaded.optimizer.iterations) == 3
    with pytest.raises(ValueError, match=r"of another: the file has more arrays of shape \(2, 8\)"):
        fit(make(hidden=16), tmp_path, 1)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"directory": ""}, "`directory` must be a path"),
        ({"directory": 5}, "`directory` must be a path"),
        ({"every": 0}, "`every` must be an integer >= 1"),
        ({"every": 0.0}, "`every` must be a finite number > 0"),
        ({"every": "epoch"}, "`every` must be an integer >= 1"),
        ({"keep": 0}, "`keep` must be an integer >= 1"),
    ],
)
def test_options_that_mean_nothing_are_refused(tmp_path, options, rule):
    with pytest.raises(ValueError, match=rule):
        kv.callbacks.Resume(**{"directory": tmp_path, **options})


def test_backups_of_keras_are_not_exact_within_epochs_which_is_said(tmp_path):
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", save_freq=2)
    with pytest.warns(UserWarning, match=r"\(save_freq=2\) is not exact: .*Resume\(folder, every="):
        make().fit(X[:8], verbose=0, callbacks=[backup])
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    with pytest.raises(ValueError, match="must hold one callback that restores a training"):
        fit(make(), tmp_path, 1, backup)


@pytest.mark.parametrize("save", ["save_weights", "save"])
def test_a_file_half_written_takes_no_place(tmp_path, monkeypatch, save):
    model, path = make(), tmp_path / ("a.weights.h5" if save == "save_weights" else "a.keras")
    getattr(model, save)(path)
    good = path.read_bytes()

    def half(self, filepath, **kwargs):
        with open(filepath, "wb") as file:
            file.write(good[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, save, half)
    with pytest.raises(KeyboardInterrupt):
        getattr(model, save)(path)
    assert path.read_bytes() == good
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("name", ["m.h5", "m.hdf5", "m.weights.h5"])
def test_a_file_that_could_not_be_read_again_is_refused(tmp_path, name):
    rule = r"`filepath` must end with `\.keras`.*model\.save\('m\.keras'\).*Received: filepath="
    with pytest.raises(ValueError, match=rule):
        make().save(tmp_path / name)
    assert names(tmp_path) == []


def test_files_are_saved_as_keras_saves_them(tmp_path):
    model = make()
    model.save(str(tmp_path / "a.keras"))
    model.save_weights(tmp_path / "sharded.weights.json", max_shard_size=1)
    model.save(tmp_path / "folder", zipped=False)
    assert len(names(tmp_path)) == 4
    with pytest.raises(ValueError, match="extension"):
        model.save(tmp_path / "a.zip")
    with pytest.raises(FileNotFoundError):
        model.save(tmp_path / "none" / "a.keras")
    loaded = keras.models.load_model(tmp_path / "a.keras")
    for a, b in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


# Callbacks that end a training, and what they mean by it.


class TimeLimit(Interrupt):
    """Asks for the end of the training within an epoch, as a job with a time limit does."""

    def look(self, batch, logs=None):
        if (self.epoch, batch) == self.end:
            self.model.stop_training = True


@pytest.mark.first_is_quick
@pytest.mark.parametrize("every", [100, None])
def test_the_rest_of_an_epoch_that_was_cut_short_is_trained_later(tmp_path, every):
    stops = keras.callbacks.EarlyStopping("loss", patience=9)
    unbroken = make()
    expected = fit(unbroken, tmp_path / "unbroken", 2)
    fit(make(), tmp_path / "cut", 2, stops, TimeLimit(0, 0), every=every)
    assert names(tmp_path / "cut") == ["epoch_0_step_1.checkpoint"]
    broken = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # It has not ended for good.
        history = fit(broken, tmp_path / "cut", 2, stops, every=every)
    assert history.epoch == [0, 1] and history.history == expected.history
    assert_equal(broken, unbroken)


def test_a_training_that_was_not_finite_stays_stopped(tmp_path):
    weights = make().encoder.get_weights()

    def broken():
        model = make(optimizer=keras.optimizers.SGD(1e-3))
        model.encoder.set_weights([weights[0] * np.nan, *weights[1:]])
        return model

    check = kv.callbacks.HealthCheck(non_finite="stop")
    with pytest.warns(kv.callbacks.HealthWarning):
        fit(broken(), tmp_path, 3, check)
    assert check.stopped_epoch == 0
    before = names(tmp_path)
    with pytest.warns(UserWarning, match="was ended by a callback after"):
        history = fit(broken(), tmp_path, 3, kv.callbacks.HealthCheck(non_finite="stop"))
    assert history.epoch == [] and names(tmp_path) == before


def test_files_of_batches_that_were_trained_before_are_not_written_again(tmp_path):
    def saver():
        path = str(tmp_path / "{epoch}_{batch}.weights.h5")
        return keras.callbacks.ModelCheckpoint(path, save_freq=1, save_weights_only=True)

    with pytest.raises(KeyboardInterrupt):
        fit(make(), tmp_path / "run", 1, saver(), Interrupt(0, 2), every=2)
    first = (tmp_path / "1_1.weights.h5").read_bytes()
    (tmp_path / "1_3.weights.h5").unlink(missing_ok=True)
    again = saver()
    with pytest.raises(KeyboardInterrupt):  # Once more, before the first new batch.
        fit(make(), tmp_path / "run", 1, again, Interrupt(0, 0), every=2)
    assert again.save_freq == 1
    fit(make(), tmp_path / "run", 1, again, every=2)
    assert (tmp_path / "1_1.weights.h5").read_bytes() == first
    assert (tmp_path / "1_3.weights.h5").is_file() and again.save_freq == 1


def test_the_same_model_goes_on_whatever_rate_it_was_interrupted_at(tmp_path):
    def train(model, *callbacks):
        rates = kv.callbacks.CyclicalLearningRate(1e-3, 1e-2, 5)
        return fit(model, tmp_path, 2, rates, *callbacks)

    model = make(optimizer=keras.optimizers.Adam(5e-3))
    with pytest.raises(KeyboardInterrupt):
        train(model, Interrupt(1, 1))
    assert train(model).epoch == [0, 1]


def test_validation_data_are_read_in_batches_of_the_training():
    options = {"batch_size": 12, "validation_data": X[:8]}
    kept = keeping.with_order_of_its_own(Data.of("x", X), options, seed=0)
    assert kept["validation_batch_size"] == 12
    kept = keeping.with_order_of_its_own(
        Data.of("x", X), {**options, "validation_batch_size": 4}, seed=0
    )
    assert kept["validation_batch_size"] == 4
