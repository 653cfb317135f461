"""The epochs of a pipeline: what counts as one, and resuming at any of them."""

import gc
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vae import data


def load(**arguments):
    return data.load("digits", **{"batch_size": 100, "binarize": "dynamic", **arguments})


def collect(batches):
    return np.concatenate([np.asarray(batch) for batch in batches])


@pytest.fixture(scope="module")
def epochs():
    """The first passes of an unbroken pipeline."""
    dataset = load()
    return [collect(dataset) for _ in range(5)]


def which(x, epochs):
    """The epochs whose passes are equal to `x`."""
    return [epoch for epoch, expected in enumerate(epochs) if np.array_equal(x, expected)]


def test_passes_are_permutations_that_differ():
    dataset = data.load("digits", batch_size=100)
    first, second = collect(dataset), collect(dataset)
    other = collect(data.load("digits", batch_size=100, seed=1))
    still = collect(data.load("digits", batch_size=100, shuffle=False))
    for x in (first, second, other):
        assert sorted(image.tobytes() for image in x) == sorted(i.tobytes() for i in still)
        assert np.mean(np.all(x == still, axis=(1, 2, 3))) < 0.02
    assert not np.array_equal(first, second) and not np.array_equal(first, other)


@pytest.mark.full
def test_a_resumed_pipeline_gives_the_passes_of_the_unbroken_one(epochs):
    for start in range(4):
        resumed = load(initial_epoch=start)
        assert which(collect(resumed), epochs) == [start]
        assert which(collect(resumed), epochs) == [start + 1]


def test_the_order_does_not_depend_on_the_batch_size(epochs):
    assert which(collect(load(batch_size=7, initial_epoch=1)), epochs) == [1]


@pytest.mark.full
def test_looking_at_the_first_batches_is_not_a_pass(epochs):
    dataset = load()
    for _ in range(3):
        next(iter(dataset))
        list(dataset.take(3))
    batches = iter(dataset)
    next(batches)
    time.sleep(0.5)  # what works ahead in the background gets the chance to reach the end
    assert which(collect(dataset), epochs) == [0]
    assert which(collect(dataset), epochs) == [1]


def test_passes_at_the_same_time_are_the_same_epoch(epochs):
    dataset = load()
    pairs = list(zip(dataset, dataset, strict=True))
    assert [which(collect(x), epochs) for x in zip(*pairs, strict=True)] == [[0], [0]]
    assert which(collect(dataset), epochs) == [1]


def test_repeating_goes_through_the_epochs(epochs):
    x = collect(load().repeat(3))
    assert [which(part, epochs) for part in np.split(x, 3)] == [[0], [1], [2]]


def test_pipelines_count_apart(epochs):
    first, second = load(), load()
    collect(first)
    assert which(collect(second), epochs) == [0]


@pytest.mark.full
def test_a_pipeline_outlives_what_it_was_made_of(epochs):
    dataset = load().map(lambda x: x + 0.0)
    gc.collect()
    assert which(collect(dataset), epochs) == [0]
    batches = iter(dataset)
    del dataset
    gc.collect()
    assert which(collect(batches), epochs) == [1]


def test_with_the_remainder_dropped(epochs):
    dataset = load(drop_remainder=True)
    for epoch in range(2):
        assert np.array_equal(collect(dataset), epochs[epoch][:1400])


class Recorder(keras.Model):
    """Keeps the batches that it is trained on. Building it takes a batch of its own."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.seen = []

    def call(self, x):
        return self.dense(keras.ops.reshape(x, (-1, 64)))

    def train_step(self, x):
        tf.numpy_function(self._record, [x], tf.int64)
        return {"loss": tf.reduce_mean(self(x))}

    def _record(self, x):
        self.seen.append(x)
        return np.int64(0)


@pytest.mark.parametrize("steps_per_epoch", [None, 15])
def test_fit_sees_one_epoch_after_the_other(epochs, steps_per_epoch):
    model, dataset = Recorder(), load()
    model.compile("sgd", run_eagerly=True)
    dataset = dataset.repeat() if steps_per_epoch else dataset
    model.fit(dataset, epochs=3, steps_per_epoch=steps_per_epoch, verbose=0)
    seen = np.split(np.concatenate(model.seen), 3)
    assert [which(x, epochs) for x in seen] == [[0], [1], [2]]


@pytest.mark.full
def test_two_replicas_share_the_batches_of_one(replicas):
    with replicas.scope():
        distributed = replicas.experimental_distribute_dataset(load(labels=True))
    gc.collect()
    for epoch in range(3):
        parts = [replicas.experimental_local_results(x) for x, _ in distributed]
        assert all(len(part) == 2 for part in parts)
        found = np.concatenate([x.numpy() for part in parts for x in part])
        expected = collect(x for x, _ in load(labels=True, initial_epoch=epoch))
        np.testing.assert_array_equal(found, expected, err_msg=f"epoch {epoch}")
