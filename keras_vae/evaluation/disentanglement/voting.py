"""Batches of observations that share a factor, for the scores of beta-VAE and FactorVAE."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from keras_vae.data import FactorData
from keras_vae.evaluation.disentanglement.code_table import CodeTable

# Number of points whose codes are in memory at once.
_CHUNK = 512


def fixed_factors(
    data: FactorData, labels: np.ndarray, values: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draws observations that have given values of one factor.

    Args:
        data: The observations.
        labels: The factor of each point, `[P]`.
        values: Values of that factor, `[P, L]`.
        rng: Generator for the draws.

    Returns:
        Positions `[P, L]`.
    """
    positions = np.empty_like(values)
    for factor in range(data.num_factors):
        rows = labels == factor
        positions[rows] = data.sample_sharing(factor, values[rows], rng)
    return positions


def for_each_point(
    table: CodeTable, positions: np.ndarray, function: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Applies a function to the codes `[P, ..., D]` at positions `[P, ...]`, in chunks of P."""
    table(np.unique(positions))  # Encodes everything under a single progress bar.
    starts = range(0, len(positions), _CHUNK)
    return np.concatenate([function(table(positions[s : s + _CHUNK])) for s in starts])
