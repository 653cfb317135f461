"""The mutual information of x and z under the posterior."""

from __future__ import annotations

from typing import Any

from keras_vae.evaluation.aggregate_posterior import AggregatePosterior, Reading, given_the_data
from keras_vae.evaluation.estimate import Estimate


def mutual_information(
    model: Any,
    data: Any,
    num_samples: int | None = None,
    seed: int = 0,
    *,
    method: str = "mixture",
    batch_size: int = 128,
    verbose: bool = True,
) -> Estimate:
    """Estimates the mutual information between the data and their latent variables.

    mutual_information = E_q(x,z)[log q(z|x) - log q(z)] <= log N,  q(z) = 1/N sum_n q(z|x_n)

    x is one of the N given data, so the mutual information cannot exceed log N; for a model that
    tells all its data apart, it only reflects their number. For a conditional model, it is that
    between the pair (x, y) and z.

    Args:
        model: A `VAE`.
        data: Array `[N, *E]`, or dataset of batches as `fit` takes it.
        num_samples: Draws of z for every x, at least 2; by default, enough for 10,000 in total.
        seed: Integer >= 0.
        method: How to compute the density of q(z), as for `marginal_kl`. With `"minibatch"` and
            `"minibatch_stratified"`, the result is too high by as much as it is too low there.
        batch_size: Number of examples in a minibatch, and to process at once if `data` is an array.
        verbose: Whether to show progress if it takes long.

    Returns:
        An `Estimate`, in nats; its standard error reflects the draws, with the data held fixed.

    Raises:
        ValueError: If an argument is out of range, the model is not built, or the data are empty or
            have no density.

    Example:
        >>> import tensorflow as tf, keras_vae as kv
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> abs(mutual_information(model, tf.zeros([64, 8, 8, 1])).mean) < 1e-4
        True

    References:
        Hoffman and Johnson, 2016, "ELBO surgery"; Chen et al., 2018, section 4.1 and appendix C
        (minibatches), arXiv:1802.04942.
    """
    reading = Reading(num_samples, seed, method, batch_size, verbose)
    densities = AggregatePosterior(model, data, reading, needs_prior=False).densities()
    return given_the_data(densities.log_q - densities.log_aggregate)
