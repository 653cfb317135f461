"""The evidence lower bound, with its weights."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_vae import bounds
from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.objectives.estimated import Estimated
from keras_vae.terms import Terms
from keras_vae.training.replicas import global_batch_mean


@serializable
class ELBO(Estimated):
    """The negative evidence lower bound, with the KL weighted by β and floored by free bits.

    loss = -E_q[log p(x|z)] + beta * KL_free(q(z|x) || p(z))

    `free_bits` counts in nats. `free_bits_mode` says of what it is the floor:
    `"per_dimension"` of each dimension's KL averaged over the batch, `"per_example"` of each
    dimension's KL of each example, `"batch_averaged"` of the whole KL averaged over the batch
    (formulas: `keras_vae.bounds.free_bits`). A posterior or a prior that does not factorize over
    dimensions counts as one dimension.

    `estimator` says how the encoder's gradient is estimated:

    - `"reparameterized"`: through the samples of z; the KL in closed form where there is one.
    - `"sticking_the_landing"`: through the samples alone, the KL sampled. Its variance vanishes
      as q(z|x) approaches p(z|x).
    - `"score_function"`: by the log-derivative trick, for posteriors that cannot be
      reparameterized. Its baseline is the mean of the other samples for num_samples > 1, else a
      moving average of log p(x|z); `baseline="none"` leaves it out.

    Args:
        beta: Weight of the KL, >= 0. `callbacks.KLAnnealing` drives it.
        free_bits: Floor of the KL in nats, >= 0.
        free_bits_mode: `"per_dimension"`, `"per_example"` or `"batch_averaged"`.
        num_samples: Samples of z for every x, over which log p(x|z) is averaged.
        estimator: One of the above.
        baseline: `"leave_one_out"` or `"none"`, of the score function.
        **kwargs: Passed on to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of its range or unknown.

    Example:
        >>> terms = Terms(log_p_x=tf.constant([[-80.0]]), log_p_z=tf.constant([[-3.0]]),
        ...               log_q=tf.constant([[-1.0]]), kl=tf.constant([[1.5, 0.5]]))
        >>> ELBO(beta=4.0).loss(terms).numpy()
        array([88.], dtype=float32)

    References:
        Kingma and Welling, 2014, eq. 3, arXiv:1312.6114; Higgins et al., 2017, eq. 4 (β);
        Kingma et al., 2016, eq. 15, arXiv:1606.04934 (free bits); Roeder et al., 2017, eq. 8,
        arXiv:1703.09194 (sticking the landing); Mnih and Gregor, 2014, eq. 6, arXiv:1402.0030
        (score function).
    """

    def __init__(
        self,
        beta: float = 1.0,
        free_bits: float = 0.0,
        *,
        free_bits_mode: str = "per_dimension",
        num_samples: int = 1,
        estimator: str = "reparameterized",
        baseline: str = "leave_one_out",
        **kwargs: Any,
    ):
        super().__init__(num_samples=num_samples, estimator=estimator, baseline=baseline, **kwargs)
        self.free_bits_mode = checks.option(
            "free_bits_mode", free_bits_mode, bounds.FREE_BITS_MODES
        )
        self._initial_beta = checks.number("beta", beta, minimum=0.0)
        self._initial_free_bits = checks.number("free_bits", free_bits, minimum=0.0)
        self.beta = self.add_hyperparameter("beta", self._initial_beta)
        self.free_bits = self.add_hyperparameter("free_bits", self._initial_free_bits)

    def loss(self, terms: Terms) -> tf.Tensor:
        terms = self.estimator.prepare(terms)
        log_p_x = self._log_p_x(terms)
        return -bounds.elbo(log_p_x, self._kl(terms), tf.cast(self.beta, log_p_x.dtype))

    def rate_and_expectations(
        self, terms: Terms, values: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns β KL_free(q(z|x) || p(z)) and expectations under q, each `[B]`.

        Args:
            terms: Terms that the estimator has prepared.
            values: What to take expectations of, each `[S, B]`.
        """
        means = [
            tf.reduce_mean(self.estimator.expectation(value, terms), axis=0) for value in values
        ]
        kl = self._kl(terms)
        return tf.cast(self.beta, kl.dtype) * kl, means

    def _kl(self, terms: Terms) -> tf.Tensor:
        """Returns KL_free(q(z|x) || p(z)) of prepared terms, `[B]`."""
        kl = self.estimator.kl(terms)  # [B, G]
        floor = tf.cast(self.free_bits, kl.dtype)
        mean = global_batch_mean if self._has_floor() else functools.partial(tf.reduce_mean, axis=0)
        batch_mean = mean(tf.stop_gradient(kl))
        return bounds.free_bits(kl, floor, batch_mean, self.free_bits_mode)

    def _has_floor(self) -> bool:
        """Whether λ can be above 0, but by a user's own hand.

        Below it, the mean over the batch says nothing, and replicas need not tell each other.
        """
        return self._initial_free_bits > 0.0 or "free_bits" in self.driven

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "beta": self._initial_beta,
            "free_bits": self._initial_free_bits,
            "free_bits_mode": self.free_bits_mode,
        }
