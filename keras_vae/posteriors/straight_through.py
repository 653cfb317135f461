"""Ways to pass gradients through the choice of a code, which has no gradient itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

_TINY = 1e-12
# A vector this much shorter than its code has no direction to rotate, such as that of an image that
# is zero everywhere, in a network without biases.
_LARGEST_FACTOR = 1e3


@tf.custom_gradient
def straight_through(z: tf.Tensor, embedded: tf.Tensor) -> Any:
    """Returns `embedded` exactly, with the gradient passed on to z unchanged.

    This is not z + stop_gradient(embedded - z), which differs from `embedded` by rounding.

    Args:
        z: Output of the encoder, `[..., D]`.
        embedded: What the decoder gets in its place, of the same shape.

    Example:
        >>> z = tf.Variable([[0.3, 0.1]])
        >>> with tf.GradientTape() as tape:
        ...     y = tf.reduce_sum(straight_through(z, tf.constant([[1.0, 2.0]])) ** 2)
        >>> tape.gradient(y, z).numpy()
        array([[2., 4.]], dtype=float32)

    References:
        van den Oord et al., 2017, section 3.2, arXiv:1711.00937.
    """
    return tf.identity(embedded), lambda upstream: (upstream, None)


@tf.custom_gradient
def rotation(z: tf.Tensor, embedded: tf.Tensor) -> Any:
    """Returns `embedded` exactly, with the gradient of the rotation and scaling that maps z to it.

    embedded = lambda R z,  lambda = |embedded| / |z|,
    R = I - 2 r r^T + 2 e z^T,  e and z of length one, r = (e + z) / |e + z|

    λ and R are treated as constants, so that the gradient of z is λ R^T times that of `embedded`.
    This keeps the angle between the gradient and the vector. The gradient of a z with λ > 1000,
    which has hardly any direction, is passed on unchanged.

    Args:
        z: Output of the encoder, `[..., D]`.
        embedded: What the decoder gets in its place, of the same shape.

    Example:
        >>> z = tf.Variable([[0.0, 2.0]])
        >>> with tf.GradientTape() as tape:
        ...     y = tf.reduce_sum(rotation(z, tf.constant([[1.0, 0.0]])) * [[3.0, 0.0]])
        >>> tape.gradient(y, z).numpy().round(4).tolist()  # along z, as 3 was along the code
        [[0.0, 1.5]]

    References:
        Fifty et al., 2024, section 4.2, arXiv:2410.06424.
    """

    def backward(upstream: tf.Tensor) -> tuple[tf.Tensor, None]:
        z_norm, norm = (tf.norm(v, axis=-1, keepdims=True) for v in (z, embedded))
        source, target = z / tf.maximum(z_norm, _TINY), embedded / tf.maximum(norm, _TINY)
        middle = source + target
        middle /= tf.maximum(tf.norm(middle, axis=-1, keepdims=True), _TINY)
        turned = upstream - 2.0 * middle * _dot(middle, upstream)
        turned += 2.0 * source * _dot(target, upstream)
        scaled = norm / tf.maximum(z_norm, _TINY) * turned
        return tf.where(norm > _LARGEST_FACTOR * z_norm, upstream, scaled), None

    return tf.identity(embedded), backward


def _dot(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(a * b, axis=-1, keepdims=True)


GRADIENTS: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "straight_through": straight_through,
    "rotation": rotation,
}
