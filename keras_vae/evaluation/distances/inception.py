"""Features of an Inception network."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_vae.core import checks

_SIZE = 299  # Pixels on each side, as in the training of the network.
_AT_ONCE = 32  # Number of images, about 20 MB each.


def inception_features(weights: str | None = "imagenet") -> Callable[[Any], tf.Tensor]:
    """Makes the feature extractor that is usually used for distances between natural images.

    f(x) = InceptionV3(2 resize(x, 299 x 299) - 1), averaged over positions: 2048 numbers

    The weights are those of Keras, not those of the TensorFlow graph behind published FIDs, and
    images are resized bilinearly with antialiasing, so **distances are not comparable to published
    ones**, only to each other. For images that are unlike photographs, such as digits, a classifier
    of those images (`classifier_features`) is more informative.

    Args:
        weights: `"imagenet"`, downloaded once by Keras (88 MB); or the path of a weights file for
            `keras.applications.InceptionV3(include_top=False)`; or None for random weights, to try
            things out.

    Returns:
        Function from images `[B, H, W, C]`, grey or RGB, with values in [0, 1], to float32
        `[B, 2048]`. It raises a `ValueError` for other images.

    Raises:
        OSError: If the weights can be neither found nor downloaded.

    Example:
        >>> features = inception_features(weights=None)
        >>> features(tf.zeros([2, 8, 8, 1])).shape
        TensorShape([2, 2048])

    References:
        Szegedy et al., 2016, arXiv:1512.00567 (network); Heusel et al., 2017, arXiv:1706.08500
        (its features); Parmar et al., 2022, arXiv:2104.11222 (what resizing does to distances).
    """
    network = _network(weights)

    @tf.function(reduce_retracing=True, autograph=False)
    def run(images: tf.Tensor) -> tf.Tensor:
        images = tf.image.resize(images, [_SIZE, _SIZE], antialias=True)
        if images.shape[-1] == 1:
            images = tf.image.grayscale_to_rgb(images)
        return tf.cast(network(2.0 * images - 1.0), tf.float32)

    def features(images: Any) -> tf.Tensor:
        images = _checked(tf.convert_to_tensor(images))
        starts = range(0, len(images), _AT_ONCE)
        return tf.concat([run(images[start : start + _AT_ONCE]) for start in starts], axis=0)

    return features


@functools.cache
def _network(weights: str | None) -> keras.Model:
    policy = keras.config.dtype_policy()
    # Features are float32, whatever policy is used for training.
    keras.config.set_dtype_policy("float32")
    try:
        return keras.applications.InceptionV3(
            include_top=False, weights=weights, input_shape=(_SIZE, _SIZE, 3), pooling="avg"
        )
    except Exception as error:  # Keras raises a bare one if a download fails.
        raise OSError(
            f"The weights {weights!r} of InceptionV3 can be neither found nor downloaded. Put the "
            'file "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5" where Keras looks '
            "for it (~/.keras/models) or give its path as `weights`; or take other features, such "
            "as those of a classifier of the data themselves: kv.evaluation.classifier_features"
        ) from error
    finally:
        keras.config.set_dtype_policy(policy)


def _checked(images: tf.Tensor) -> tf.Tensor:
    """Returns the images as float32, or raises an error if they are not valid images."""
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[-1] not in (1, 3) or not images.dtype.is_floating:
        rule = "must be floats [B, H, W, C] with 1 or 3 channels"
        raise ValueError(f"Argument `images` {rule}. Received: {images.dtype.name} {shape}")
    low, high = float(tf.reduce_min(images)), float(tf.reduce_max(images))
    if not (low >= 0.0 and high <= 1.0):
        raise checks.invalid("images", "must have values in [0, 1]", (low, high))
    return tf.cast(images, tf.float32)
