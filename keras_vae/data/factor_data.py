"""Observations with known ground-truth factors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_vae.core import checks


class FactorData:
    """Observations and the integer factors that generated them.

    Sampling draws positions of observations, so that repeated observations can be recognized. If
    every combination of values occurs once (a full factorial set), a uniform draw of positions is a
    draw of independent, uniform factors; otherwise it follows the data.

    Args:
        observations: Array `[N, *E]`.
        factors: Integers `[N, K]`, the value of every factor; each factor must have two or more
            values. The values may have gaps, as in a subset, since they are renumbered in order.
        names: Names of the factors; `"factor_0"` and so on by default.

    Attributes:
        observations: The array as it was given.
        factors: The values of the factors as numbers 0, 1, ... without gaps, `[N, K]`.
        names: Names of the K factors.
        values: The distinct values of every factor as given, in ascending order.

    Raises:
        ValueError: If the data are empty, or an argument is not as above.

    Example:
        >>> factors = np.stack(np.meshgrid([0, 4, 8], [0, 1], indexing="ij"), -1).reshape(-1, 2)
        >>> data = FactorData(factors.astype("float32"), factors, ["angle", "shape"])
        >>> len(data), data.factor_sizes, data.is_full_factorial
        (6, (3, 2), True)
        >>> data.find([[2, 1]])
        array([5])
        >>> data.observations_at([5])
        array([[8., 1.]], dtype=float32)
    """

    def __init__(self, observations: Any, factors: Any, names: Sequence[str] | None = None):
        self.observations = np.asarray(observations)
        given = _checked_factors(np.asarray(factors), self.observations)
        self.names = _checked_names(names, given.shape[1])
        numbered = [np.unique(column, return_inverse=True) for column in given.T]
        for name, (values, _) in zip(self.names, numbered, strict=True):
            if len(values) < 2:
                rule = f"must hold at least two values of every factor, and of {name!r} hold one"
                raise checks.invalid("factors", rule, values)
        self.values = tuple(values for values, _ in numbered)
        self.factors = np.stack([numbers.reshape(-1) for _, numbers in numbered], axis=1)
        if math.prod(self.factor_sizes) > np.iinfo(np.int64).max:
            rule = "must have less than 2^63 combinations of values"
            raise ValueError(f"Argument `factors` {rule}. Received: {self.factor_sizes} values")
        # For each factor, the positions sorted by its value, so that equal values are adjacent.
        self._sorted = [np.argsort(column, kind="stable") for column in self.factors.T]
        self._counts = [np.bincount(column) for column in self.factors.T]
        # Each combination of values as a single number, and the positions sorted by it.
        combinations = np.ravel_multi_index(tuple(self.factors.T), self.factor_sizes)
        self._by_combination = np.argsort(combinations, kind="stable")
        self._combinations = combinations[self._by_combination]

    def __len__(self) -> int:
        return len(self.factors)

    @property
    def num_factors(self) -> int:
        """Number of factors, K."""
        return len(self.names)

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        """Number of values of each factor."""
        return tuple(len(values) for values in self.values)

    @property
    def is_full_factorial(self) -> bool:
        """Whether every combination of values occurs exactly once."""
        distinct = len(np.unique(self._combinations))
        return distinct == len(self) == math.prod(self.factor_sizes)

    def observations_at(self, positions: Any) -> np.ndarray:
        """Returns the observations `[B, *E]` at positions `[B]`; integers become float32."""
        observations = self.observations[np.asarray(positions)]
        is_float = observations.dtype.kind == "f"
        return observations if is_float else observations.astype(np.float32)

    def sample(self, size: int | tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """Draws positions uniformly, with replacement.

        Args:
            size: Number of draws, or their shape.
            rng: Generator for the draws.

        Returns:
            Integers of that shape, the positions of observations.
        """
        return rng.integers(len(self), size=size)

    def sample_sharing(self, factor: int, values: Any, rng: np.random.Generator) -> np.ndarray:
        """Draws, for each given value of a factor, a position uniformly among those that have it.

        Args:
            factor: Number of the factor.
            values: Numbers of values of that factor, of any shape.
            rng: Generator for the draws.

        Returns:
            Integers of the shape of `values`, the positions of observations.

        Raises:
            ValueError: If there is no such factor, or the factor has no such value.
        """
        factor = checks.integer("factor", factor, 0)
        if factor >= self.num_factors:
            raise checks.invalid("factor", f"must be < {self.num_factors}, their number", factor)
        values = self._checked_values(values, factor)
        counts = self._counts[factor]
        starts = np.cumsum(counts) - counts
        return self._sorted[factor][starts[values] + rng.integers(counts[values])]

    def find(self, factors: Any, rng: np.random.Generator | None = None) -> np.ndarray:
        """Returns positions of observations with these factors.

        Args:
            factors: Numbers of values, `[B, K]`.
            rng: Generator that chooses among several observations with the same factors; None
                takes the first.

        Returns:
            Integers `[B]`, the positions of observations.

        Raises:
            ValueError: If a factor has no such value, or no observation has these factors.
        """
        factors = np.asarray(factors)
        if factors.ndim != 2 or factors.shape[1] != self.num_factors:
            rule = f"must have shape [B, {self.num_factors}], a value of every factor"
            raise checks.invalid("factors", rule, factors.shape)
        columns = [self._checked_values(column, k) for k, column in enumerate(factors.T)]
        wanted = np.ravel_multi_index(tuple(columns), self.factor_sizes)
        first = np.searchsorted(self._combinations, wanted, "left")
        counts = np.searchsorted(self._combinations, wanted, "right") - first
        if not counts.all():
            rule = f"must be those of an observation, of which the {len(self)} have none with these"
            raise checks.invalid("factors", rule, factors[np.argmin(counts)].tolist())
        chosen = 0 if rng is None else rng.integers(counts)
        return self._by_combination[first + chosen]

    def _checked_values(self, values: Any, factor: int) -> np.ndarray:
        values, size = np.asarray(values), self.factor_sizes[factor]
        if values.dtype.kind not in "iu" or np.any(values < 0) or np.any(values >= size):
            rule = f"must be integers >= 0 and < {size}, the values of {self.names[factor]!r}"
            raise checks.invalid("values", rule, values)
        return values


def _checked_factors(factors: np.ndarray, observations: np.ndarray) -> np.ndarray:
    if not observations.ndim or not len(observations):
        rule = "must hold at least one observation, [N, ...]"
        raise checks.invalid("observations", rule, observations)
    if factors.ndim != 2 or len(factors) != len(observations) or not factors.shape[1]:
        rule = f"must have shape [{len(observations)}, K], a row for every observation"
        raise ValueError(f"Argument `factors` {rule}. Received: shape={factors.shape}")
    if factors.dtype.kind not in "iu":
        raise checks.invalid("factors", "must be integers", factors.dtype)
    return factors


def _checked_names(names: Sequence[str] | None, number: int) -> tuple[str, ...]:
    if names is None:
        return tuple(f"factor_{k}" for k in range(number))
    are_names = not isinstance(names, str) and all(isinstance(name, str) for name in names)
    if not are_names or len(names) != number or len(set(names)) != number:
        raise checks.invalid("names", f"must be {number} different names, one a factor", names)
    return tuple(names)
