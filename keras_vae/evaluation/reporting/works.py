"""How long the parts of a report take, computed from the costs of a model."""

from __future__ import annotations

import math
from collections.abc import Callable

from keras_vae.evaluation.reporting.budget import Work
from keras_vae.evaluation.reporting.costs import Costs
from keras_vae.evaluation.reporting.examples import NUM_DRAWS
from keras_vae.evaluation.reporting.sections import (
    LEAST_EXAMPLES,
    NUM_CHAINS,
    NUM_DISTRIBUTIONS,
    Sections,
)

# Evaluations that take many passes for every example are run on only a few examples.
ANNEALED_EXAMPLES, GAP_EXAMPLES = 16, 32
# The default of `disentanglement_scores`, and the fewest with which scores still mean something.
TRAINING_OBSERVATIONS, LEAST_TRAINING = 10_000, 500

# Defaults of the evaluations: leapfrog steps and pilot chains of annealing, steps and samples of
# the fits, samples of both ELBOs and of log p(x), draws from q(z), subsets.
_LEAPFROG, _PILOTS = 10, 2
_STEPS, _FITTED, _SCORED = 200, 8, 2 * 256 + 2000
_DRAWS = 10_000
_SUBSETS, _LARGEST_SUBSET = 100, 1000
# Number of products, in units of F^3, that two decompositions and the singular values between them
# take, and number of products that the further work on each distance takes.
_DECOMPOSITIONS, _ELEMENTWISE = 50, 50
# Seconds for a tree to split an observation by a dimension, and number of trees for each value of
# a factor.
_SPLIT, _TREES = 4e-7, 100


def works_of(compute: Sections) -> dict[str, Work]:
    """Returns the work for each part of a report; parts that use the same passes share it."""
    total = len(compute.examples.x)
    statistics = Work(total, 1, total, passes(NUM_DRAWS))
    observations = Work(
        TRAINING_OBSERVATIONS,
        LEAST_TRAINING,
        TRAINING_OBSERVATIONS,
        trees(compute),
        "{:,} training observations",
    )

    def few(most: int, seconds: Callable[[Costs, int], float]) -> Work:
        return Work(min(total, most), min(total, 2), total, seconds)  # Two examples have a spread.

    return {
        "ELBO": statistics,
        "log p(x)": Work(total, 1, total, passes(compute.num_samples)),
        "active units": statistics,
        "reconstruction": Work(total, 1, total, passes(1)),
        "parts of the KL": Work(total, 1, total, pairs),
        "samples": Work(total, LEAST_EXAMPLES, total, distances),
        "figures": statistics,
        "annealed importance sampling": few(ANNEALED_EXAMPLES, chains),
        "gaps of inference": few(GAP_EXAMPLES, fits),
        "disentanglement": observations,
    }


def passes(num_samples: int) -> Callable[[Costs, int], float]:
    """Returns the cost of decoding `num_samples` samples for each example."""
    return lambda costs, count: costs.trace + count * (costs.encode + num_samples * costs.decode)


def chains(costs: Costs, count: int) -> float:
    """Returns the cost of annealing."""
    moves = NUM_DISTRIBUTIONS * (NUM_CHAINS + min(NUM_CHAINS, _PILOTS))
    # A move takes a gradient at its start, one for each leapfrog step, and the weight.
    move = (_LEAPFROG + 1) * costs.gradient + costs.decode
    return 3.0 * costs.trace + count * moves * move


def fits(costs: Costs, count: int) -> float:
    """Returns the cost of the gaps of inference."""
    fit = _STEPS * _FITTED * costs.gradient + _SCORED * costs.decode
    return 3.0 * costs.trace + count * (costs.encode + fit)


def pairs(costs: Costs, count: int) -> float:
    """Returns the cost of the densities of all draws under all posteriors."""
    draws = max(2 * count, _DRAWS)
    return costs.trace + count * costs.encode + draws * count * costs.pair


def distances(costs: Costs, count: int) -> float:
    """Returns the cost of samples, their features, and the distances between the features."""
    size, subset = costs.num_features, max(2, min(_LARGEST_SUBSET, count // 2))
    frechet = 2 * count * size**2 + _DECOMPOSITIONS * size**3
    kernel = 3 * _SUBSETS * subset**2 * (size + _ELEMENTWISE)
    manifold = 3 * count**2 * (size + _ELEMENTWISE)
    reading = count * (costs.decode + 6 * costs.features)  # Three distances read both sets.
    return reading + costs.product * (frechet + kernel + manifold)


def trees(compute: Sections) -> Callable[[Costs, int], float]:
    """Returns the cost of the disentanglement scores, most of which is due to boosted trees."""
    factors, model = compute.factors, compute.model
    if factors is None:
        return lambda costs, count: 0.0
    num_values = sum(len(set(column)) for column in factors.factors.T.tolist())
    dimensions, observations = math.prod(model.posterior_head.event_shape), len(factors)
    split = _TREES * num_values * dimensions * _SPLIT
    return lambda costs, count: observations * costs.encode + count * split
