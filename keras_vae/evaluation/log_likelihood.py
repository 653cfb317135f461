"""The importance-weighted estimate of log p(x)."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.evaluation.estimate import Estimate, estimate_of
from keras_vae.evaluation.reading import checked_model, map_batches
from keras_vae.models.importance import MEMORY, ImportanceEstimate, importance_estimate

# Below 10 effective samples, the bound is off by more than about 1/20 nat. A warning is given if
# more than one example in a hundred is like that: single ones have been off by 20 nats.
_FEW, ENOUGH_TO_JUDGE, _TOLD = 10.0, 100, 0.01
# In MiB, more than any machine has.
_MOST_MEMORY = 2.0**40


@dataclasses.dataclass(frozen=True)
class LogLikelihood(Estimate):
    """An estimate of the mean log p(x) of a data set, in nats.

    It is an `Estimate` that also tells how far it can be trusted.

    Attributes:
        effective_sample_size: Mean over the examples of (sum w)^2 / sum w^2. It hides outliers, for
            which see the next two attributes.
        share_below_10: Share of the examples with fewer than 10 effective samples. Near 1 effective
            sample, the estimate depends on a single sample and can be many nats below log p(x).
        effective_sample_sizes: The effective sample size of every example, `[N]`.
        is_bound: Whether q(z|x) is a point mass, so that the values are the bound
            log p(x|z) + log p(z) at its z, which more samples cannot tighten.
    """

    effective_sample_size: float
    share_below_10: float
    effective_sample_sizes: np.ndarray = dataclasses.field(repr=False)
    is_bound: bool = False


def log_likelihood(
    model: Any,
    data: Any,
    num_samples: int = 5000,
    seed: int = 0,
    *,
    batch_size: int = 128,
    chunk_size: int | None = None,
    memory: float = MEMORY,
    verbose: bool = True,
) -> LogLikelihood:
    """Estimates the mean of log p(x) by importance sampling from the posterior.

    L_K = logsumexp_k(log p(x, z_k) - log q(z_k|x)) - log K,  z_k ~ q(z|x)

    This is a lower bound in expectation, which becomes tighter with K: log p(x) - E[L_K] is about
    Var(w / p(x)) / 2K, or half of 1 / (effective sample size) if that is large. The encoder runs
    once for every example; its samples are decoded in chunks, so that the memory does not depend on
    K. A quantizer has only one z to draw for each x, so K is 1 and the result is a bound.

    Args:
        model: A `LatentVariableModel`.
        data: Array `[N, *E]`, or dataset of batches as `fit` takes it.
        num_samples: Number K of samples for every example.
        seed: Integer >= 0.
        batch_size: Number of examples to process at once, if `data` is an array.
        chunk_size: Samples of each example that are decoded at once; by default, as many as the
            memory allows.
        memory: How much memory the samples that are decoded at once may take, in MiB. Changing it
            changes the chunks and therefore the noise.
        verbose: Whether to show a progress bar if it takes more than five seconds.

    Returns:
        A `LogLikelihood`, in nats. With K >= 100, a `RuntimeWarning` tells what share of the
        examples have fewer than 10 effective samples, if it is more than one in a hundred.

    Raises:
        ValueError: If a number is out of range, the model is not built, or the data are empty or
            have no density.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> log_likelihood(model, tf.zeros([64, 8, 8, 1]), num_samples=10).per_example.shape
        (64,)

    References:
        Burda et al., 2016, eq. 8 and section 5, arXiv:1509.00519.
    """
    num_samples = checks.count("num_samples", num_samples)
    memory = checks.number("memory", memory, 0.0, _MOST_MEMORY, exclusive=True)
    if chunk_size is not None:
        chunk_size = checks.integer("chunk_size", chunk_size)
    checked_model(model)
    num_samples = 1 if model.is_point_mass else num_samples

    def estimate(x: tf.Tensor, y: Any, batch_seed: tf.Tensor) -> ImportanceEstimate:
        return importance_estimate(model, x, num_samples, batch_seed, y, chunk_size, memory)

    results = list(map_batches(estimate, model, data, batch_size, seed, verbose))
    sizes = np.concatenate([result.effective_sample_size for result in results])
    share = float(np.mean(sizes < _FEW))
    if num_samples >= ENOUGH_TO_JUDGE and share > _TOLD:
        _warn(share, len(sizes), num_samples)
    estimated = estimate_of([result.log_likelihood for result in results])
    return LogLikelihood(
        **vars(estimated),
        effective_sample_size=float(np.mean(sizes, dtype=np.float64)),
        share_below_10=share,
        effective_sample_sizes=sizes,
        is_bound=model.is_point_mass,
    )


def _warn(share: float, num_examples: int, num_samples: int) -> None:
    text = (
        f"{share:.1%} of the {num_examples} examples have fewer than {_FEW:g} effective samples of "
        f"{num_samples}: their estimates can be many nats below log p(x), and so the mean is too "
        "low. annealed_importance_sampling does not depend on the encoder and comes closer; more "
        "samples help, too."
    )
    warnings.warn(text, RuntimeWarning, stacklevel=3)
