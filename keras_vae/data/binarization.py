"""Binarization of grey images."""

from __future__ import annotations

import tensorflow as tf

from keras_vae.data import randomness

BINARIZATIONS = (None, "dynamic", "static", "threshold")


def binarize(
    images: tf.Tensor, rule: str | None, seed: int, epoch: tf.Tensor, index: tf.Tensor
) -> tf.Tensor:
    """Turns intensities into zeros and ones.

        dynamic:    x ~ Bernoulli(intensity), drawn again in each epoch
        static:     the same, but always with the draw of epoch 0
        threshold:  x = 1 where intensity > 0.5

    Args:
        images: Tensor [B, H, W, C] of intensities in [0, 1].
        rule: One of `BINARIZATIONS`; `None` returns the images unchanged.
        seed: Integer, the seed of the draws.
        epoch: Integer, the number of passes before this one.
        index: Tensor [B], the positions of the examples in the data set.

    Returns:
        Tensor [B, H, W, C] of the same dtype, zeros and ones.

    Example:
        >>> grey = tf.constant([0.0, 0.4, 0.6, 1.0], shape=(1, 2, 2, 1))
        >>> binarize(grey, "threshold", seed=0, epoch=0, index=[0]).numpy().ravel().tolist()
        [0.0, 0.0, 1.0, 1.0]

    References:
        Burda et al., 2016, section 5.1 (dynamic), arXiv:1509.00519.
    """
    if rule is None:
        return images
    if rule == "threshold":
        return tf.cast(images > 0.5, images.dtype)
    draw = randomness.uniform(
        seed, tf.zeros_like(epoch) if rule == "static" else epoch, index, images.shape[1:]
    )
    return tf.cast(draw < images, images.dtype)
