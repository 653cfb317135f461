"""The evidence lower bound, with its weights."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_vae import bounds
from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.core.replicas import global_batch_mean
from keras_vae.core.terms import Terms
from keras_vae.objectives.base import Objective


@serializable
class ELBO(Objective):
    """The negative evidence lower bound, with the KL weighted by β and floored by free bits.

    loss = -E_q[log p(x|z)] + beta * KL_free(q(z|x) || p(z))

    `free_bits` counts in nats. `free_bits_mode` says of what it is the floor:
    `"per_dimension"` of each dimension's KL averaged over the batch, `"per_example"` of each
    dimension's KL of each example, `"batch_averaged"` of the whole KL averaged over the batch
    (formulas: `keras_vae.bounds.free_bits`). A posterior or a prior that does not factorize over
    dimensions counts as one dimension.

    Args:
        beta: Weight of the KL, >= 0. `callbacks.KLAnnealing` drives it.
        free_bits: Floor of the KL in nats, >= 0.
        free_bits_mode: `"per_dimension"`, `"per_example"` or `"batch_averaged"`.
        num_samples: Samples of z for every x, over which log p(x|z) is averaged.
        **kwargs: Of `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of its range or unknown.

    Example:
        >>> terms = Terms(log_p_x=tf.constant([[-80.0]]), log_p_z=tf.constant([[-3.0]]),
        ...               log_q=tf.constant([[-1.0]]), kl=tf.constant([[1.5, 0.5]]))
        >>> ELBO(beta=4.0).loss(terms).numpy()
        array([88.], dtype=float32)

    References:
        Kingma and Welling, 2014, eq. 3, arXiv:1312.6114; Higgins et al., 2017, eq. 4 (β);
        Kingma et al., 2016, eq. 15, arXiv:1606.04934 (free bits).
    """

    def __init__(
        self,
        beta: float = 1.0,
        free_bits: float = 0.0,
        *,
        free_bits_mode: str = "per_dimension",
        num_samples: int = 1,
        **kwargs: Any,
    ):
        super().__init__(num_samples=checks.integer("num_samples", num_samples), **kwargs)
        self.free_bits_mode = checks.option(
            "free_bits_mode", free_bits_mode, bounds.FREE_BITS_MODES
        )
        self._initial_beta = checks.number("beta", beta, minimum=0.0)
        self._initial_free_bits = checks.number("free_bits", free_bits, minimum=0.0)
        self.beta = self.add_hyperparameter("beta", self._initial_beta)
        self.free_bits = self.add_hyperparameter("free_bits", self._initial_free_bits)

    def loss(self, terms: Terms) -> tf.Tensor:
        floor = tf.cast(self.free_bits, terms.kl.dtype)
        batch_mean = global_batch_mean(tf.stop_gradient(terms.kl))
        kl = bounds.free_bits(terms.kl, floor, batch_mean, self.free_bits_mode)
        return -bounds.elbo(terms.log_p_x, kl, tf.cast(self.beta, kl.dtype))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "beta": self._initial_beta,
            "free_bits": self._initial_free_bits,
            "free_bits_mode": self.free_bits_mode,
            "num_samples": self.num_samples,
        }
