"""Distances between all pairs of two sets of features, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# How many numbers are in one block of distances, which takes 32 MiB.
_BLOCK = 2**22
# Squared distances below this fraction of the squared norms are rounding errors.
_ROUNDING = 1e-13


def num_blocks(x: np.ndarray, y: np.ndarray) -> int:
    """Returns how many blocks `squared_distances` yields."""
    return -(-len(x) // _rows(y))


def squared_distances(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields rows of x, and their squared distances to all of y.

    Args:
        x: Features `[N, F]`, centred near zero so that no precision is lost.
        y: Features `[M, F]`.

    Yields:
        Slice of b rows, and their distances `[b, M]`, which are exactly zero between equal points.

    Example:
        >>> x = np.array([[0.0, 0.0], [3.0, 4.0]])
        >>> [found.tolist() for _, found in squared_distances(x, x)]
        [[[0.0, 25.0], [25.0, 0.0]]]
    """
    y_norms = np.square(y).sum(axis=1)
    for start in range(0, len(x), _rows(y)):
        rows = slice(start, min(start + _rows(y), len(x)))
        norms = np.square(x[rows]).sum(axis=1)[:, None] + y_norms
        found = norms - 2.0 * (x[rows] @ y.T)
        found[found < _ROUNDING * norms] = 0.0
        yield rows, found


def squared_radii(x: np.ndarray, k: int) -> Iterator[np.ndarray]:
    """Yields, block by block, the squared distances to the k-th nearest other point of the set.

    Example:
        >>> np.concatenate(list(squared_radii(np.array([[0.0], [1.0], [3.0]]), k=1))).tolist()
        [1.0, 1.0, 4.0]
    """
    for rows, found in squared_distances(x, x):
        # Exclude it by its index: among equal points, the nearest need not be the point itself.
        found[np.arange(len(found)), np.arange(rows.start, rows.stop)] = np.inf
        # Copy, as a view of one column would keep the whole block in memory.
        yield np.partition(found, k - 1, axis=1)[:, k - 1].copy()


def _rows(y: np.ndarray) -> int:
    return max(1, _BLOCK // len(y))
