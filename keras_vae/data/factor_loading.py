"""`load_factors`: loads images with known ground-truth factors by the name of their data set."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.data import prepared, preparing
from keras_vae.data.factor_data import FactorData
from keras_vae.data.sources import Order

# For each data set, the labels that are its factors. The colour in dSprites is always white.
_FACTORS = {"dsprites": ("shape", "scale", "orientation", "x_position", "y_position")}


def load_factors(name: str, data_dir: str | os.PathLike | None = None) -> FactorData:
    """Loads all images of a data set with the factors that generated them.

    Images stay integers in memory, 4 KiB per image for dSprites (3 GiB for all 737,280), and become
    float32 in [0, 1] when they are requested. A subset also works: if it holds only some values of
    a factor, they are numbered 0, 1, ... without gaps.

    Args:
        name: `"dsprites"`: white shapes of 64 x 64 pixels, whose factors are shape (3), scale (6),
            orientation (40), x position (32) and y position (32).
        data_dir: Path of prepared TFDS data. `None` uses the environment variable
            `TFDS_DATA_DIR`, or else the default of TFDS.

    Returns:
        A `FactorData` with images `[N, H, W, C]`.

    Raises:
        ValueError: If the name is not one of the above.
        FileNotFoundError: If the TFDS data are not prepared and cannot be downloaded.
        ImportError: If TFDS is not installed.

    Example:
        >>> try:
        ...     load_factors("mnist")
        ... except ValueError as error:
        ...     print(error)
        Argument `name` must be one of ['dsprites']. Received: name='mnist'

    References:
        Matthey et al., 2017, https://github.com/deepmind/dsprites-dataset.
    """
    checks.option("name", name, _FACTORS)
    names = _FACTORS[name]
    source = prepared.source(preparing.builder(name, data_dir), "train")
    number = source.num_examples
    images = np.empty([number, *source.image_shape], source.image_dtype)
    factors = np.empty([number, len(names)], np.int64)
    order = Order(np.arange(number), seed=0, shuffle=False, batch_size=512, drop_remainder=False)
    labels = tuple(f"label_{factor}" for factor in names)
    batches: Any = source.batches(tf.constant(0, tf.int64), order, labels)
    for positions, batch, values in batches.as_numpy_iterator():
        images[positions], factors[positions] = batch, values
    return FactorData(images, factors, names)
