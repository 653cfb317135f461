"""The importance-weighted bound, its relatives and its gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_vae import bounds
from keras_vae.controllers import MovingAverage
from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.objectives import estimators
from keras_vae.objectives.base import Objective
from keras_vae.objectives.estimated import BASELINE_DECAY
from keras_vae.terms import Terms


@serializable
class ImportanceWeighted(Objective):
    """The negative importance-weighted bound on log p(x), tighter with every sample.

    loss = -L_K,  L_K = log 1/K sum_k w_k,  w_k = p(x, z_k) / q(z_k|x),  z_k ~ q(z|x)

    The encoder runs once, whatever K is, and the decoder K times. `estimator` says how the
    encoder's gradient is estimated:

    - `"reparameterized"`: through the samples and the density of q. Its signal-to-noise ratio
      falls with K.
    - `"sticking_the_landing"`: through the samples alone; biased for K > 1.
    - `"doubly_reparameterized"`: through the samples alone, with squared weights. Unbiased, and
      its signal-to-noise ratio rises with K.
    - `"score_function"`: by the log-derivative trick, for posteriors that cannot be
      reparameterized, with VIMCO's baseline for K > 1 and a moving average of the ELBO for K = 1;
      `baseline="none"` leaves it out.

    There are two generalizations: with `num_groups` M, the loss is the mean of M bounds, each with
    its own K samples (MIWAE), and with `elbo_weight` c, it is -(1 - c) L_K - c ELBO (CIWAE), where
    the ELBO is that of the same samples.

    Args:
        num_samples: Number K of samples per bound.
        estimator: One of the above.
        num_groups: Number M of bounds.
        elbo_weight: c, in [0, 1].
        baseline: `"leave_one_out"` or `"none"`, for the score function.
        **kwargs: Passed on to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of its range or unknown.

    Example:
        >>> zeros = tf.zeros([2, 1])
        >>> terms = Terms(tf.math.log([[0.1], [0.3]]), zeros, zeros, kl=tf.zeros([1, 1]))
        >>> tf.exp(-ImportanceWeighted(2).loss(terms)).numpy().round(4)
        array([0.2], dtype=float32)

    References:
        Burda et al., 2016, eq. 8, arXiv:1509.00519; Roeder et al., 2017, arXiv:1703.09194
        (sticking the landing); Tucker et al., 2019, eq. 8, arXiv:1810.04152 (doubly
        reparameterized); Mnih and Rezende, 2016, arXiv:1602.06725 (VIMCO); Rainforth et al.,
        2018, section 4, arXiv:1802.04537 (MIWAE, CIWAE).
    """

    def __init__(
        self,
        num_samples: int,
        estimator: str = "reparameterized",
        *,
        num_groups: int = 1,
        elbo_weight: float = 0.0,
        baseline: str = "leave_one_out",
        **kwargs: Any,
    ):
        samples_per_bound = checks.count("num_samples", num_samples)
        num_groups = checks.integer("num_groups", num_groups)
        super().__init__(num_samples=samples_per_bound * num_groups, **kwargs)
        self.samples_per_bound = samples_per_bound
        self.num_groups = num_groups
        self.elbo_weight = checks.number("elbo_weight", elbo_weight, 0.0, 1.0)
        self.baseline = baseline
        self.estimator = estimators.get(estimator, baseline)
        if self.elbo_weight > 0.0 and estimator == "doubly_reparameterized":
            # The gradient through z is scaled for L_K; the ELBO would need it as it is.
            raise checks.invalid(
                "elbo_weight", f"must be 0 with estimator={estimator!r}", elbo_weight
            )
        self.pathwise = self.estimator.pathwise
        if not self.pathwise and self.samples_per_bound == 1 and baseline != "none":
            average = self.add_state("elbo_average")
            rule = (average, self.add_state("elbo_seen"), "elbo", BASELINE_DECAY)
            self.controllers = (MovingAverage("elbo_average", *rule),)

    def loss(self, terms: Terms) -> tf.Tensor:
        terms = self.estimator.prepare(terms)
        return -self._bound(terms)

    def rate_and_expectations(
        self, terms: Terms, values: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns an estimate of KL(q_IW || p(z)) and expectations under q_IW, each `[B]`.

        q_IW is q(z|x) resampled by the normalized weights v: E_qIW[f] ~ sum_k v_k f_k, and
        KL(q_IW || p(z)) ~ -L_K + E_qIW[log p(x|z)]. No gradient passes through v.

        Args:
            terms: Terms that the estimator has prepared.
            values: What to take expectations of, each `[S, B]`.

        References:
            Cremer et al., 2017, arXiv:1704.02916 (q_IW).
        """
        weights = bounds.normalized_weights(self._grouped(terms.log_w))

        def expectation(value: tf.Tensor) -> tf.Tensor:
            # A sample of density zero has the weight 0, but the value -inf.
            weighted = tf.math.multiply_no_nan(self._grouped(value), weights)
            in_groups = tf.reduce_sum(weighted, axis=0)  # [M, B]
            return tf.reduce_mean(in_groups, axis=0)

        rate = expectation(terms.log_p_x) - self._bound(terms)
        return rate, [expectation(value) for value in values]

    def _bound(self, terms: Terms) -> tf.Tensor:
        """Returns (1 - c) L_K + c ELBO of prepared terms, `[B]`."""
        average = self.controllers[0].variable if self.controllers else 0.0
        log_w = terms.log_w
        bound = self.estimator.bound(self._grouped(log_w), terms, baseline=average)  # [M, B]
        bound = tf.reduce_mean(bound, axis=0)
        if self.elbo_weight == 0.0:
            return bound
        elbo = tf.reduce_mean(self.estimator.expectation(log_w, terms, baseline=average), axis=0)
        return (1.0 - self.elbo_weight) * bound + self.elbo_weight * elbo

    def _grouped(self, values: tf.Tensor) -> tf.Tensor:
        """Returns values `[K M, B]` as `[K, M, B]`."""
        return tf.reshape(values, [self.samples_per_bound, self.num_groups, -1])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_samples": self.samples_per_bound,
            "estimator": self.estimator.name,
            "num_groups": self.num_groups,
            "elbo_weight": self.elbo_weight,
            "baseline": self.baseline,
        }
