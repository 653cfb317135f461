"""Means over examples, with their standard errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over examples.

    Attributes:
        mean: Mean over the examples.
        standard_error: Standard error of that mean over the examples; NaN for a single example.
        per_example: The values that are averaged, `[N]`.
    """

    mean: float
    standard_error: float
    per_example: np.ndarray = dataclasses.field(repr=False)


def estimate_of(parts: Sequence[np.ndarray]) -> Estimate:
    """Returns the `Estimate` from the values `[B]` of every batch.

    Example:
        >>> estimate_of([np.array([1.0, 2.0]), np.array([3.0])]).mean
        2.0
    """
    values = np.concatenate(parts)
    mean = float(np.mean(values, dtype=np.float64))
    return Estimate(mean, standard_error(values), values)


def standard_error(values: np.ndarray) -> float:
    """Returns the standard error of the mean of independent values, or NaN for a single value."""
    deviation = np.std(values, ddof=1, dtype=np.float64) if len(values) > 1 else np.nan
    return float(deviation / np.sqrt(len(values)))
