"""A training goes on where it was interrupted, whatever it was doing then."""

import keras
import numpy as np
import pytest

import keras_vae as kv

IMAGE = (8, 8, 1)
X = np.random.default_rng(0).integers(0, 2, (20, *IMAGE)).astype("float32")


def make(hidden=8):
    keras.utils.set_random_seed(0)
    model = kv.VAE(
        encoder=kv.networks.MLPEncoder((8,)),
        decoder=kv.networks.MLPDecoder(IMAGE, (hidden,)),
        posterior=kv.posteriors.DiagonalNormal(2),
        likelihood=kv.likelihoods.Bernoulli(IMAGE),
        objective=kv.objectives.GECO(kv.objectives.SquaredError(kappa=2.0)),
    )
    rate = keras.optimizers.schedules.CosineDecay(1e-2, 12)
    model.compile(keras.optimizers.Adam(rate))
    return model


def fit(model, folder, epochs, **options):
    resume = kv.callbacks.Resume(folder)
    options = {"initial_epoch": resume.epoch, **options}
    callbacks = [kv.callbacks.GECO(), *options.pop("callbacks", []), resume]
    data = {"batch_size": 8, "shuffle": False, "verbose": 0}
    return model.fit(X, epochs=epochs, callbacks=callbacks, **data, **options)


def assert_equal(one, two):
    variables = ([*model.weights, *model.optimizer.variables] for model in (one, two))
    for a, b in zip(*variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)


class Interrupt(keras.callbacks.Callback):
    """Ends the training within an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.end = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (self.end, 1):
            raise KeyboardInterrupt


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_end_is_that_of_the_unbroken_training(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(make(), tmp_path, 4, callbacks=[Interrupt(2)])
    assert names(tmp_path) == ["epoch_2.weights.h5"]
    broken, unbroken = make(), make()
    assert fit(broken, tmp_path, 4).epoch == [2, 3]
    assert names(tmp_path) == ["epoch_4.weights.h5"]
    fit(unbroken, tmp_path / "unbroken", 4)
    assert_equal(broken, unbroken)


def test_a_training_that_is_done_is_loaded(tmp_path):
    trained, loaded = make(), make()
    fit(trained, tmp_path, 10)  # epochs, so that the names sort otherwise than the numbers
    assert fit(loaded, tmp_path, 10).epoch == []
    assert_equal(trained, loaded)


@pytest.mark.parametrize("initial_epoch", [0, 3])
def test_another_initial_epoch_is_refused(tmp_path, initial_epoch):
    fit(make(), tmp_path, 2)
    rule = r"`initial_epoch` must be .*, here 2\. Received: initial_epoch="
    with pytest.raises(ValueError, match=rule):
        fit(make(), tmp_path, 4, initial_epoch=initial_epoch)


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


def test_what_a_kill_while_writing_leaves_is_no_checkpoint(tmp_path):
    trained = make()
    fit(trained, tmp_path, 2)
    left = tmp_path / ".epoch_3.weights.h5-x1"
    left.mkdir()
    (left / "epoch_3.weights.h5").write_bytes(b"half")
    loaded = make()
    fit(loaded, tmp_path, 2)
    assert_equal(trained, loaded)


def test_the_folder_of_another_model_is_refused(tmp_path):
    fit(make(), tmp_path, 1)
    other, untouched = make(hidden=16), make(hidden=16)
    with pytest.raises(ValueError) as error:
        fit(other, tmp_path, 2)
    for words in (
        "`directory` of Resume must be the folder of this training alone",
        "epoch_1.weights.h5 in it is of another model",
        "the file has more arrays of shape (2, 8), (8,), (8, 64)",
        "the model has more arrays of shape (2, 16), (16,), (16, 64)",
        "a folder of its own",
        str(tmp_path),
    ):
        assert words in str(error.value), str(error.value)
    for a, b in zip(other.weights, untouched.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)
    assert int(other.optimizer.iterations) == 0


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
