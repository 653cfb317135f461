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

    `free_bits` is in nats. `free_bits_mode` says what it is the floor of: with `"per_dimension"`,
    each dimension's KL averaged over the batch; with `"per_example"`, each dimension's KL for each
    example; with `"batch_averaged"`, the whole KL averaged over the batch (formulas:
    `keras_vae.bounds.free_bits`). If the latent variables form several groups, each group counts as
    one dimension; otherwise, a posterior or prior that does not factorize counts as a single
    dimension.

    `kl_balancing` keeps groups from being switched off while β is below 1: the floored KL of each
    group is weighted by γ, which is proportional to the group's mean KL over the batch divided by α
    (`keras_vae.bounds.balancing_weights`). `"equal"` takes α = 1, and `"size"` takes the number of
    dimensions of each group; alternatively, α can be given as a number for each group.

    `estimator` says how the encoder's gradient is estimated:

    - `"reparameterized"`: through the samples of z; the KL in closed form where there is one.
    - `"sticking_the_landing"`: through the samples alone, with a sampled KL, which counts as a
      single dimension, or one for each group. Its variance vanishes as q(z|x) approaches p(z|x).
    - `"score_function"`: by the log-derivative trick, for posteriors that cannot be
      reparameterized. Its baseline is the mean of the other samples for num_samples > 1, and
      otherwise a moving average of log p(x|z); `baseline="none"` leaves it out.

    Args:
        beta: Weight of the KL, >= 0. `callbacks.KLAnnealing` drives it.
        free_bits: Floor of the KL in nats, >= 0.
        free_bits_mode: `"per_dimension"`, `"per_example"` or `"batch_averaged"`.
        num_samples: Number of samples of z for every x, over which log p(x|z) is averaged.
        estimator: One of the above.
        baseline: `"leave_one_out"` or `"none"`, for the score function.
        kl_balancing: `"equal"`, `"size"`, a positive number for each group, or None for no
            balancing.
        **kwargs: Passed on to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of its range or unknown, or balancing is requested and the
            KL is not one of several groups.

    Example:
        >>> terms = Terms(log_p_x=tf.constant([[-80.0]]), log_p_z=tf.constant([[-3.0]]),
        ...               log_q=tf.constant([[-1.0]]), kl=tf.constant([[1.5, 0.5]]))
        >>> ELBO(beta=4.0).loss(terms).numpy()
        array([88.], dtype=float32)

    References:
        Kingma and Welling, 2014, eq. 3, arXiv:1312.6114; Higgins et al., 2017, eq. 4 (β);
        Kingma et al., 2016, eq. 15, arXiv:1606.04934 (free bits); Roeder et al., 2017, eq. 8,
        arXiv:1703.09194 (sticking the landing); Mnih and Gregor, 2014, eq. 6, arXiv:1402.0030
        (score function); Vahdat and Kautz, 2020, appendix A, arXiv:2007.03898 (balancing).
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
        kl_balancing: str | Sequence[float] | None = None,
        **kwargs: Any,
    ):
        super().__init__(num_samples=num_samples, estimator=estimator, baseline=baseline, **kwargs)
        self.free_bits_mode = checks.option(
            "free_bits_mode", free_bits_mode, bounds.FREE_BITS_MODES
        )
        self.kl_balancing = _checked_balancing(kl_balancing, free_bits_mode)
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
        asked_for = self._has_floor() or self.kl_balancing is not None
        mean = global_batch_mean if asked_for else functools.partial(tf.reduce_mean, axis=0)
        batch_mean = mean(tf.stop_gradient(kl))
        weights = self._group_weights(terms, batch_mean)
        return bounds.free_bits(kl, floor, batch_mean, self.free_bits_mode, weights)

    def _group_weights(self, terms: Terms, batch_mean: tf.Tensor) -> tf.Tensor | float:
        """Returns the weight of the KL of each group, `[G]`: 1 unless it is balanced."""
        if self.kl_balancing is None:
            return 1.0
        alpha = _balancing_scales(self.kl_balancing, terms, batch_mean.shape[0])
        balanced = bounds.balancing_weights(batch_mean, alpha)
        return tf.where(self.beta < 1.0, balanced, tf.ones_like(balanced))

    def _has_floor(self) -> bool:
        """Whether the floor λ can rise above 0 without a user setting it by hand.

        If it cannot, the mean over the batch does not matter, and replicas need not exchange it.
        """
        return self._initial_free_bits > 0.0 or "free_bits" in self.driven

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "beta": self._initial_beta,
            "free_bits": self._initial_free_bits,
            "free_bits_mode": self.free_bits_mode,
            "kl_balancing": self.kl_balancing,
        }


def _checked_balancing(kl_balancing: Any, free_bits_mode: str) -> str | tuple[float, ...] | None:
    """Returns the argument of that name if it is valid, or raises."""
    if kl_balancing is None:
        return None
    if free_bits_mode == "batch_averaged":
        rule = "must be None with free_bits_mode='batch_averaged', which knows of no groups"
        raise checks.invalid("kl_balancing", rule, kl_balancing)
    if isinstance(kl_balancing, (list, tuple)) and kl_balancing:
        return tuple(checks.number("kl_balancing", a, 0.0, exclusive=True) for a in kl_balancing)
    if not isinstance(kl_balancing, str) or kl_balancing not in ("equal", "size"):
        rule = "must be 'equal', 'size', a positive number for each group, or None"
        raise checks.invalid("kl_balancing", rule, kl_balancing)
    return str(kl_balancing)


def _balancing_scales(
    kl_balancing: str | tuple[float, ...], terms: Terms, num_groups: int | None
) -> Any:
    """Returns α for each group, or raises if the KL is not split into that many groups."""
    sizes: Sequence[float] = getattr(terms.draws and terms.draws.q, "sizes", ())
    # Terms without draws may have groups of any size.
    unknown = terms.draws is None and kl_balancing != "size"
    if len(sizes) != num_groups and not unknown:
        rule = "needs the KL of several groups of latent variables, which this model does not have"
        raise checks.invalid("kl_balancing", rule, kl_balancing)
    if kl_balancing == "equal":
        return 1.0
    alpha = sizes if isinstance(kl_balancing, str) else kl_balancing
    if len(alpha) != num_groups:
        raise checks.invalid("kl_balancing", f"must have {num_groups} numbers", kl_balancing)
    return [float(a) for a in alpha]
