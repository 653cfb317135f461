"""The gap between the ELBO and log p(x), due to the posterior's family and to the encoder."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.seeds import fold, purpose, seed_tensor
from keras_vae.evaluation.estimate import Estimate, estimate_of
from keras_vae.evaluation.fit_posterior import fit_posterior
from keras_vae.evaluation.reading import checked_vae, standardized, with_progress
from keras_vae.models import VAE
from keras_vae.models.importance import chunk_of
from keras_vae.training.data import any_number_of, first_examples

# Memory in MiB for the samples that are decoded at once.
_MEMORY = 256.0


@dataclasses.dataclass(frozen=True)
class InferenceGap:
    """The gap between log p(x) and the ELBO of the encoder's q(z|x), in two parts, in nats.

    Attributes:
        amortization: ELBO of the q fitted to x alone, minus that of the encoder's q(z|x).
        approximation: log p(x) minus the ELBO of the fitted q, which is the cost of the family of
            q.
        inference: Their sum, log p(x) minus the ELBO of the encoder's q(z|x).
        log_likelihood: log p(x), estimated by importance sampling from the fitted q.
        effective_sample_size: Mean over the examples of (sum w)^2 / sum w^2 of those samples. If it
            is near 1, log p(x), and with it the approximation gap, is larger than estimated.
    """

    amortization: Estimate
    approximation: Estimate
    inference: Estimate
    log_likelihood: Estimate
    effective_sample_size: float


def inference_gap(
    model: Any,
    data: Any,
    num_examples: int = 100,
    *,
    steps: int = 200,
    learning_rate: float = 0.05,
    num_samples: int = 2000,
    seed: int = 0,
    batch_size: int = 128,
    verbose: bool = True,
) -> InferenceGap:
    """Splits the gap between log p(x) and the ELBO into parts due to q's family and the encoder.

    log p(x) - ELBO(q(z|x)) = [log p(x) - ELBO(q*)] + [ELBO(q*) - ELBO(q(z|x))]

    q* is the best member of the family for x alone. The first term is the approximation gap, the
    second the amortization gap. `fit_posterior` finds q*, starting from the encoder's q(z|x); more
    steps may find a better one. log p(x) is estimated by importance sampling from q*, which is a
    lower bound in expectation, so that the approximation gap tends to be too small. Both of its
    terms come from the same draws, so it is not below zero for any example.

    Args:
        model: A `VAE`.
        data: Array `[N, *E]`, or dataset of batches as `fit` takes it.
        num_examples: How many of the first examples of the data to use, or all if there are fewer.
        steps: Number of steps of each fit.
        learning_rate: Size of the first steps, > 0.
        num_samples: Samples of q* for every x, at least 2.
        seed: Integer >= 0.
        batch_size: Number of examples to fit, and to decode the samples of, at once.
        verbose: Whether to show progress if it takes long.

    Returns:
        An `InferenceGap`, in nats; its standard errors are over the examples.

    Raises:
        ValueError: If a number is out of range, the model is not built, its posterior head has no
            parameters, or the data are empty or have no density.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> data = tf.random.uniform([64, 8, 8, 1])
        >>> gap = inference_gap(model, data, 10, steps=10, num_samples=50)
        >>> abs(gap.inference.mean - gap.amortization.mean - gap.approximation.mean) < 1e-9
        True

    References:
        Cremer et al., 2018, section 3.2 and table 1, arXiv:1801.03558.
    """
    model = checked_vae(model)
    num_samples = checks.count("num_samples", num_samples, minimum=2)
    checks.flag("verbose", verbose)
    x, y = _first(model, data, checks.integer("num_examples", num_examples), batch_size)
    options: dict[str, Any] = {"seed": seed, "batch_size": batch_size, "verbose": verbose}
    fitted = fit_posterior(model, x, steps, y=y, learning_rate=learning_rate, **options)
    data = [x] if y is None else [x, y]
    log_w = _log_weights(model, fitted.parameters, data, num_samples, **options)
    log_sum, log_sum_of_squares = (np.logaddexp.reduce(k * log_w, axis=0) for k in (1.0, 2.0))
    log_likelihood = log_sum - np.log(num_samples)
    # Both ELBOs share the same noise, most of which cancels in their difference.
    amortization = np.float64(fitted.elbo) - fitted.initial_elbo
    approximation = log_likelihood - np.mean(log_w, axis=0)
    return InferenceGap(
        amortization=estimate_of([amortization]),
        approximation=estimate_of([approximation]),
        inference=estimate_of([amortization + approximation]),
        log_likelihood=estimate_of([log_likelihood]),
        effective_sample_size=float(np.mean(np.exp(2.0 * log_sum - log_sum_of_squares))),
    )


def _first(model: VAE, data: Any, num_examples: int, batch_size: int) -> tuple[tf.Tensor, Any]:
    """Returns the first examples of the data, standardized, and their labels or None."""
    parts = first_examples(standardized(model, data, batch_size), num_examples)
    x, y = (*(tf.concat(each, axis=0) for each in zip(*parts, strict=True)), None)[:2]
    return x, y


def _log_weights(
    model: VAE,
    parameters: Any,
    data: list[tf.Tensor],
    num_samples: int,
    seed: int,
    batch_size: int,
    verbose: bool,
) -> np.ndarray:
    """Returns log p(x, z) - log q(z) at draws from q with these parameters, float64 `[S, N]`."""

    def of_chunk(inputs: Any, size: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        parameters, (x, *y) = inputs
        q = model.posterior_head.distribution(parameters)
        terms = model.terms_of(q, x, size, seed, y[0] if y else None)
        return tf.cast(terms.log_w, tf.float64)

    def rows(start: int) -> Any:
        return tf.nest.map_structure(lambda v: v[start : start + batch_size], (parameters, data))

    spec = tf.nest.map_structure(any_number_of, rows(0))
    function = tf.function(of_chunk, autograph=False).get_concrete_function(
        spec, tf.TensorSpec([], tf.int32), tf.TensorSpec([2], tf.int32)
    )
    x, y = (*rows(0)[1], None)[:2]
    chunk = int(chunk_of(model, x, y, _MEMORY))
    noise = fold(seed_tensor(seed), purpose("inference gap"))
    starts = range(0, len(data[0]), batch_size)
    work = [(start, done) for start in starts for done in range(0, num_samples, chunk)]
    found: dict[int, list[np.ndarray]] = {start: [] for start in starts}
    for start, done in with_progress(work, len(work), verbose, "chunk"):
        size = tf.constant(min(chunk, num_samples - done))
        own = fold(noise, start // batch_size * num_samples + done)
        found[start].append(function(rows(start), size, own).numpy())
    return np.concatenate([np.concatenate(parts) for parts in found.values()], axis=1)
