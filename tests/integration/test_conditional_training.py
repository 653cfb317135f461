"""A conditional model learns which digit a label asks for."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv

SHAPE = (8, 8, 1)


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(0)
    model = kv.ConditionalVAE(
        condition=10,
        encoder=kv.networks.MLPEncoder((32,)),
        decoder=kv.networks.MLPDecoder(SHAPE, (32,)),
        posterior=kv.posteriors.DiagonalNormal(2),
        prior=kv.priors.ConditionalNormal(2),
        likelihood=kv.likelihoods.Bernoulli(SHAPE),
    )
    model.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
    data = kv.data.load("digits", "train", 64, labels=True)
    history = model.fit(data, epochs=8, verbose=0).history
    return model, history


def digits():
    batches = list(kv.data.load("digits", "test", 128, labels=True).as_numpy_iterator())
    return tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))


@pytest.mark.full
def test_training_improves_the_bound(trained):
    _, history = trained
    assert history["elbo"][-1] > history["elbo"][0] + 5


@pytest.mark.full
def test_samples_depend_on_the_label(trained):
    model, _ = trained
    x, y = digits()
    means = np.stack([x[y == k].mean(0).ravel() for k in range(10)])
    samples = np.stack(
        [model.sample(32, seed=1, y=np.full(32, k)).numpy().mean(0).ravel() for k in range(10)]
    )
    # Each label's samples are nearest to the mean of its own digit; chance would be 1 of 10.
    distances = np.linalg.norm(samples[:, None] - means[None], axis=-1)
    assert np.sum(np.argmin(distances, axis=1) == np.arange(10)) >= 8


def test_label_helps_the_bound(trained):
    model, _ = trained
    x, y = digits()
    right = model.evaluate(x, y, verbose=0, return_dict=True)["elbo"]
    wrong = model.evaluate(x, (y + 1) % 10, verbose=0, return_dict=True)["elbo"]
    assert right > wrong + 1


def test_array_and_dataset_of_labels_agree(trained, dataset):
    model, _ = trained
    x, y = digits()
    one = model.evaluate(x, y, batch_size=8, verbose=0)
    two = model.evaluate(dataset(x, y), verbose=0)
    assert one == pytest.approx(two, rel=1e-6)


def test_rows_of_a_batch_have_their_own_labels(trained):
    model, _ = trained
    x, y = digits()
    x, y = x[:4], y[:4]
    together = model.reconstruct(x, y=y).numpy()
    for i in range(4):
        np.testing.assert_allclose(
            model.reconstruct(x[i : i + 1], y=y[i : i + 1])[0], together[i], atol=1e-5
        )
    log_w = model.log_weights(x, num_samples=5, seed=1, y=y)
    assert log_w.shape == (5, 4)


def test_predict_takes_pairs(trained, dataset):
    model, _ = trained
    x, y = digits()
    x, y = x[:20], y[:20]
    expected = model.reconstruct(x, y=y)
    for data in ((x, y), dataset(x, y)):
        found = model.predict(data, verbose=0)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    found = model.predict_on_batch((x, y))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_one_label_is_for_all_samples(trained):
    model, _ = trained
    np.testing.assert_array_equal(
        model.sample(5, seed=1, y=3), model.sample(5, seed=1, y=[3, 3, 3, 3, 3])
    )


def test_condition_by_a_network(x):
    condition = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    model = kv.ConditionalVAE(
        condition=condition,
        encoder=kv.networks.MLPEncoder((8,)),
        decoder=kv.networks.MLPDecoder(SHAPE, (8,)),
        posterior=kv.posteriors.DiagonalNormal(2),
        likelihood=kv.likelihoods.Bernoulli(SHAPE),
    )
    model.compile("sgd", run_eagerly=True)
    before = condition.layers[0].kernel.numpy()
    model.fit(x, np.random.default_rng(0).normal(size=(len(x), 3)), verbose=0)
    assert np.any(condition.layers[0].kernel.numpy() != before)
    assert model.sample(2, y=tf.zeros([2, 3])).shape == (2, *SHAPE)
    assert model.sample(2, y=tf.zeros([3])).shape == (2, *SHAPE)
