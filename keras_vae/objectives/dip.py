"""The ELBO with the covariance of the aggregate posterior pulled towards the identity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae import bounds, penalties
from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.objectives.base import draws_of
from keras_vae.objectives.elbo import ELBO
from keras_vae.terms import Terms
from keras_vae.training.replicas import global_batch_covariance, global_batch_mean

tfd = tfp.distributions

KINDS = ("i", "ii")


@serializable
class DIP(ELBO):
    """The negative ELBO plus a penalty on the covariance of the aggregate posterior (DIP-VAE).

    loss = -ELBO + lambda_od sum_{i != j} Cov_ij^2 + lambda_d sum_i (Cov_ii - 1)^2

    i:   Cov = Cov_x[mu(x)],                   mu and Sigma the mean and covariance of q(z|x)
    ii:  Cov = Cov_x[mu(x)] + E_x[Sigma(x)] = Cov_q(z)[z]

    The covariances are those of the batch on all replicas. The logs hold the two sums,
    `off_diagonal` and `diagonal`.

    Args:
        lambda_od: Weight λ_od >= 0 of the elements off the diagonal, drivable as `"lambda_od"`.
        lambda_d: Weight λ_d >= 0 of the elements on the diagonal, drivable as `"lambda_d"`.
        kind: `"i"` or `"ii"`.
        **kwargs: Passed on to `ELBO`, such as `beta`.

    Raises:
        ValueError: If an argument is out of its range or unknown; at the first batch, if the
            posterior has no mean and covariance in closed form.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)),
        ...     objective=DIP(lambda_od=10.0, lambda_d=5.0, kind="ii"))
        >>> sorted(model.hyperparameters)
        ['beta', 'free_bits', 'lambda_d', 'lambda_od']

    References:
        Kumar et al., 2018, eq. 6 and 7, arXiv:1711.00848.
    """

    computes_with_z = True

    measure_names = ("off_diagonal", "diagonal")

    def __init__(self, lambda_od: float, lambda_d: float, kind: str = "i", **kwargs: Any):
        super().__init__(**kwargs)
        self.kind = checks.option("kind", kind, KINDS)
        self._initial_lambdas = {
            "lambda_od": checks.number("lambda_od", lambda_od, minimum=0.0),
            "lambda_d": checks.number("lambda_d", lambda_d, minimum=0.0),
        }
        self.lambda_od = self.add_hyperparameter("lambda_od", lambda_od)
        self.lambda_d = self.add_hyperparameter("lambda_d", lambda_d)

    def loss(self, terms: Terms) -> tf.Tensor:
        return self.loss_and_measures(terms)[0]

    def loss_and_measures(self, terms: Terms) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        loss = super().loss(terms)
        deviations = self._deviations(terms)
        spread = [deviation + tf.zeros_like(loss) for deviation in deviations]
        measures = dict(zip(self.measure_names, spread, strict=True))
        return loss + self._penalty(deviations), measures

    def rate_and_expectations(
        self, terms: Terms, values: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns the rate and expectations of `ELBO`, with the penalty as a part of the rate."""
        rate, means = super().rate_and_expectations(terms, values)
        return rate + self._penalty(self._deviations(terms)), means

    def _deviations(self, terms: Terms) -> tuple[tf.Tensor, tf.Tensor]:
        q = draws_of(terms, "DIP").q
        if q.event_shape.rank != 1:
            raise checks.invalid("posterior", "must have a vector as z for DIP", q)
        try:
            covariance = global_batch_covariance(q.mean())
            if self.kind == "ii":
                covariance += global_batch_mean(_covariance(q))
        except NotImplementedError as error:
            rule = "must have a mean and a covariance in closed form for DIP"
            raise checks.invalid("posterior", rule, q) from error
        return penalties.covariance_deviations(covariance)

    def _penalty(self, deviations: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        off_diagonal, diagonal = deviations
        dtype = diagonal.dtype
        on, off = tf.cast(self.lambda_d, dtype), tf.cast(self.lambda_od, dtype)
        return off * off_diagonal + on * diagonal

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._initial_lambdas, "kind": self.kind}


def _covariance(q: tfd.Distribution) -> tf.Tensor:
    """Returns the covariance of each q(z|x), `[B, D, D]`."""
    factors = bounds.factors(q)
    return q.covariance() if factors is None else tf.linalg.diag(factors.variance())
