"""The codes of a data set, computed once."""

from __future__ import annotations

import functools
import os
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.files import written_whole
from keras_vae.evaluation.reading import checked_model, run_batches
from keras_vae.models import VQVAE
from keras_vae.training.data import Data

_NAMES = ("codes.npy", "labels.npy")


def encode_codes(
    model: Any,
    data: Any,
    path: str | os.PathLike | None = None,
    *,
    batch_size: int = 128,
    verbose: bool = True,
) -> Any:
    """Returns the codes of all examples, as `PriorModel.fit` takes them.

    Training a prior over codes then needs no encoder: the data are encoded only once, not in every
    epoch. This also freezes random changes to the data, such as dynamic binarization.

    Args:
        model: A `VQVAE`, which is not changed.
        data: Array `[N, *E]`, pair `(x, y)`, or dataset of batches as `fit` takes it.
        path: Folder for the codes, which are first gathered in memory, and then read from the
            folder as needed. It is written completely or not at all, and an existing folder is
            replaced. None keeps the codes in memory.
        batch_size: Number of examples to process at once, if `data` is an array.
        verbose: Whether to show a progress bar if it takes more than five seconds.

    Returns:
        The codes, int32 `[N, M]` for the M codes of an example, with the maps one after another,
        each row by row; for data with labels, the pair of codes and labels `[N, ...]`. With a
        `path`, these are `np.memmap`s of `codes.npy` and `labels.npy` in it.

    Raises:
        ValueError: If the model has no codes or is not built, or the data are empty or have no
            density.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.VQVAE(
        ...     encoder=kv.networks.MapEncoder((8, 16), blocks=1),
        ...     decoder=kv.networks.MapDecoder((8, 8, 1), (16, 8), blocks=1),
        ...     posterior=kv.posteriors.VectorQuantizer((2, 2), codebook_size=16, code_dim=4),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> encode_codes(model, tf.zeros([64, 8, 8, 1])).shape
        (64, 4)
    """
    checked_model(model, VQVAE)

    data = Data.of("data", data)
    data.check_ends()
    size = checks.integer("batch_size", batch_size)
    work = data.checked_batches(lambda x, y: (model._checked(x)[0], y), size)
    batches = run_batches(
        functools.partial(_encode, model), work, data.num_batches(size), 0, verbose
    )
    arrays = [np.concatenate(parts) for parts in zip(*batches, strict=True)]
    if path is not None:
        arrays = _written(arrays, pathlib.Path(path))
    return tuple(arrays) if len(arrays) > 1 else arrays[0]


def _encode(model: VQVAE, x: tf.Tensor, y: Any, seed: tf.Tensor) -> list[tf.Tensor]:
    codes = model.codes(x)
    return [codes] if y is None else [codes, y]


def _written(arrays: list[np.ndarray], folder: pathlib.Path) -> list[np.ndarray]:
    """Writes codes and labels, and returns them as read from the folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    names = _NAMES[: len(arrays)]
    with written_whole(folder) as written:
        written.mkdir()
        for name, array in zip(names, arrays, strict=True):
            np.save(written / name, array)
    return [np.load(folder / name, mmap_mode="r") for name in names]
