"""Averages of the weights: what validation, monitors and the end of a training see of them."""

import keras
import numpy as np
import pytest

import keras_vae as kv
from tests.small_models import binary_images, make_mean_vae, trainable_weights_of

MOMENTUM, BATCH, EPOCHS = 0.6, 8, 3


class Weights(keras.callbacks.Callback):
    """Keep the weights after every step."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(trainable_weights_of(self.model))


def optimizer(**options):
    return keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=MOMENTUM, **options)


def averages_of(steps):
    """Return the average after every step, by hand; Keras begins with the first weights."""
    found = [steps[0]]
    for weights in steps[1:]:
        pairs = zip(found[-1], weights, strict=True)
        found.append([MOMENTUM * mean + (1.0 - MOMENTUM) * weight for mean, weight in pairs])
    return found


@pytest.fixture(scope="module")
def reference():
    """Return data, and the weights and averages at the end of every epoch of a plain training."""
    x, model, kept = binary_images(16), make_mean_vae(), Weights()
    model.compile(keras.optimizers.SGD(0.05), run_eagerly=True)
    model.fit(x, batch_size=BATCH, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=[kept])
    ends = slice(1, None, 2)  # two steps an epoch
    return x, kept.steps[ends], averages_of(kept.steps)[ends]


def elbo_of(weights, x):
    model = make_mean_vae()
    for variable, value in zip(model.trainable_variables, weights, strict=True):
        variable.assign(value)
    return float(np.mean(model.compute_terms(model.standardize(x)[0]).elbo))


def assert_close(model, expected):
    for found, value in zip(trainable_weights_of(model), expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-4, atol=2e-6)


@pytest.mark.first_is_quick
@pytest.mark.parametrize("by_part", [False, True])
def test_validation_is_that_of_the_average(reference, by_part):
    x, raw, averages = reference
    model, swap = make_mean_vae(), keras.callbacks.SwapEMAWeights()
    if by_part:
        chosen = kv.optimizers.by_part(model, encoder=optimizer(), decoder=optimizer())
    else:
        chosen = optimizer()
    model.compile(chosen, jit_compile=False, steps_per_execution=2)
    options = {"epochs": EPOCHS, "shuffle": False, "verbose": 0}
    history = model.fit(
        x, batch_size=BATCH, validation_data=(x,), callbacks=[swap], **options
    ).history
    expected = [elbo_of(weights, x) for weights in averages]
    np.testing.assert_allclose(history["val_elbo"], expected, rtol=1e-5)
    assert np.abs(np.subtract(expected, [elbo_of(weights, x) for weights in raw])).min() > 1e-3
    # The training itself went on with its own weights; they end as their average.
    assert_close(model, averages[-1])


def test_monitors_and_checkpoints_see_the_average_where_they_stand_after_it(reference, tmp_path):
    x, raw, averages = reference
    model, seen = make_mean_vae(), {"before": [], "after": []}

    def look(name):
        return keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: seen[name].append(trainable_weights_of(model))
        )

    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    resume = kv.callbacks.Resume(tmp_path)
    model.compile(optimizer(), run_eagerly=True)
    options = {"batch_size": BATCH, "epochs": EPOCHS, "shuffle": False, "verbose": 0}
    model.fit(x, callbacks=[look("before"), resume, swap, look("after")], **options)
    for epoch in range(EPOCHS):
        for name, expected in (("before", raw), ("after", averages)):
            for found, value in zip(seen[name][epoch], expected[epoch], strict=True):
                np.testing.assert_allclose(found, value, rtol=1e-4, atol=2e-6)


@pytest.mark.full
def test_a_resumed_training_goes_on_with_the_weights_and_not_with_their_average(
    reference, tmp_path
):
    x, _, averages = reference

    def interrupt(epoch, logs):
        if epoch == EPOCHS - 1:
            raise KeyboardInterrupt

    def train(*callbacks):
        model, resume = make_mean_vae(), kv.callbacks.Resume(tmp_path)
        model.compile(optimizer(), run_eagerly=True)
        options = {"epochs": EPOCHS, "initial_epoch": resume.epoch, "shuffle": False, "verbose": 0}
        swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
        model.fit(x, batch_size=BATCH, callbacks=[resume, swap, *callbacks], **options)
        return model

    with pytest.raises(KeyboardInterrupt):
        train(keras.callbacks.LambdaCallback(on_epoch_begin=interrupt))
    assert_close(train(), averages[-1])


@pytest.mark.full
def test_validation_of_the_average_on_replicas(reference, replicas):
    x, _, averages = reference
    with replicas.scope():
        model = make_mean_vae()
        model.compile(optimizer(), run_eagerly=True)
    swap = keras.callbacks.SwapEMAWeights()
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0, "callbacks": [swap]}
    history = model.fit(x, validation_data=(x,), **options).history
    np.testing.assert_allclose(history["val_elbo"], [elbo_of(averages[0], x)], rtol=1e-5)
