"""The KL of the aggregate posterior from the prior."""

from __future__ import annotations

from typing import Any

from keras_vae.evaluation.aggregate_posterior import AggregatePosterior, Reading, given_the_data
from keras_vae.evaluation.estimate import Estimate


def marginal_kl(
    model: Any,
    data: Any,
    num_samples: int | None = None,
    seed: int = 0,
    *,
    method: str = "mixture",
    batch_size: int = 128,
    verbose: bool = True,
) -> Estimate:
    """Estimates the KL of the aggregate posterior from the prior.

    marginal_kl = KL(q(z) || p(z)) = E_q(z)[log q(z) - log p(z)],  q(z) = 1/N sum_n q(z|x_n)

    q(z) is that of the given data: a mixture of N posteriors, and the same number of z are drawn
    from each. Its density is computed by one of these methods:

    - `"mixture"`: exactly, from all N posteriors. It has no bias, and takes N densities for each z.
    - `"minibatch"`: minibatch-weighted sampling, from the minibatch of size B that z was drawn
      from, with the weight 1 / (N B) for all. The result is too low: by log B if the posteriors are
      far apart, by log N if they are the same, and always in the mean.
    - `"minibatch_stratified"`: with the weights that make q(z) unbiased. Its logarithm is too low
      in the mean, by up to log N, and less so the larger the batch.

    The standard error reflects the draws, with the data and the minibatches held fixed; it does not
    include any bias.

    Args:
        model: A `VAE`, or a conditional one whose prior does not depend on y.
        data: Array `[N, *E]`, or dataset of batches as `fit` takes it.
        num_samples: Draws of z for every x, at least 2; by default, enough for 10,000 in total.
        seed: Integer >= 0.
        method: `"mixture"`, `"minibatch"` or `"minibatch_stratified"`.
        batch_size: Number of examples in a minibatch, and to process at once if `data` is an array.
        verbose: Whether to show progress if it takes long.

    Returns:
        An `Estimate`, in nats; `per_example` holds the mean over the draws of each q(z|x).

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
        >>> marginal_kl(model, tf.zeros([64, 8, 8, 1])).per_example.shape
        (64,)

    References:
        Hoffman and Johnson, 2016, "ELBO surgery"; Chen et al., 2018, section 4.1 and appendix C
        (minibatches), arXiv:1802.04942.
    """
    reading = Reading(num_samples, seed, method, batch_size, verbose)
    densities = AggregatePosterior(model, data, reading).densities()
    return given_the_data(densities.log_aggregate - densities.log_p_z)
