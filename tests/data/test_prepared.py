"""Real data through TFDS, where a folder of prepared data is given."""

import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from keras_vae import data
from keras_vae.data import prepared, preparing, sources


@pytest.fixture
def available():
    """Skips a test whose data set is not prepared."""

    def check(name):
        folder = os.environ.get("TFDS_DATA_DIR")
        if not folder or not pathlib.Path(folder, name).is_dir():
            pytest.skip(f"{name} is not prepared in TFDS_DATA_DIR={folder}")

    return check


@pytest.fixture
def streamed(monkeypatch):
    """Makes every data set too large for memory."""
    monkeypatch.setattr(prepared, "MEMORY_LIMIT_BYTES", 0)


def collect(dataset):
    batches = list(dataset.as_numpy_iterator())
    if isinstance(batches[0], tuple):
        return tuple(np.concatenate(column) for column in zip(*batches, strict=True))
    return np.concatenate(batches)


@pytest.mark.first_is_quick
@pytest.mark.parametrize(
    "name, split, count, shape, mean",
    [
        ("mnist", "test", 10000, (28, 28, 1), [0.13251]),  # the published normalization
        ("binarized_mnist", "validation", 10000, (28, 28, 1), [0.13]),
        ("cifar10", "test", 10000, (32, 32, 3), [0.4942, 0.4851, 0.4504]),  # published
        ("omniglot", "small1", 2720, (105, 105, 3), [0.92] * 3),
    ],
)
def test_counts_shapes_and_means(available, name, split, count, shape, mean):
    available(name)
    dataset = data.load(name, split, 500, shuffle=False)
    assert dataset.element_spec == tf.TensorSpec([None, *shape], tf.float32)
    seen, total = 0, np.zeros(shape[-1])
    low, high = np.inf, -np.inf
    for x in dataset.as_numpy_iterator():
        seen, total = seen + len(x), total + x.mean((0, 1, 2), dtype=np.float64) * len(x)
        low, high = min(low, x.min()), max(high, x.max())
    assert seen == count and len(dataset) == -(-count // 500)
    assert (low, high) == (0.0, 1.0)
    decimals = 3 if name == "mnist" or name == "cifar10" else 2
    np.testing.assert_allclose(total / seen, mean, atol=0.6 * 10**-decimals)


@pytest.mark.full
def test_binary_images_are_zeros_and_ones(available):
    available("binarized_mnist")
    x = collect(data.load("binarized_mnist", "validation", 1000))
    assert np.array_equal(np.unique(x), [0.0, 1.0])
    again = collect(data.load("binarized_mnist", "validation", 1000, binarize="dynamic"))
    assert np.array_equal(x, again)


def test_labels_are_those_of_tfds(available):
    available("mnist")
    import tensorflow_datasets as tfds

    x, y = collect(data.load("mnist", "test[:500]", 64, labels=True))
    raw = list(tfds.as_numpy(tfds.load("mnist", split="test[:500]", download=False)))
    assert np.array_equal(x, np.stack([r["image"] for r in raw]).astype(np.float32) / 255)
    assert np.array_equal(y, [r["label"] for r in raw]) and y.dtype == np.int32


@pytest.mark.full
def test_factors_of_dsprites(available):
    available("dsprites")
    with pytest.raises(ValueError, match=r"must name one or more of \['label_orientation', "):
        data.load("dsprites", "train[:100]", labels=True)
    names = ["label_shape", "label_scale"]
    x, y = collect(data.load("dsprites", "train[:100]", 32, labels=names))
    assert x.shape == (100, 64, 64, 1) and y.shape == (100, 2)
    assert y[:, 0].max() <= 2 and y[:, 1].max() <= 5


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("mnist", {"split": "dev"}, r"`split` must be one of \['train', 'test'\], or a slice"),
        ("mnist", {"split": "train[:"}, "`split` must be one of"),
        ("mnist", {"split": "test[:0]"}, "`split` must"),
        ("mnist", {"split": "train[:9]", "validation_split": 0.1}, "`split` must be one of"),
        ("mnist:9.9.9", {}, "`name` must be known to TFDS"),
        ("binarized_mnist", {"split": "test", "labels": True}, "must be False, for it has none"),
        ("binarized_mnist", {"validation_split": 0.1}, "has a validation split of its own"),
        ("binarized_mnist", {"split": "test", "dtype": "uint8"}, "not integers 0..255"),
        ("cifar10", {"split": "test[:9]", "binarize": "static"}, 'colour images of "cifar10"'),
    ],
)
def test_errors(available, name, arguments, message):
    available(name.split(":")[0])
    with pytest.raises(ValueError, match=message):
        data.load(name, **arguments)


def test_a_folder_may_be_given_as_an_argument(available, monkeypatch):
    available("mnist")
    folder = pathlib.Path(os.environ["TFDS_DATA_DIR"])
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert len(data.load("mnist", "test[:256]", data_dir=folder)) == 2


def test_pipelines_share_their_array(available):
    available("mnist")
    builder = preparing.builder("mnist", None)
    assert prepared.source(builder, "test") is prepared.source(builder, "test")


@pytest.mark.full
def test_a_stream_gives_what_memory_gives(available, monkeypatch):
    available("mnist")
    arguments = {"batch_size": 300, "binarize": "dynamic", "labels": True, "shuffle": False}
    expected = collect(data.load("mnist", "test[:2000]", **arguments))
    monkeypatch.setattr(prepared, "MEMORY_LIMIT_BYTES", 0)
    dataset = data.load("mnist", "test[:2000]", **arguments)
    source = prepared.source(preparing.builder("mnist", None), "test")
    assert isinstance(source, sources.Streamed)
    assert dataset.element_spec[0] == tf.TensorSpec([None, 28, 28, 1], tf.float32)
    assert len(dataset) == 7
    for found, wanted in zip(collect(dataset), expected, strict=True):
        assert np.array_equal(found, wanted)


@pytest.mark.full
def test_a_stream_resumes(available, streamed):
    available("mnist")

    def load(**arguments):
        return data.load("mnist", "train[:1500]", 200, binarize="dynamic", **arguments)

    unbroken = load()
    passes = [collect(unbroken) for _ in range(3)]
    assert not np.array_equal(passes[0], passes[1])
    resumed = load(initial_epoch=1)
    assert np.array_equal(collect(resumed), passes[1])
    assert np.array_equal(collect(resumed), passes[2])


@pytest.mark.full
def test_images_draws_and_labels_of_a_stream_stay_together(available, streamed):
    available("mnist")

    def rows(**arguments):
        arguments = {"binarize": "dynamic", "labels": True, "initial_epoch": 3, **arguments}
        x, y = collect(data.load("mnist", "train[:1000]", **arguments))
        return [(image.tobytes(), label) for image, label in zip(x, y, strict=True)]

    shuffled, still = rows(), rows(shuffle=False)
    assert shuffled != still and sorted(shuffled) == sorted(still)


@pytest.mark.full
def test_each_epoch_of_a_stream_has_an_order_of_its_own(available, streamed):
    available("mnist")
    dataset = data.load("mnist", "train[:1000]", labels=True)
    first, second = (collect(dataset)[1] for _ in range(2))
    assert np.mean(first == second) < 0.3  # 0.1 for independent orders


@pytest.mark.full
def test_a_stream_is_shuffled_within_windows(available, streamed, monkeypatch):
    available("mnist")
    monkeypatch.setattr(sources, "SHUFFLE_WINDOW_BYTES", 784 * 100)
    still = collect(data.load("mnist", "train[:1000]", shuffle=False))
    place = {image.tobytes(): number for number, image in enumerate(still)}
    for seed in (0, 1):
        mixed = collect(data.load("mnist", "train[:1000]", seed=seed))
        order = np.array([place[image.tobytes()] for image in mixed])
        assert np.array_equal(np.sort(order), np.arange(1000))
        assert np.array_equal(order // 100, np.arange(1000) // 100)
        assert np.mean(order != np.arange(1000)) > 0.9


@pytest.mark.full
def test_the_order_of_a_stream_does_not_depend_on_the_global_seed(available, streamed):
    available("mnist")
    expected = collect(data.load("mnist", "train[:300]"))
    tf.random.set_seed(0)
    assert np.array_equal(collect(data.load("mnist", "train[:300]")), expected)


@pytest.mark.full
def test_a_stream_holds_out_the_same_examples(available, monkeypatch):
    available("mnist")

    def held_out():
        load = data.load("mnist", "validation", 999, validation_split=0.02, labels=True)
        return collect(load)

    expected = held_out()
    monkeypatch.setattr(prepared, "MEMORY_LIMIT_BYTES", 0)
    assert len(expected[0]) == 1200
    for found, wanted in zip(held_out(), expected, strict=True):
        assert np.array_equal(found, wanted)


def test_a_stream_of_zeros_and_ones(available, streamed):
    available("binarized_mnist")
    x = collect(data.load("binarized_mnist", "test[:300]"))
    assert np.array_equal(np.unique(x), [0.0, 1.0])
