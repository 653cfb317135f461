"""Estimators of gradients: how the encoder learns from samples of z.

Each leaves the values of the bounds as they are, and gives gradients that are right on average,
with one exception that is named there. They differ in variance and in what they require of the
posterior.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_vae import bounds
from keras_vae.core import checks
from keras_vae.core.numerics import to_dtype
from keras_vae.objectives.base import draws_of
from keras_vae.terms import Draws, Terms


class Reparameterized:
    """The gradient of the sampled bound itself, through z and through the density of q.

    References:
        Kingma and Welling, 2014, section 2.4, arXiv:1312.6114; Burda et al., 2016, eq. 13,
        arXiv:1509.00519.
    """

    name = "reparameterized"
    pathwise = True
    scores_again = False  # Whether z is scored in a pass of its own after it has been drawn.

    def prepare(self, terms: Terms) -> Terms:
        """Returns terms with the same values, whose gradients are those of this estimator."""
        return terms

    def expectation(
        self, values: tf.Tensor, terms: Terms, baseline: tf.Tensor | float = 0.0
    ) -> tf.Tensor:
        """Returns values `[S, B, ...]` with the gradient of their expectation under q."""
        return values

    def kl(self, terms: Terms) -> tf.Tensor:
        """Returns KL(q(z|x) || p(z)) of prepared terms, `[B, G]`."""
        return terms.kl

    def bound(self, log_w: tf.Tensor, terms: Terms, baseline: tf.Tensor | float = 0.0) -> tf.Tensor:
        """Returns L_K `[..., B]` of log-weights `[K, ..., B]` of prepared terms."""
        return bounds.importance_weighted(log_w)


class StickingTheLanding(Reparameterized):
    """The gradient through z alone: that through q's parameters, zero on average, is left out.

    At q(z|x) = p(z|x), what remains is zero for every sample. For K > 1, leaving the other part out
    introduces a bias.

    References:
        Roeder et al., 2017, eq. 6-8, arXiv:1703.09194.
    """

    name = "sticking_the_landing"
    scores_again = True

    def prepare(self, terms: Terms) -> Terms:
        draws = draws_of(terms, f"The estimator {self.name!r}")
        log_q = _through_z_alone(draws)  # [S, B, L]
        log_p_z = terms.log_p_z[..., tf.newaxis]
        if log_q.shape[-1] > 1:
            log_p_z = bounds.log_prob_by_group(draws.p_z, draws.z)
        kl = bounds.sampled_kl(log_q, log_p_z)
        return terms._replace(log_q=bounds.sum_groups(log_q), kl=kl)


class DoublyReparameterized(StickingTheLanding):
    """The gradient through z alone, with squared normalized weights: unbiased for every K.

    sum_k v_k^2 (d log w_k / d z_k) (d z_k / d phi),  v_k = w_k / sum_j w_j

    The decoder gets its usual gradient in the same backward pass; only the gradient that goes on
    from z to the encoder is scaled once more by v_k.

    References:
        Tucker et al., 2019, eq. 8, arXiv:1810.04152.
    """

    name = "doubly_reparameterized"

    def prepare(self, terms: Terms) -> Terms:
        draws = draws_of(terms, f"The estimator {self.name!r}")
        return super().prepare(draws.rescore(terms))

    def bound(self, log_w: tf.Tensor, terms: Terms, baseline: tf.Tensor | float = 0.0) -> tf.Tensor:
        weights = bounds.normalized_weights(log_w)
        draws = draws_of(terms, f"The estimator {self.name!r}")
        draws.path.scale(tf.reshape(weights, tf.shape(terms.log_q)))
        return super().bound(log_w, terms)


class ScoreFunction(Reparameterized):
    """The log-derivative trick, for posteriors without reparameterization, such as discrete ones.

    grad E_q[f] = E_q[(f - b) grad log q(z|x)] + E_q[grad f]

    A baseline b lowers the variance: the mean of the other samples for an expectation, VIMCO's L_-k
    for L_K with K > 1, and with a single sample the one that is passed in.

    Args:
        baseline: `"leave_one_out"`, or `"none"` for b = 0.

    References:
        Mnih and Gregor, 2014, eq. 6, arXiv:1402.0030; Mnih and Rezende, 2016, eq. 5-10,
        arXiv:1602.06725.
    """

    name = "score_function"
    pathwise = False
    scores_again = True

    def __init__(self, baseline: str = "leave_one_out"):
        self.baseline = baseline

    def prepare(self, terms: Terms) -> Terms:
        draws = draws_of(terms, f"The estimator {self.name!r}")
        draws.path.close()
        return terms._replace(log_q=draws.q.log_prob(tf.stop_gradient(draws.z)))

    def expectation(
        self, values: tf.Tensor, terms: Terms, baseline: tf.Tensor | float = 0.0
    ) -> tf.Tensor:
        signal = tf.stop_gradient(values) - self._baseline(
            values, bounds.leave_one_out_mean, baseline
        )
        trailing = [1] * (values.shape.rank - terms.log_q.shape.rank)
        log_q = tf.reshape(terms.log_q, [*tf.unstack(tf.shape(terms.log_q)), *trailing])
        return bounds.with_gradient_of(values, signal * log_q)

    def kl(self, terms: Terms) -> tf.Tensor:
        draws = draws_of(terms, f"The estimator {self.name!r}")
        if draws.kl_is_exact:
            return terms.kl
        log_q = bounds.log_prob_by_group(draws.q, tf.stop_gradient(draws.z))  # [S, B, L]
        log_p_z = bounds.log_prob_by_group(draws.p_z, draws.z)
        log_ratio = self.expectation(bounds.log_ratio_by_group(log_q, log_p_z), terms)
        return tf.reduce_mean(log_ratio, axis=0)

    def bound(self, log_w: tf.Tensor, terms: Terms, baseline: tf.Tensor | float = 0.0) -> tf.Tensor:
        bound = bounds.importance_weighted(log_w)
        signal = tf.stop_gradient(bound) - self._baseline(
            log_w, bounds.leave_one_out_bound, baseline
        )
        log_q = tf.reshape(terms.log_q, tf.shape(log_w))
        return bounds.with_gradient_of(bound, tf.reduce_sum(signal * log_q, axis=0))

    def _baseline(self, values: tf.Tensor, of_others: Any, given: tf.Tensor | float) -> Any:
        if self.baseline == "none":
            return tf.zeros_like(values)
        given = to_dtype(given, values.dtype) + tf.zeros_like(values)
        # The number of samples is static: a Python integer wherever an objective asks for it.
        if values.shape[0] == 1:
            return given
        others = of_others(values)
        # If all others have density zero, their bound of -inf would make the gradient infinite.
        return tf.where(tf.math.is_finite(others), others, given)


def _through_z_alone(draws: Draws) -> tf.Tensor:
    """Returns log q of each group `[S, B, L]`, with the gradient through z but not through q.

    The gradient goes through all of z, including groups on which the density of another depends.
    """
    z = tf.stop_gradient(draws.z)
    # Persistent, as several losses may ask for their gradients.
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(z)
        log_q = bounds.log_prob_by_group(draws.q, z)
    value = tf.stop_gradient(log_q)

    def attach(_: tf.Tensor) -> Any:
        return tf.identity(value), lambda upstream: tape.gradient(log_q, z, upstream)

    return tf.custom_gradient(attach)(draws.z)


_CLASSES = (Reparameterized, StickingTheLanding, DoublyReparameterized, ScoreFunction)
ESTIMATORS = {estimator.name: estimator for estimator in _CLASSES}
BASELINES = ("leave_one_out", "none")


def get(estimator: str, baseline: str = "leave_one_out", known: Any = tuple(ESTIMATORS)) -> Any:
    """Returns the estimator of that name.

    Raises:
        ValueError: If it is not one of the known ones.
    """
    checks.option("estimator", estimator, known)
    checks.option("baseline", baseline, BASELINES)
    return ScoreFunction(baseline) if estimator == ScoreFunction.name else ESTIMATORS[estimator]()
