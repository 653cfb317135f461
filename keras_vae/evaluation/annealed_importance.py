"""Annealed importance sampling: log p(x) where only a few samples of q(z|x) would count."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.progress import Progress
from keras_vae.evaluation.annealed_chains import checked_annealing, log_mean
from keras_vae.evaluation.estimate import Estimate, estimate_of
from keras_vae.evaluation.reading import map_batches
from keras_vae.models import VAE
from keras_vae.training.data import Data


@dataclasses.dataclass(frozen=True)
class AnnealedLogLikelihood(Estimate):
    """An estimate of the mean log p(x) by annealed importance sampling, in nats.

    It is an `Estimate` that also tells how well the chains worked.

    Attributes:
        effective_sample_size: Mean over the examples of (sum w)^2 / sum w^2 over the chains.
        acceptance_rate: Share of the proposals that were accepted; 0.5 to 0.9 is healthy. NaN if
            there are no proposals, which is the case with a single distribution.
    """

    effective_sample_size: float
    acceptance_rate: float


def annealed_importance_sampling(
    model: VAE,
    data: Any,
    num_distributions: int = 500,
    num_chains: int = 8,
    *,
    start: str = "prior",
    num_leapfrog_steps: int = 10,
    seed: int = 0,
    batch_size: int = 64,
    verbose: bool = True,
) -> AnnealedLogLikelihood:
    """Estimates the mean of log p(x) by annealed importance sampling.

    f_t(z) = p_0(z)^(1 - b_t) p(x, z)^b_t,  0 = b_0 < ... < b_T = 1
    log w = sum_t log f_t(z_{t-1}) - log f_{t-1}(z_{t-1}),  z_0 ~ p_0,  z_t ~ M_t(. | z_{t-1})
    log p(x) ~ logsumexp_k(log w_k) - log K, over K chains

    M_t is a step of Hamiltonian Monte Carlo that leaves f_t invariant. Its step sizes are adapted
    in a run beforehand and then kept fixed, so that E[w] = p(x) holds exactly and the estimate is a
    lower bound in expectation, for any number of distributions.

    Args:
        model: A `VAE` with continuous z.
        data: Array `[N, *E]`, or dataset of batches as `fit` takes it.
        num_distributions: Number T of steps from p_0 to p(z|x).
        num_chains: Number K of chains for every example.
        start: p_0: `"prior"`, which does not depend on the encoder, or `"posterior"`, q(z|x), which
            is closer to p(z|x) if the encoder is good.
        num_leapfrog_steps: Number of leapfrog steps in one proposal of Hamiltonian Monte Carlo.
        seed: Integer >= 0.
        batch_size: Number of examples to process at once, if `data` is an array.
        verbose: Whether to show a progress bar if it takes more than five seconds.

    Returns:
        An `AnnealedLogLikelihood`, in nats.

    Raises:
        ValueError: If an argument is not as above, z is discrete, or the data are empty or have no
            density.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> found = annealed_importance_sampling(model, tf.zeros([3, 8, 8, 1]), 10, num_chains=2)
        >>> found.per_example.shape
        (3,)

    References:
        Neal, 2001, eq. 3 to 9, arXiv:physics/9803008; Wu et al., 2017, section 3, arXiv:1611.04273.
    """
    annealing = checked_annealing(model, num_distributions, num_chains, start, num_leapfrog_steps)
    data = Data.of("data", data)
    num_batches = data.num_batches(checks.integer("batch_size", batch_size))
    moves = (
        num_batches and 2 * annealing.num_moves * num_batches
    )  # To adapt the steps, and to compute the weights.
    with Progress(moves, verbose, "move") as progress:
        forward = dataclasses.replace(annealing, tick=progress.tick).forward
        results = list(map_batches(forward, model, data, batch_size, seed, verbose=False))
    log_w = np.concatenate([chains.log_w for chains in results], axis=1)  # [K, N]
    total, squares = (tf.reduce_logsumexp(power * log_w, axis=0) for power in (1.0, 2.0))
    rates = np.concatenate([chains.acceptance_rate for chains in results])
    return AnnealedLogLikelihood(
        **vars(estimate_of([log_mean(log_w).numpy()])),
        effective_sample_size=float(np.mean(np.exp(2.0 * total - squares))),
        acceptance_rate=float(np.mean(rates)),
    )
