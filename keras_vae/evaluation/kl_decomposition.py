"""The mean KL, split into mutual information and marginal KL."""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import Any

import numpy as np

from keras_vae.evaluation.aggregate_posterior import (
    AggregatePosterior,
    Densities,
    Reading,
    given_the_data,
)
from keras_vae.evaluation.estimate import Estimate

# Number of standard errors that chance does not explain: a probability of 6e-7 if normal.
_MAX_Z_SCORE = 5.0


@dataclasses.dataclass(frozen=True)
class KLDecomposition:
    """The mean KL and its two parts, from the same draws, in nats.

    The standard errors reflect the draws, with the data held fixed.

    Attributes:
        mean_kl: E_x KL(q(z|x) || p(z)), the sum of the other two.
        mutual_information: I(x; z).
        marginal_kl: KL(q(z) || p(z)).
        exact_mean_kl: The mean KL in closed form, or NaN if there is no closed form.
        z_score: By how many standard errors the sampled mean KL is above the exact one, or NaN if
            there is no closed form.
    """

    mean_kl: Estimate
    mutual_information: Estimate
    marginal_kl: Estimate
    exact_mean_kl: float
    z_score: float


def kl_decomposition(
    model: Any,
    data: Any,
    num_samples: int | None = None,
    seed: int = 0,
    *,
    method: str = "mixture",
    batch_size: int = 128,
    verbose: bool = True,
) -> KLDecomposition:
    """Splits the mean KL into mutual information and marginal KL, using the same draws of z.

    E_x KL(q(z|x) || p(z)) = I(x; z) + KL(q(z) || p(z)),  q(z) = 1/N sum_n q(z|x_n)

    The sampled parts add up draw by draw. As a check, their sum is compared with the mean KL in
    closed form, if there is one.

    Args:
        model: A `VAE`, or a conditional one whose prior does not depend on y.
        data: Array `[N, *E]`, or dataset of batches as `fit` takes it.
        num_samples: Draws of z for every x, at least 2; by default, enough for 10,000 in total.
        seed: Integer >= 0.
        method: How to compute the density of q(z), as for `marginal_kl`; it does not affect the
            sum.
        batch_size: Number of examples in a minibatch, and to process at once if `data` is an array.
        verbose: Whether to show progress if it takes long.

    Returns:
        A `KLDecomposition`, in nats. There is a warning if the z-score is beyond +-5: either the
        densities do not belong to the draws, or there are too few draws to catch what matters.

    Raises:
        ValueError: If an argument is out of range, the model is not built, its prior depends on y,
            or the data are empty or have no density.

    Example:
        >>> import tensorflow as tf, keras_vae as kv
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> parts = kl_decomposition(model, tf.random.uniform([64, 8, 8, 1]))
        >>> total = parts.mutual_information.mean + parts.marginal_kl.mean
        >>> abs(parts.mean_kl.mean - total) < 1e-9
        True

    References:
        Hoffman and Johnson, 2016, "ELBO surgery"; Makhzani and Frey, 2017, arXiv:1706.00531.
    """
    reading = Reading(num_samples, seed, method, batch_size, verbose)
    aggregate = AggregatePosterior(model, data, reading)
    densities = aggregate.densities()
    sampled = given_the_data(densities.log_q - densities.log_p_z)
    exact = math.nan if aggregate.exact_kl is None else float(np.mean(aggregate.exact_kl))
    epsilon = np.finfo(model.posterior_head.density_dtype).eps
    z_score = (sampled.mean - exact) / _error(sampled, densities, epsilon)
    if abs(z_score) > _MAX_Z_SCORE:
        warnings.warn(
            f"The sampled mean KL, {sampled.mean:.6g}, is {z_score:.1f} standard errors off the "
            f"exact one, {exact:.6g}. Take more samples; if that does not help, the densities of "
            "the posterior or the prior are wrong.",
            stacklevel=2,
        )
    return KLDecomposition(
        mean_kl=sampled,
        mutual_information=given_the_data(densities.log_q - densities.log_aggregate),
        marginal_kl=given_the_data(densities.log_aggregate - densities.log_p_z),
        exact_mean_kl=exact,
        z_score=z_score,
    )


def _error(sampled: Estimate, densities: Densities, epsilon: float) -> float:
    """Returns the error of the sampled mean KL due to the draws and to rounding.

    If q(z|x) is the prior, all draws give the same value, and rounding is the only error.
    """
    size = np.mean(np.abs(densities.log_q)) + np.mean(np.abs(densities.log_p_z))
    return math.hypot(sampled.standard_error, epsilon * float(size))
