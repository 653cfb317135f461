"""What every posterior has in common."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.core.head import Head


class Posterior(Head):
    """A head for q(z|x): features `[B, F]` from the encoder -> `tfd.Distribution`, batch [B], event [D].

    A subclass owns the projection from features to parameters, made in `build`.

    Args:
        latent_dim: Number D of latent dimensions.
        **kwargs: Of `keras.layers.Layer`.
    """

    def __init__(self, latent_dim: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.latent_dim = checks.integer("latent_dim", latent_dim)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one z: `(D,)`."""
        return (self.latent_dim,)

    def mean(self, q: tfp.distributions.Distribution) -> tf.Tensor:
        """Returns E_q[z], exact or estimated: Tensor `[B, D]`."""
        return q.mean()

    def stddev(self, q: tfp.distributions.Distribution) -> tf.Tensor:
        """Returns the marginal standard deviations of q, exact or estimated: Tensor `[B, D]`."""
        return q.stddev()

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "latent_dim": self.latent_dim}
