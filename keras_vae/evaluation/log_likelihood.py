"""The importance-weighted estimate of log p(x)."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.randomness import fold, seed_tensor
from keras_vae.models.importance import importance_estimate
from keras_vae.models.inputs import batches


@dataclasses.dataclass(frozen=True)
class LogLikelihood:
    """An estimate of the mean log p(x) of a data set, in nats.

    Attributes:
        mean: Mean over the examples.
        standard_error: Standard error of that mean, over the examples; NaN for a single one.
        effective_sample_size: Mean over the examples of (sum w)^2 / sum w^2. Near 1, the estimate
            hangs on single samples and is far below log p(x).
        per_example: The estimates `[N]`.
    """

    mean: float
    standard_error: float
    effective_sample_size: float
    per_example: np.ndarray = dataclasses.field(repr=False)


def log_likelihood(
    model: Any,
    data: Any,
    num_samples: int = 5000,
    seed: int = 0,
    *,
    batch_size: int = 128,
    chunk_size: int = 32,
) -> LogLikelihood:
    """Estimates the mean of log p(x) by importance sampling from the posterior.

    L_K = logsumexp_k(log p(x, z_k) - log q(z_k|x)) - log K,  z_k ~ q(z|x)

    A lower bound in expectation, which K makes tighter.

    Args:
        model: A `LatentVariableModel`.
        data: Array `[N, *E]`, or dataset of batches as `fit` takes it.
        num_samples: Number K of samples for every example.
        seed: Integer >= 0.
        batch_size: Examples at once, where `data` is an array.
        chunk_size: Samples of each example that are decoded at once; bounds the memory.

    Returns:
        A `LogLikelihood`, nats.

    Raises:
        ValueError: If a number is out of its range, or the data empty or without a density.

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
    num_samples = checks.integer("num_samples", num_samples)
    chunk_size = checks.integer("chunk_size", chunk_size)
    seed = seed_tensor(seed)

    @tf.function(reduce_retracing=True, autograph=False)
    def estimate(x: tf.Tensor, y: Any, batch_seed: tf.Tensor) -> Any:
        return importance_estimate(model, x, num_samples, batch_seed, y, chunk_size)

    estimates, sizes = [], []
    for number, (x, y) in enumerate(batches(data, batch_size)):
        x, y = model.check_support(*model.standardize(x, y))
        result = estimate(x, y, fold(seed, number))
        estimates.append(result.log_likelihood.numpy())
        sizes.append(result.effective_sample_size.numpy())
    per_example = np.concatenate(estimates)
    count = len(per_example)
    deviation = np.std(per_example, ddof=1, dtype=np.float64) if count > 1 else np.nan
    return LogLikelihood(
        mean=float(np.mean(per_example, dtype=np.float64)),
        standard_error=float(deviation / np.sqrt(count)),
        effective_sample_size=float(np.mean(np.concatenate(sizes))),
        per_example=per_example,
    )
