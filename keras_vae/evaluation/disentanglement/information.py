"""Mutual information of discretized codes and factors, and the gap between the two largest."""

from __future__ import annotations

import numpy as np

from keras_vae.core import checks
from keras_vae.evaluation.disentanglement.code_table import CodeTable, draw


def sampled_information(
    table: CodeTable, num_train: int, num_bins: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws a sample, and returns its codes `[N, D]`, factors `[N, K]` and information `[D, K]`.

    Raises:
        ValueError: If there are fewer observations, in the data or in the sample, than bins.
    """
    num_bins = checks.integer("num_bins", num_bins, 2)
    num_train = checks.integer("num_train", num_train)
    if num_train < num_bins:
        rule = f"must be >= {num_bins}, the number of bins"
        raise checks.invalid("num_train", rule, num_train)
    if len(table.data) < num_bins:
        rule = f"must hold at least {num_bins} observations, the number of bins"
        raise ValueError(f"Argument `data` {rule}. Received: {len(table.data)} observations")
    codes, factors = draw(table, num_train, rng)
    return codes, factors, mutual_information(discretize(codes, num_bins), factors)


def discretize(codes: np.ndarray, num_bins: int) -> np.ndarray:
    """Returns the bin indices of codes, for bins of equal width from the smallest to the largest.

    Args:
        codes: Array `[N, D]`.
        num_bins: Number of bins for every dimension.

    Returns:
        Integers `[N, D]` >= 0 and < num_bins. The largest code is in the last bin; a constant
        dimension has a single bin.

    Example:
        >>> discretize(np.array([[0.0], [0.4], [0.6], [1.0]]), 2).ravel()
        array([0, 0, 1, 1])
    """
    edges = np.linspace(codes.min(axis=0), codes.max(axis=0), num_bins + 1)[:-1]  # [bins, D]
    columns = [np.digitize(c, e) - 1 for c, e in zip(codes.T, edges.T, strict=True)]
    return np.stack(columns, axis=1)


def mutual_information(bins: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Returns the mutual information of every pair of a discrete code and a factor in the sample.

    I_dk = sum_b sum_v p(b, v) log [p(b, v) / (p(b) p(v))]

    Args:
        bins: Integers >= 0, `[N, D]`.
        factors: Integers >= 0, `[N, K]`.

    Returns:
        Array `[D, K]`, in nats.

    Example:
        >>> halves = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
        >>> mutual_information(halves, halves).round(3)
        array([[0.693, 0.   ],
               [0.   , 0.693]])
    """
    rows = [[_information(bin_, factor) for factor in factors.T] for bin_ in bins.T]
    return np.array(rows)


def entropies(factors: np.ndarray) -> np.ndarray:
    """Returns the entropy of every factor in the sample `[N, K]`, as `[K]`, in nats."""
    return np.array([_information(factor, factor) for factor in factors.T])


def gap(matrix: np.ndarray) -> np.ndarray:
    """Returns the largest minus the second largest value of each column of `[D, K]`, as `[K]`.

    Example:
        >>> gap(np.array([[0.9, 0.1], [0.5, 0.7], [0.2, 0.7]]))
        array([0.4, 0. ])
    """
    second, first = np.sort(matrix, axis=0)[-2:]
    return first - second


def _information(a: np.ndarray, b: np.ndarray) -> float:
    size = int(b.max()) + 1
    counts = np.bincount(a * size + b, minlength=(int(a.max()) + 1) * size)
    joint = counts.reshape(-1, size) / len(a)
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    seen = joint > 0.0
    # Rounding must not make it negative: the information about a constant is exactly zero.
    return max(0.0, float(np.sum(joint[seen] * np.log(joint[seen] / independent[seen]))))
