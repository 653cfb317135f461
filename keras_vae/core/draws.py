"""The samples of z behind the terms, and the way of the gradient through them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf


class Path:
    """An identity between the draws of z and their use, which scales the gradient on its way back.

    An estimator sets the scale when it has seen the log-weights, before any gradient is taken.
    Until then, the gradient passes as it is.

    Example:
        >>> x, path = tf.Variable([[3.0]]), Path()
        >>> with tf.GradientTape() as tape:
        ...     y = tf.square(path(x))
        ...     path.scale(tf.constant([[0.5]]))
        >>> tape.gradient(y, x).numpy()
        array([[3.]], dtype=float32)
    """

    def __init__(self) -> None:
        self._backward: Callable[[tf.Tensor], tf.Tensor] = tf.identity

    def __call__(self, z: tf.Tensor) -> tf.Tensor:
        """Returns z `[S, B, ...]`."""
        return tf.custom_gradient(lambda z: (tf.identity(z), lambda g: self._backward(g)))(z)

    def scale(self, factors: tf.Tensor) -> None:
        """Multiplies the gradient of each draw by its factor: Tensor `[S, B]`."""
        factors = tf.stop_gradient(factors)

        def scaled(gradient: tf.Tensor) -> tf.Tensor:
            ones = tf.ones(gradient.shape.rank - 2, tf.int32)
            shape = tf.concat([tf.shape(factors), ones], axis=0)
            return gradient * tf.cast(tf.reshape(factors, shape), gradient.dtype)

        self._backward = scaled

    def close(self) -> None:
        """Lets no gradient through."""
        self._backward = tf.zeros_like


class Draws(NamedTuple):
    """What the log-densities of `Terms` were taken of; objectives beyond the ELBO need it.

    Attributes:
        x: Standardized data, `[B, *E]`.
        z: Samples of q(z|x), `[S, B, D]`, behind `path`.
        q: q(z|x), batch [B].
        p_z: p(z), batch [] or [B].
        p_x: p(x|z) at the samples, batch [S, B].
        likelihood: Function of any z `[..., D]` to p(x|z), batch [...]; for conditional models the
            leading dimensions end with [B] or [1].
        path: The way of the gradient from the densities back through z.
        seed: A stateless seed `[2]` for further draws.
        kl_is_exact: Whether `Terms.kl` is a closed form, not a mean over the samples.
    """

    x: tf.Tensor
    z: tf.Tensor
    q: Any
    p_z: Any
    p_x: Any
    likelihood: Callable[[tf.Tensor], Any]
    path: Path
    seed: tf.Tensor
    kl_is_exact: bool
