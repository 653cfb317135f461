"""Reads image data sets of TFDS that are on disk."""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.data.forms import AS_STORED, Form
from keras_vae.data.sources import InMemory, Source, Streamed, on_cpu, white_level
from keras_vae.data.splits import select

# Data sets whose images take more bytes than this are not kept in memory.
MEMORY_LIMIT_BYTES = 2**30
# How many examples of a stream are examined to find out whether it consists of zeros and ones.
PROBE_EXAMPLES = 256


def source(builder: Any, split: str, form: Form = AS_STORED) -> Source:
    """Returns the examples of a split, in memory if they are small enough.

    Args:
        builder: A prepared TFDS builder.
        split: Name of a split, or a slice of one in the notation of TFDS.
        form: How the stored images are transformed.
    """
    select(split, builder.info.splits)
    num_examples = builder.info.splits[split].num_examples
    shape, dtype = image_spec(builder)
    num_bytes = num_examples * int(np.prod(form.shape_of(shape))) * np.dtype(dtype).itemsize
    if num_bytes > MEMORY_LIMIT_BYTES:
        return _stream(builder, split, num_examples, form)
    return _decode(builder.info.full_name, os.fspath(builder.data_path), split, form)


# Pipelines of a process share their arrays; only a few are kept, since one may take a gigabyte.
@functools.lru_cache(maxsize=4)
def _decode(full_name: str, data_path: str, split: str, form: Form) -> InMemory:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(data_path)
    shape, dtype = image_spec(builder)
    num_examples = builder.info.splits[split].num_examples
    images = np.empty([num_examples, *form.shape_of(shape)], dtype)
    white = None if form.is_as_stored else _probed_white(builder, split)
    labels = {name: np.empty([num_examples], np.int64) for name in _label_names(builder)}
    start = 0
    batches = _read(builder, split).batch(512).prefetch(2)
    for batch in batches.as_numpy_iterator():
        rows = slice(start, start + len(batch["image"]))
        images[rows] = batch["image"] if white is None else form.apply(batch["image"], white)
        for name, column in labels.items():
            column[rows] = batch[name]
        start = rows.stop
    _check_range(full_name, images)
    level = white_level(dtype, images.max()) if white is None else form.level(dtype, white)
    return InMemory(on_cpu(images), level, labels)


def _stream(builder: Any, split: str, num_examples: int, form: Form) -> Streamed:
    shape, dtype = image_spec(builder)
    white = _probed_white(builder, split)

    def read() -> tf.data.Dataset:
        examples = _read(builder, split)
        if form.is_as_stored:
            return examples
        return examples.map(
            lambda example: {**example, "image": form.apply(example["image"], white)},
            num_parallel_calls=tf.data.AUTOTUNE,
        )

    return Streamed(
        stream=read,
        num_examples=num_examples,
        image_shape=form.shape_of(shape),
        image_dtype=np.dtype(dtype).name,
        white=white if form.is_as_stored else form.level(dtype, white),
        label_names=_label_names(builder),
    )


def _probed_white(builder: Any, split: str) -> float:
    """Returns the value of a pixel of intensity one, inferred from a split's first examples."""
    probe = next(_read(builder, split).batch(PROBE_EXAMPLES).as_numpy_iterator())["image"]
    _check_range(builder.info.full_name, probe)
    return white_level(probe.dtype, probe.max())


def _read(builder: Any, split: str) -> tf.data.Dataset:
    """Returns the images and labels of the examples, in the order of the files."""
    import tensorflow_datasets as tfds

    wanted = {"image": True, **{name: True for name in _label_names(builder)}}
    return builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders=tfds.decode.PartialDecoding(wanted),
        read_config=tfds.ReadConfig(try_autocache=False, add_tfds_id=False),
    )


def image_spec(builder: Any) -> tuple[tuple[int, ...], Any]:
    """Returns the shape and dtype of the images in a data set."""
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
    """Returns the names of the integer features that come with an image."""
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
