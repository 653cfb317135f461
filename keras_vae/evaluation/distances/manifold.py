"""Precision, recall, density and coverage of generated data."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_vae.core import checks
from keras_vae.evaluation.distances.features import both_streams
from keras_vae.evaluation.distances.neighbours import num_blocks, squared_distances, squared_radii
from keras_vae.evaluation.reading import with_progress

# A point whose squared distance equals the squared radius to this precision is on the rim.
_ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class ManifoldScores:
    """How generated data lie among real data, judged by balls to the k-th nearest neighbour.

    Attributes:
        precision: Fraction of the generated examples inside the ball of any real one.
        recall: Fraction of the real examples inside the ball of any generated one.
        density: Mean number of real balls that contain a generated example, divided by k; about 1
            for equal distributions, but not bounded by 1.
        coverage: Fraction of the real balls with a generated example inside.
        k: Which neighbour of the same set the balls reach to.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    k: int


def manifold_scores(
    real: Any,
    generated: Any,
    features: Any = None,
    *,
    k: int = 5,
    closed: bool = False,
    batch_size: int = 128,
    verbose: bool = True,
) -> ManifoldScores:
    """Measures separately whether generated data look real and whether they are as diverse.

    precision = mean_j 1[y_j in any B(x_i)],  recall = mean_i 1[x_i in any B(y_j)]
    density = 1/(k M) sum_j sum_i 1[y_j in B(x_i)],  coverage = mean_i 1[any y_j in B(x_i)]

    B(x_i) is the ball around a real example that reaches to its k-th nearest other real example,
    and B(y_j) likewise around a generated example, among the generated ones. A point on the rim is
    outside (distance < radius), as in the code of Naeem et al., or, with `closed=True`, inside
    (<=), as in that of Kynkaanniemi et al. A point at the centre is inside in either case, even in
    a ball of radius zero, which a point with k copies has; in the code of Naeem et al. such a ball
    is empty. The rules differ only if distances are tied, as between discrete features. An outlier
    among the real data has a large ball and raises precision, and one among the generated data
    raises recall; density and coverage suffer less. The features of all examples are kept in
    memory, the distances in blocks.

    Args:
        real: Array `[N, ...]`, or dataset of batches as `fit` takes it.
        generated: The same, M examples with as many features.
        features: Function from images `[B, H, W, C]` to features `[B, F]`, e.g. a Keras model.
            None: the data, flattened, are the features; their unit does not matter.
        k: Which neighbour the balls reach to, >= 1.
        closed: Whether a point on the rim of a ball is inside.
        batch_size: Number of examples to process at once, if the data are arrays.
        verbose: Whether to show a progress bar if it takes long.

    Returns:
        `ManifoldScores`.

    Raises:
        ValueError: If a set has fewer than k + 1 examples, or the features are not finite `[B, F]`
            with the same F.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(100, 2))
        >>> manifold_scores(x, x + 100.0)
        ManifoldScores(precision=0.0, recall=0.0, density=0.0, coverage=0.0, k=5)

    References:
        Kynkaanniemi et al., 2019, eqs. 1-2, arXiv:1904.06991 (precision, recall); Naeem et al.,
        2020, section 3, arXiv:2002.09797 (density, coverage).
    """
    k = checks.integer("k", k)
    checks.flag("closed", closed)
    streams = both_streams(real, generated, features, batch_size, verbose)
    reason = f"each with {k} others to be neighbours"
    for stream in streams:
        stream.require(k + 1, reason)
    x, y = (stream.collect() for stream in streams)
    for stream, found in zip(streams, (x, y), strict=True):
        stream.require(k + 1, reason, len(found))
    centre = x.mean(axis=0)
    return _scores(x - centre, y - centre, k, closed, verbose)


def _scores(x: np.ndarray, y: np.ndarray, k: int, closed: bool, verbose: bool) -> ManifoldScores:
    rim = 1.0 + _ROUNDING if closed else 1.0 - _ROUNDING
    real_radii, generated_radii = (
        rim
        * np.concatenate([*with_progress(squared_radii(z, k), num_blocks(z, z), verbose, "block")])
        for z in (x, y)
    )
    precise, covered, recalled, balls = np.zeros(len(y), bool), [], [], 0
    for rows, found in with_progress(squared_distances(x, y), num_blocks(x, y), verbose, "block"):
        in_real = _inside(found, real_radii[rows, None])  # [b, M]
        precise |= in_real.any(axis=0)
        covered.append(in_real.any(axis=1))
        recalled.append(_inside(found, generated_radii).any(axis=1))
        balls += int(in_real.sum())
    return ManifoldScores(
        precision=float(precise.mean()),
        recall=float(np.concatenate(recalled).mean()),
        density=balls / (k * len(y)),
        coverage=float(np.concatenate(covered).mean()),
        k=k,
    )


def _inside(distances: np.ndarray, radii: np.ndarray) -> np.ndarray:
    return np.asarray((distances < radii) | (distances == 0.0))
