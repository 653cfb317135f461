"""What models and objectives share: log-densities of a batch, and the draws behind them."""

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


# Names of what is measured of every batch, and of what must be finite.
MEASURES = ("elbo", "reconstruction", "kl")
QUANTITIES = ("log p(x|z)", "KL(q(z|x) || p(z))")


class Terms(NamedTuple):
    """What a model computes from a batch of B examples with S samples of z each, in nats.

    Attributes:
        log_p_x: log p(x|z), `[S, B]`.
        log_p_z: log p(z), `[S, B]`.
        log_q: log q(z|x), `[S, B]`.
        kl: KL(q(z|x) || p(z)) of each of the G groups of latent dimensions over which it is a sum,
            `[B, G]`. G is the number of dimensions where prior and posterior factorize, else 1.
        draws: The samples and distributions behind these densities. `ELBO()` and
            `ImportanceWeighted(K)` do without.
    """

    log_p_x: tf.Tensor
    log_p_z: tf.Tensor
    log_q: tf.Tensor
    kl: tf.Tensor
    draws: Draws | None = None

    @property
    def measures(self) -> dict[str, tf.Tensor]:
        """What `MEASURES` names, each `[B]`."""
        values = (self.elbo, self.reconstruction, self.kl_total)
        return dict(zip(MEASURES, values, strict=True))

    @property
    def quantities(self) -> tuple[tf.Tensor, ...]:
        """What `QUANTITIES` names, in the order of computation."""
        return self.log_p_x, self.kl

    @property
    def log_w(self) -> tf.Tensor:
        """Log importance weights log p(x, z) - log q(z|x), `[S, B]`."""
        return self.log_p_x + self.log_p_z - self.log_q

    @property
    def reconstruction(self) -> tf.Tensor:
        """-E_q[log p(x|z)], the distortion, `[B]`."""
        return -tf.reduce_mean(self.log_p_x, axis=0)

    @property
    def kl_total(self) -> tf.Tensor:
        """KL(q(z|x) || p(z)), the rate, `[B]`."""
        return tf.reduce_sum(self.kl, axis=-1)

    @property
    def elbo(self) -> tf.Tensor:
        """The evidence lower bound, `[B]`."""
        return -self.reconstruction - self.kl_total
