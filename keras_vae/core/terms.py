"""The log-densities of one batch, from which every objective is made."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from keras_vae.core.draws import Draws

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
