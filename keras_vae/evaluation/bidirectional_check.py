"""Checks annealed importance sampling on data that the model itself generates."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_vae.core import checks
from keras_vae.core.progress import Progress
from keras_vae.core.seeds import fold, purpose, seed_tensor
from keras_vae.evaluation.annealed_chains import checked_annealing
from keras_vae.evaluation.estimate import Estimate, estimate_of
from keras_vae.evaluation.reading import run_batches
from keras_vae.models import VAE
from keras_vae.models.generation import draw_latents


@dataclasses.dataclass(frozen=True)
class BidirectionalCheck:
    """Lower and upper bounds on log p(x) of simulated data, in nats.

    Attributes:
        lower: The bound from chains that run from the start to p(z|x): E[lower] <= log p(x).
        upper: The bound from chains that run from an exact sample of p(z|x) to the start:
            E[upper] >= log p(x).
        gap: The mean of `upper - lower` over the examples, which bounds the error of either one in
            expectation.
        x: The simulated data, `[N, *E]`.
    """

    lower: Estimate
    upper: Estimate
    gap: Estimate
    x: np.ndarray = dataclasses.field(repr=False)


def bidirectional_check(
    model: VAE,
    num_examples: int = 64,
    num_distributions: int = 500,
    num_chains: int = 8,
    *,
    y: Any = None,
    start: str = "prior",
    num_leapfrog_steps: int = 10,
    seed: int = 0,
    batch_size: int = 64,
    verbose: bool = True,
) -> BidirectionalCheck:
    """Measures how far annealed importance sampling is from log p(x), on the model's own data.

    z* ~ p(z), x* ~ p(x|z*): z* is an exact sample of p(z|x*), from which chains run backwards
    E[log 1/K sum_k w_k] <= log p(x*) <= E[-log 1/K sum_k 1 / w'_k]

    If the two bounds meet, both are right, and so is the estimate on data that resemble the
    model's.

    Args:
        model: A `VAE` with continuous z.
        num_examples: Number of simulated examples.
        num_distributions: As for `annealed_importance_sampling`, like the other arguments.
        num_chains: Number K of chains for every example, in each direction.
        y: For conditional models, labels of the examples to simulate, `[num_examples, ...]`, or one
            for all; otherwise ignored.
        start: `"prior"` or `"posterior"`.
        num_leapfrog_steps: Number of leapfrog steps in one proposal of Hamiltonian Monte Carlo.
        seed: Integer >= 0.
        batch_size: Number of examples to process at once.
        verbose: Whether to show a progress bar if it takes more than five seconds.

    Returns:
        A `BidirectionalCheck`, in nats.

    Raises:
        ValueError: If an argument is not as above, or z is discrete.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> check = bidirectional_check(model, num_examples=3, num_distributions=50)
        >>> abs(check.gap.mean) < 0.5
        True

    References:
        Grosse et al., 2015, section 3, arXiv:1511.02543; Wu et al., 2017, section 3.3,
        arXiv:1611.04273.
    """
    annealing = checked_annealing(model, num_distributions, num_chains, start, num_leapfrog_steps)
    num_examples = checks.integer("num_examples", num_examples)
    batch_size = checks.integer("batch_size", batch_size)
    seed = fold(seed_tensor(seed), purpose("simulate"))
    y = model.labels.of_draws(y, num_examples)
    p_z = model._prior(model.labels.features(y))
    z = draw_latents(p_z, model.latents, num_examples, seed)
    rows = [slice(first, first + batch_size) for first in range(0, num_examples, batch_size)]
    batches = [(z[chosen], None if y is None else y[chosen]) for chosen in rows]
    moves = 3 * annealing.num_moves * len(batches)  # To adapt the steps, and in both directions.
    with Progress(moves, verbose, "move") as progress:
        both_ways = dataclasses.replace(annealing, tick=progress.tick).both_ways
        results = list(run_batches(both_ways, batches, len(batches), seed, verbose=False))
    lower, upper, x = (np.concatenate(parts) for parts in zip(*results, strict=True))
    return BidirectionalCheck(
        lower=estimate_of([lower]),
        upper=estimate_of([upper]),
        gap=estimate_of([upper - lower]),
        x=x,
    )
