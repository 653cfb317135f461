"""What Keras offers around a training works with these models."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv


def compiled(model, **options):
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=True, **options)
    return model


@pytest.mark.full
def test_early_stopping_restores_the_best_weights(make_vae, x):
    model = compiled(make_vae())
    stop = keras.callbacks.EarlyStopping(
        "val_elbo", mode="max", patience=0, min_delta=1e9, restore_best_weights=True
    )
    history = model.fit(x, validation_data=x, epochs=5, callbacks=[stop], verbose=0)
    assert len(history.epoch) == 2
    after = model.evaluate(x, verbose=0, return_dict=True)
    assert after["elbo"] == pytest.approx(history.history["val_elbo"][0], rel=1e-6)


def test_model_checkpoint_writes_a_model(make_vae, x, tmp_path):
    model = compiled(make_vae())
    path = tmp_path / "best.keras"
    checkpoint = keras.callbacks.ModelCheckpoint(
        path, monitor="val_loss", mode="min", save_best_only=True
    )
    annealing = kv.callbacks.KLAnnealing(kv.schedules.Constant(0.5))
    model.fit(x, validation_data=x, callbacks=[annealing, checkpoint], verbose=0)
    loaded = keras.saving.load_model(path)
    np.testing.assert_allclose(loaded.reconstruct(x), model.reconstruct(x), rtol=1e-6)
    assert float(loaded.objective.beta) == 0.5
    assert int(loaded.optimizer.iterations) == int(model.optimizer.iterations)


class Interrupt(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


@pytest.mark.full
def test_backup_and_restore_resumes_exactly(make_vae, trainable, x, tmp_path):
    def callbacks():
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        return [kv.callbacks.KLAnnealing(kv.schedules.Linear(0.0, 1.0, 3)), backup]

    options = {"epochs": 3, "shuffle": False, "verbose": 0}
    whole = compiled(make_vae())
    expected = whole.fit(x, callbacks=callbacks()[:1], **options).history
    with pytest.raises(KeyboardInterrupt):
        compiled(make_vae()).fit(x, callbacks=[*callbacks(), Interrupt()], **options)
    resumed = compiled(make_vae())
    found = resumed.fit(x, callbacks=callbacks(), **options)
    assert found.epoch == [2]
    assert found.history["loss"][0] == expected["loss"][2]
    for a, b in zip(trainable(whole), trainable(resumed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_csv_logger_and_reduce_lr(make_vae, x, tmp_path):
    model = compiled(make_vae())
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.1, patience=0, min_delta=1e9)
    annealing = kv.callbacks.KLAnnealing(kv.schedules.Constant(0.5))
    logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    model.fit(x, epochs=3, callbacks=[annealing, plateau, logger], verbose=0)
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert {"loss", "elbo", "reconstruction", "kl", "beta"} <= set(rows[0])
    assert float(rows[2]["beta"]) == 0.5
    assert float(model.optimizer.learning_rate) < 1e-3 * 1.01


@pytest.mark.full
def test_tensorboard(make_vae, x, tmp_path):
    pytest.importorskip("tensorboard")
    model = make_vae()
    model.compile("adam", jit_compile=False)
    board = keras.callbacks.TensorBoard(tmp_path, histogram_freq=1, write_graph=False)
    model.fit(x, validation_data=x, callbacks=[board], verbose=0)
    assert list(tmp_path.rglob("events*"))


def regularized(strength):
    regularizer = keras.regularizers.L2(strength) if strength else None
    dense = keras.layers.Dense(8, "tanh", kernel_regularizer=regularizer)
    return keras.Sequential([keras.layers.Flatten(), dense])


@pytest.mark.full
def test_regularizers_count_in_loss_and_gradient(make_mean_vae, x):
    kernels, losses = [], []
    for strength in (0.0, 0.5):
        keras.utils.set_random_seed(1)
        model = make_mean_vae(encoder=regularized(strength))
        model.compile(keras.optimizers.SGD(1e-2), run_eagerly=True)
        start = model.encoder.layers[-1].kernel.numpy()
        logs = model.evaluate(x, verbose=0, return_dict=True)
        losses.append(logs["loss"])
        assert logs["loss"] - strength * np.sum(start**2) == pytest.approx(-logs["elbo"], rel=1e-5)
        model.fit(x, batch_size=len(x), verbose=0)
        kernels.append(model.encoder.layers[-1].kernel.numpy())
    assert losses[1] - losses[0] == pytest.approx(0.5 * np.sum(start**2), rel=1e-4)
    # d/dW of 0.5 |W|^2 is W: the step shrinks the kernel by the learning rate.
    np.testing.assert_allclose(kernels[1] - kernels[0], -1e-2 * start, atol=1e-6)


@keras.saving.register_keras_serializable(package="test_keras_features")
class Penalized(keras.layers.Layer):
    """Adds three times the mean of its input to the loss."""

    def call(self, inputs):
        self.add_loss(3.0 * tf.reduce_mean(inputs))
        return inputs


@pytest.mark.full
def test_add_loss_of_a_network_counts(make_mean_vae, x):
    encoder = keras.Sequential([Penalized(), keras.layers.Flatten(), keras.layers.Dense(4)])
    model = make_mean_vae(encoder=encoder)
    for options in ({"run_eagerly": True}, {"jit_compile": False}):
        model.compile(keras.optimizers.SGD(0.0), **options)
        logs = model.evaluate(x, batch_size=len(x), verbose=0, return_dict=True)
        assert logs["loss"] + logs["elbo"] == pytest.approx(3.0 * x.mean(), rel=1e-3)
        history = model.fit(x, batch_size=len(x), epochs=2, verbose=0).history
        assert history["loss"][1] == pytest.approx(logs["loss"], rel=1e-4), "losses pile up"


@pytest.mark.parametrize(
    "options",
    [
        {"gradient_accumulation_steps": 2},
        {"clipnorm": 0.1},
        {"global_clipnorm": 0.1},
        {"clipvalue": 0.01},
        {"use_ema": True, "ema_overwrite_frequency": 2},
        {"weight_decay": 0.01},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_of_optimizers(make_vae, trainable, x, options):
    model = make_vae()
    model.compile(keras.optimizers.SGD(0.1, **options), run_eagerly=True)
    before = trainable(model)
    history = model.fit(x, batch_size=14, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    steps = [a - b for a, b in zip(before, trainable(model), strict=True)]
    assert any(np.any(step != 0) for step in steps)
    if "global_clipnorm" in options:  # two steps of at most 0.1 * 0.1
        assert np.sqrt(sum(np.sum(s**2) for s in steps)) <= 0.02 * (1 + 1e-5)


@pytest.mark.full
def test_accumulated_gradients_are_those_of_the_large_batch(make_mean_vae, trainable, x):
    x, found = x[:16], []
    for batch_size, count in ((16, None), (8, 2)):
        model = make_mean_vae()
        optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=count)
        model.compile(optimizer, run_eagerly=True)
        model.fit(x, batch_size=batch_size, shuffle=False, verbose=0)
        found.append(trainable(model))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_loss_scaling_trains(make_vae, trainable, x):
    model = make_vae()
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1e-2)), run_eagerly=True)
    before = trainable(model)
    history = model.fit(x, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert any(np.any(a != b) for a, b in zip(before, trainable(model), strict=True))


def test_frozen_network_stays(make_vae, x):
    model = make_vae()
    model.encoder.trainable = False
    compiled(model)
    before = [w.numpy() for w in model.encoder.weights]
    model.fit(x, verbose=0)
    for a, b in zip(before, model.encoder.weights, strict=True):
        np.testing.assert_array_equal(a, b.numpy())


def test_batch_normalization_learns_its_statistics(make_vae, x):
    layers = [keras.layers.Flatten(), keras.layers.Dense(8), keras.layers.BatchNormalization()]
    model = make_vae(encoder=keras.Sequential(layers))
    model.compile("sgd", jit_compile=False)
    mean = model.encoder.layers[-1].moving_mean
    model.fit(x, validation_data=x, verbose=0)
    after = mean.numpy()
    assert np.any(after != 0)
    model.evaluate(x, verbose=0)
    np.testing.assert_array_equal(mean.numpy(), after)


@pytest.mark.parametrize("argument", ["loss", "metrics", "weighted_metrics", "loss_weights"])
def test_losses_and_metrics_are_refused(make_vae, argument):
    with pytest.raises(ValueError, match=f"`{argument}` must be left out.*Received: {argument}="):
        make_vae().compile("adam", **{argument: ["mse"]})


def test_summary_and_counts(make_vae, capsys):
    model = make_vae()
    model.summary()
    assert "Total params" in capsys.readouterr().out
    assert model.count_params() == sum(w.numpy().size for w in model.weights)
