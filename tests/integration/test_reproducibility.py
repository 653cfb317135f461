"""The same seed gives the same run, also when it was saved and resumed half-way."""

import keras
import numpy as np
import pytest

import keras_vae as kv


def run(model, data, epochs=1, **options):
    model.compile(keras.optimizers.Adam(1e-2), **options)
    return model.fit(data, epochs=epochs, shuffle=False, verbose=0).history


def test_same_seed_gives_the_same_run(make_vae, trainable, x):
    histories, weights = [], []
    for global_seed in (1, 2):  # on which nothing depends
        model = make_vae(seed=3)
        keras.utils.set_random_seed(global_seed)
        histories.append(run(model, x, 2, run_eagerly=True))
        weights.append(trainable(model))
    assert histories[0] == histories[1]
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_other_seed_gives_another_run(make_vae, x):
    one = run(make_vae(seed=3), x, run_eagerly=True)
    two = run(make_vae(seed=4), x, run_eagerly=True)
    assert one["loss"] != two["loss"]


@pytest.mark.full
def test_steps_draw_different_noise(make_vae, x):
    # At a learning rate of zero and with the same batch, only the noise moves the loss.
    model = make_vae()
    model.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    losses = model.fit(x[:4], batch_size=4, epochs=5, verbose=0).history["loss"]
    assert len(set(losses)) == 5


def digits(initial_epoch=0):
    return kv.data.load(
        "digits", "train", 512, binarize="dynamic", seed=5, initial_epoch=initial_epoch
    )


def annealing():
    return kv.callbacks.KLAnnealing(kv.schedules.Linear(0.0, 1.0, steps=5))


@pytest.mark.full
def test_saved_and_resumed_run_is_the_unbroken_run(make_vae, trainable, weights_of, tmp_path):
    learning_rate = keras.optimizers.schedules.CosineDecay(0.01, 6)
    whole = make_vae(seed=7)
    whole.compile(keras.optimizers.Adam(learning_rate), jit_compile=False)
    expected = whole.fit(digits(), epochs=2, callbacks=[annealing()], verbose=0).history

    first = make_vae(seed=7)
    first.compile(keras.optimizers.Adam(learning_rate), jit_compile=False)
    first.fit(digits(), epochs=1, callbacks=[annealing()], verbose=0)
    first.save(tmp_path / "half.keras")
    second = keras.saving.load_model(tmp_path / "half.keras")
    assert second is not first
    found = second.fit(
        digits(1), initial_epoch=1, epochs=2, callbacks=[annealing()], verbose=0
    ).history

    for name in expected:
        assert found[name][0] == expected[name][1], name
    for a, b in zip(trainable(whole), trainable(second), strict=True):
        np.testing.assert_array_equal(a, b)
    assert list(weights_of(whole).values())[-1].shape == list(weights_of(second).values())[-1].shape
    assert int(second.optimizer.iterations) == int(whole.optimizer.iterations) == 6
    assert float(second.objective.beta) == 1.0
