"""What Keras offers around a training works with these models."""

import keras
import numpy as np
import pytest
import tensorflow as tf


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
        history = model.fit(x, batch_size=len(x), epochs=2, verbose=0).history
        for loss, elbo in zip(history["loss"], history["elbo"], strict=True):
            assert loss + elbo == pytest.approx(3.0 * x.mean(), rel=1e-3), "losses pile up"
        if "run_eagerly" in options:
            logs = model.evaluate(x, batch_size=len(x), verbose=0, return_dict=True)
            assert logs["loss"] == pytest.approx(history["loss"][1], rel=1e-4)


def test_averages_take_the_place_of_the_weights(make_vae, trainable, x):
    model = make_vae()
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=2)
    model.compile(optimizer, run_eagerly=True)
    before = trainable(model)
    history = model.fit(x, batch_size=14, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert any(np.any(a != b) for a, b in zip(before, trainable(model), strict=True))


def test_frozen_network_stays(make_vae, x):
    model = make_vae()
    model.encoder.trainable = False
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=True)
    before = [w.numpy() for w in model.encoder.weights]
    model.fit(x, verbose=0)
    for a, b in zip(before, model.encoder.weights, strict=True):
        np.testing.assert_array_equal(a, b.numpy())


def test_batch_normalization_learns_its_statistics(make_vae, x):
    layers = [keras.layers.Flatten(), keras.layers.Dense(8), keras.layers.BatchNormalization()]
    model = make_vae(encoder=keras.Sequential(layers))
    model.compile("sgd", run_eagerly=True)
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
