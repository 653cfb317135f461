"""The Fréchet distance extrapolated to infinitely many generated examples."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_vae.core import checks
from keras_vae.evaluation.distances.features import both_streams
from keras_vae.evaluation.distances.frechet import frechet_between_moments
from keras_vae.evaluation.distances.moments import Moments, moments_of
from keras_vae.evaluation.reading import with_progress


@dataclasses.dataclass(frozen=True)
class FrechetExtrapolation:
    """Fréchet distances at increasing numbers of examples, and their limit.

    Attributes:
        distance: The distance at infinitely many generated examples; noise may make it negative.
        slope: Bias of the distance at N generated examples, times N.
        sizes: Numbers of generated examples that were tried, `[S]`.
        distances: The distance at each of them, `[S]`.
    """

    distance: float
    slope: float
    sizes: np.ndarray = dataclasses.field(repr=False)
    distances: np.ndarray = dataclasses.field(repr=False)


def frechet_at_infinity(
    real: Any,
    generated: Any,
    features: Any = None,
    *,
    num_sizes: int = 15,
    smallest: int | None = None,
    seed: int = 0,
    batch_size: int = 128,
    verbose: bool = True,
) -> FrechetExtrapolation:
    """Removes the bias of the Fréchet distance due to the number of generated examples.

    d^2(N) = d^2(infinity) + slope / N,  fitted to random subsets of N generated examples

    The bias due to the number of real examples remains, but it is the same for all models that are
    compared with the same real data. The features of the generated examples are kept in memory.

    Args:
        real: Array `[N, ...]`, or dataset of batches as `fit` takes it.
        generated: The same, with as many features.
        features: Function from images `[B, H, W, C]` to features `[B, F]`, e.g. a Keras model.
            None: the data, flattened, are the features; images (all but arrays `[N, F]`) are
            divided by the largest absolute value of the real ones, whatever unit they come in.
        num_sizes: Number of subsets, >= 2, whose sizes are evenly spaced from `smallest` to all.
        smallest: Size of the smallest subset, > F. None: a tenth of all, or 2 F if that is more.
        seed: Integer >= 0, for the choice of subsets.
        batch_size: Number of examples to process at once, if the data are arrays.
        verbose: Whether to show a progress bar if it takes long.

    Returns:
        A `FrechetExtrapolation`.

    Raises:
        ValueError: If a number is out of range, there are too few examples for subsets of more
            than F, or the features are not finite `[B, F]` with the same F.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(3000, 20))
        >>> result = frechet_at_infinity(x[:2000], x[2000:])
        >>> bool(abs(result.distance) < 0.5 * result.distances[-1]), result.sizes[[0, -1]].tolist()
        (True, [100, 1000])

    References:
        Chong & Forsyth, 2020, section 3, arXiv:1911.07023.
    """
    num_sizes = checks.integer("num_sizes", num_sizes, 2)
    seed = checks.integer("seed", seed, 0)
    if smallest is not None:
        smallest = checks.integer("smallest", smallest, 2)
    streams = both_streams(real, generated, features, batch_size, verbose)
    for stream in streams:
        stream.require(2, "which a covariance needs")
    size, length = streams[1].size, streams[1].length
    if length is not None:
        _sizes(length, size, num_sizes, smallest)
    real_moments = moments_of(streams[0])
    unit = streams[0].unit
    real_moments, rows = real_moments.divided_by(unit), streams[1].collect() / unit
    sizes = _sizes(len(rows), size, num_sizes, smallest)
    rng = np.random.default_rng(seed)
    subsets = (rows[rng.choice(len(rows), n, replace=False, shuffle=False)] for n in sizes)
    found = (frechet_between_moments(real_moments, _moments(subset)).distance for subset in subsets)
    distances = np.array([*with_progress(found, num_sizes, verbose, "subset")])
    slope, distance = np.polyfit(1.0 / sizes, distances, 1)
    return FrechetExtrapolation(float(distance), float(slope), sizes, distances)


def _moments(rows: np.ndarray) -> Moments:
    centred = rows - rows.mean(axis=0)
    return Moments(rows.mean(axis=0), centred.T @ centred / (len(rows) - 1), len(rows))


def _sizes(count: int, features: int, num_sizes: int, smallest: int | None) -> np.ndarray:
    """Returns the sizes of the subsets, or raises if there are too few examples."""
    low = max(2 * features, count // 10) if smallest is None else smallest
    if low <= features:
        raise checks.invalid("smallest", f"must be > {features}, the number of features", smallest)
    # With fewer, 1 / N hardly varies.
    if count < 2 * low:
        rule = f"must hold at least {2 * low} examples, twice the smallest subset of them"
        raise ValueError(f"Argument `generated` {rule}. Received: {count}")
    return np.linspace(low, count, num_sizes).round().astype(int)
