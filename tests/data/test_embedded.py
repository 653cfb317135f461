"""The embedded data sets: their counts, values and splits."""

import numpy as np
import pytest
import tensorflow as tf

from keras_vae import data


def collect(dataset):
    batches = list(dataset.as_numpy_iterator())
    if isinstance(batches[0], tuple):
        return tuple(np.concatenate(column) for column in zip(*batches, strict=True))
    return np.concatenate(batches)


@pytest.mark.parametrize("split, count", [("train", 4000), ("test", 1000)])
def test_mnist_5k_is_stratified_digits(split, count):
    x, y = collect(data.load("mnist_5k", split, 300, labels=True, shuffle=False))
    assert x.shape == (count, 28, 28, 1) and x.dtype == np.float32
    assert y.shape == (count,) and y.dtype == np.int32
    assert (x.min(), x.max()) == (0.0, 1.0)
    assert np.bincount(y).tolist() == [count // 10] * 10
    assert y[:10].tolist() == list(range(10))
    assert np.mean(x) == pytest.approx(0.131, abs=0.002)  # 0.1307 in the whole of MNIST


@pytest.mark.parametrize("split, count", [("train", 1442), ("test", 355)])
def test_digits_are_scaled_to_one(split, count):
    x, y = collect(data.load("digits", split, 64, labels=True))
    assert x.shape == (count, 8, 8, 1) and (x.min(), x.max()) == (0.0, 1.0)
    assert np.array_equal(np.unique(x * 16), np.arange(17))
    counts = np.bincount(y)
    assert counts.max() - counts.min() <= (2 if split == "test" else 8)


def test_train_and_test_are_the_whole_and_share_nothing():
    from sklearn.datasets import load_digits

    parts = [collect(data.load("digits", split)) for split in ("train", "test")]
    rows = sorted((np.concatenate(parts).reshape(-1, 64) * 16).astype(int).tolist())
    assert rows == sorted(load_digits().data.astype(int).tolist())


def test_splits_do_not_depend_on_the_seed():
    first, second = (data.load("digits", "test", seed=seed) for seed in (0, 1))
    assert np.array_equal(collect(first), collect(second))


@pytest.mark.parametrize("drop", [False, True])
def test_shapes_and_length_are_static(drop):
    dataset = data.load("mnist_5k", "train", 128, drop_remainder=drop, labels=True)
    x, y = dataset.element_spec
    assert x == tf.TensorSpec([128 if drop else None, 28, 28, 1], tf.float32)
    assert y == tf.TensorSpec([128 if drop else None], tf.int32)
    assert len(dataset) == len(list(dataset)) == (31 if drop else 32)


def test_integers_are_left_as_they_are():
    grey = collect(data.load("mnist_5k", "test"))
    raw = collect(data.load("mnist_5k", "test", dtype="uint8"))
    assert raw.dtype == np.uint8 and raw.max() == 255
    assert np.array_equal(raw.astype(np.float32) / 255, grey)


def test_labels_follow_their_images_through_the_shuffle():
    x, y = collect(data.load("digits", "train", 50, shuffle=False, labels=True))
    label_of = {image.tobytes(): label for image, label in zip(x, y, strict=True)}
    x, y = collect(data.load("digits", "train", 50, seed=3, labels=True))
    assert [label_of[image.tobytes()] for image in x] == y.tolist()


def test_labels_follow_their_images_through_a_map_of_labels():
    named = collect(data.load("digits", "test", labels=["label"]))[1]
    assert np.array_equal(named[:, 0], collect(data.load("digits", "test", labels="label"))[1])


SLICES = {
    "train[:100]": lambda train, test: train[:100],
    "train[-7:]": lambda train, test: train[-7:],
    "train[10:20]": lambda train, test: train[10:20],
    "train[25%:50%]": lambda train, test: train[360:721],  # 360.5 and 721 of 1,442, to the nearest
    "test[:2]+train[-3:]": lambda train, test: np.concatenate([test[:2], train[-3:]]),
    "train[:0%]+train[99%:]": lambda train, test: train[1428:],
}


@pytest.mark.parametrize("split", SLICES)
def test_slices_are_those_of_the_whole(split):
    train, test = (collect(data.load("digits", name, shuffle=False)) for name in ("train", "test"))
    found = collect(data.load("digits", split, shuffle=False))
    assert np.array_equal(found, SLICES[split](train, test))


@pytest.mark.full
def test_a_slice_is_shuffled_and_resumed_like_a_whole():
    def load(**arguments):
        return data.load("digits", "train[:300]", 64, binarize="dynamic", **arguments)

    unbroken = load()
    passes = [collect(unbroken) for _ in range(3)]
    assert not np.array_equal(passes[0], passes[1])
    resumed = load(initial_epoch=1)
    assert np.array_equal(collect(resumed), passes[1])
    assert np.array_equal(collect(resumed), passes[2])
    still = collect(data.load("digits", "train[:300]", shuffle=False))
    mixed = collect(data.load("digits", "train[:300]"))
    assert not np.array_equal(mixed, still)
    assert sorted(image.tobytes() for image in mixed) == sorted(image.tobytes() for image in still)
