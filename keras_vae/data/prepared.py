"""Image data sets of TFDS that are on disk: reading them."""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.data.sources import InMemory, Source, Streamed, on_cpu, white_level

# Data sets whose images take more bytes than this are not kept in memory.
MEMORY_LIMIT_BYTES = 2**30
# How many examples of a stream are looked at to learn whether it is of zeros and ones.
PROBE_EXAMPLES = 256


def source(builder: Any, split: str) -> Source:
    """Returns the examples of a split, in memory when they are few enough.

    Args:
        builder: A prepared TFDS builder.
        split: Name of a split, or a slice of one in the notation of TFDS.
    """
    try:
        num_examples = builder.info.splits[split].num_examples
    except (KeyError, ValueError, AssertionError) as error:
        known = list(builder.info.splits)
        rule = f"must be one of {known}, or a slice of one such as 'train[:1000]'"
        raise checks.invalid("split", rule, split) from error
    if not num_examples:
        raise checks.invalid("split", "must hold examples", split)
    shape, dtype = image_spec(builder)
    num_bytes = num_examples * int(np.prod(shape)) * np.dtype(dtype).itemsize
    if num_bytes > MEMORY_LIMIT_BYTES:
        return _stream(builder, split, num_examples)
    return _decode(builder.info.full_name, os.fspath(builder.data_path), split)


# Pipelines of a process share their arrays; a few are kept, since one may take a gigabyte.
@functools.lru_cache(maxsize=4)
def _decode(full_name: str, data_path: str, split: str) -> InMemory:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(data_path)
    shape, dtype = image_spec(builder)
    num_examples = builder.info.splits[split].num_examples
    images = np.empty([num_examples, *shape], dtype)
    labels = {name: np.empty([num_examples], np.int64) for name in _label_names(builder)}
    start = 0
    batches = _read(builder, split).batch(512).prefetch(2)
    for batch in batches.as_numpy_iterator():
        rows = slice(start, start + len(batch["image"]))
        images[rows] = batch["image"]
        for name, column in labels.items():
            column[rows] = batch[name]
        start = rows.stop
    _check_range(full_name, images)
    return InMemory(on_cpu(images), white_level(images.dtype, images.max()), labels)


def _stream(builder: Any, split: str, num_examples: int) -> Streamed:
    shape, dtype = image_spec(builder)
    probe = next(_read(builder, split).batch(PROBE_EXAMPLES).as_numpy_iterator())["image"]
    _check_range(builder.info.full_name, probe)
    return Streamed(
        stream=functools.partial(_read, builder, split),
        num_examples=num_examples,
        image_shape=shape,
        image_dtype=np.dtype(dtype).name,
        white=white_level(probe.dtype, probe.max()),
        label_names=_label_names(builder),
    )


def _read(builder: Any, split: str) -> tf.data.Dataset:
    """Returns the examples in the order of the files, images and labels only."""
    import tensorflow_datasets as tfds

    wanted = {"image": True, **{name: True for name in _label_names(builder)}}
    return builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders=tfds.decode.PartialDecoding(wanted),
        read_config=tfds.ReadConfig(try_autocache=False, add_tfds_id=False),
    )


def image_spec(builder: Any) -> tuple[tuple[int, ...], Any]:
    """Returns the shape and the dtype of the images of a data set."""
    name, features = builder.info.full_name, dict(builder.info.features.items())
    feature = features.get("image")
    shape = getattr(feature, "shape", None) or ()
    if len(shape) != 3:
        rule = f"must have a feature `image` of rank 3, and {name} has {list(features)}"
        raise checks.invalid("name", rule, builder.info.name)
    if None in shape:
        rule = f"must have images of one size, and those of {name} have shape {shape}"
        raise checks.invalid("name", rule, builder.info.name)
    return tuple(shape), features["image"].np_dtype


def _label_names(builder: Any) -> tuple[str, ...]:
    """Returns the names of the integers that come with an image."""
    features = builder.info.features.items()
    return tuple(
        name
        for name, feature in features
        if feature.shape == () and np.issubdtype(feature.np_dtype, np.integer)
    )


def _check_range(full_name: str, images: np.ndarray) -> None:
    if images.dtype.kind == "f" and not (images.min() >= 0.0 and images.max() <= 1.0):
        rule = f"must have images in [0, 1], and those of {full_name} reach {images.max()}"
        raise checks.invalid("name", rule, full_name)
