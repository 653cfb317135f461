"""Measures the time for passes through a model on a few examples."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_vae.core.seeds import seed_tensor
from keras_vae.distributions.normal import log_densities
from keras_vae.evaluation.reading import has_parameters
from keras_vae.evaluation.reporting.examples import NUM_DRAWS, Examples
from keras_vae.models import VAE

# Sizes at which the costs are measured, similar to those of the bounds and of the chains.
_EXAMPLES, _FEW, _CHAINS, _DRAWS = 128, 16, 4, 1024
# A short pass is timed several times, and the shortest time counts.
_REPEATS, _SHORT = 5, 0.2
_MATRIX = 512


class Costs(NamedTuple):
    """Times in seconds.

    Attributes:
        trace: Time to trace the graph of a gradient.
        encode: Time to encode an example.
        decode: Time to decode a sample of z, and to score an example by it.
        gradient: Time for the same, including the gradient with respect to z.
        pair: Time for the density of one draw under one posterior.
        features: Time for the features of an example; 0 if the pixels are the features.
        num_features: Number of features, which is not a time.
        product: Time for one multiplication and addition of float64 matrices.
    """

    trace: float
    encode: float
    decode: float
    gradient: float
    pair: float
    features: float
    num_features: int
    product: float


def measure(model: VAE, examples: Examples, features: Any) -> Costs:
    """Measures the costs; for equal work, they differ only by what else the machine is doing."""
    some, few = examples.first(_EXAMPLES), examples.first(_FEW)
    count, seed = len(some.x), seed_tensor(0)

    def terms(x: tf.Tensor, y: Any) -> tf.Tensor:
        return model.compute_terms(x, NUM_DRAWS, False, seed, y).log_w

    _, encode = _seconds(_graph(model, lambda x, y: model.encode(x, y).sample(seed=seed), some))
    _, both = _seconds(_graph(model, terms, some))
    trace, gradient = _seconds(_graph(model, lambda x, y: _gradient(model, x, y, seed), few))
    sizes = features and np.shape(features(few.x))
    return Costs(
        trace=trace,
        encode=encode / count,
        decode=max(both - encode, 0.1 * both) / (NUM_DRAWS * count),
        gradient=gradient / (_CHAINS * len(few.x)),
        pair=_pair(model, some, seed),
        features=_seconds(lambda: features(few.x))[1] / len(few.x) if features else 0.0,
        num_features=int(np.prod(sizes[1:] if sizes else examples.x.shape[1:])),
        product=_product(),
    )


def _seconds(function: Callable[[], Any]) -> tuple[float, float]:
    """Returns the additional time of the first call, and the time of any further call."""
    start = time.perf_counter()
    function()
    first, shortest = time.perf_counter() - start, np.inf
    for _ in range(_REPEATS):
        start = time.perf_counter()
        function()
        shortest = min(shortest, time.perf_counter() - start)
        if shortest > _SHORT:
            break
    return max(first - shortest, 0.0), shortest


def _graph(
    model: VAE, function: Callable[[tf.Tensor, Any], Any], examples: Examples
) -> Callable[[], Any]:
    x, y = model.check_support(*model.standardize(examples.x, examples.condition))
    return _compiled(lambda: function(x, y))


def _compiled(function: Callable[[], Any]) -> Callable[[], Any]:
    traced = tf.function(function, autograph=False)
    return lambda: tf.nest.map_structure(np.asarray, traced())


def _gradient(model: VAE, x: tf.Tensor, y: Any, seed: tf.Tensor) -> tf.Tensor:
    """Returns the gradient of log p(x|z) with respect to z, or log p(x|z) if z is discrete."""
    z = model.encode(x, y).sample(_CHAINS, seed=seed)
    if model.posterior_head.discrete:
        return model.decode(z, y).log_prob(x)
    with tf.GradientTape() as tape:
        tape.watch(z)
        log_p_x = model.decode(z, y).log_prob(x)
    return tape.gradient(log_p_x, z)


def _pair(model: VAE, examples: Examples, seed: tf.Tensor) -> float:
    """Returns the time for a density, measured on so many pairs that call overhead is small."""
    if not has_parameters(model):
        return 0.0
    x, y = model.check_support(*model.standardize(examples.x, examples.condition))
    parameters = model.posterior_parameters(x, y)
    seconds = 0.0
    for draws in (1, _DRAWS):

        def densities(draws: int = draws) -> tf.Tensor:
            q = model.posterior_head.distribution(parameters)
            return log_densities(q, q.sample(draws, seed=seed)[:, 0])

        seconds = _seconds(_compiled(densities))[1] / (draws * len(x))
        if seconds * len(x) > _SHORT / 10.0:
            break
    return seconds


def _product() -> float:
    matrix = np.ones([_MATRIX, _MATRIX])
    return _seconds(lambda: matrix @ matrix)[1] / _MATRIX**3
