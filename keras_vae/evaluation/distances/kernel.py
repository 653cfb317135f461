"""The kernel distance between the features of real and generated data."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_vae.core import checks
from keras_vae.evaluation.distances.features import both_streams
from keras_vae.evaluation.reading import with_progress

_LARGEST_SUBSET = 1000  # The default, as in Binkowski et al.


@dataclasses.dataclass(frozen=True)
class KernelDistance:
    """A squared maximum mean discrepancy, estimated without bias; it may be negative.

    Attributes:
        distance: Mean over the subsets.
        standard_error: Standard error of `distance` over new real and generated data of these
            sizes, by the jackknife that leaves out all but a subset. It is too large, up to a few
            times, if the distributions are nearly equal or one set is larger than the other. NaN if
            a subset is a whole set, or there is only one subset.
        subset_standard_error: Standard error of `distance` over other choices of subsets from the
            same data; more subsets make it arbitrarily small.
        subset_standard_deviation: Standard deviation over the subsets, `subset_standard_error`
            times sqrt(num_subsets). It is what torch-fidelity and the MMD-GAN code print after +-
            (with the divisor num_subsets instead of num_subsets - 1), but it is not a standard
            error.
        subset_size: Number of examples in a subset of either set.
        per_subset: The estimate from every subset, `[num_subsets]`.
    """

    distance: float
    standard_error: float
    subset_standard_error: float
    subset_standard_deviation: float
    subset_size: int
    per_subset: np.ndarray = dataclasses.field(repr=False)


def kernel_distance(
    real: Any,
    generated: Any,
    features: Any = None,
    *,
    num_subsets: int = 100,
    subset_size: int | None = None,
    seed: int = 0,
    batch_size: int = 128,
    verbose: bool = True,
) -> KernelDistance:
    """Measures how far generated data are from real data, by the means of a polynomial kernel.

    MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)
    k(x, y) = (x.y / F + 1)^3

    With the features of an Inception network, this is known as KID. Unlike the Fréchet distance, it
    has no bias: its expectation is the same for any number of examples, and zero for equal
    distributions. The features of all examples are kept in memory.

    Args:
        real: Array `[N, ...]`, or dataset of batches as `fit` takes it.
        generated: The same, with as many features.
        features: Function from images `[B, H, W, C]` to features `[B, F]`, e.g. a Keras model.
            None: the data, flattened, are the features; images (all but arrays `[N, F]`) are
            divided by the largest absolute value of the real ones, whatever unit they come in.
        num_subsets: Number of random subsets over which the estimate is averaged.
        subset_size: Number of examples from each set in a subset, drawn without replacement, >= 2.
            None: 1000, but at most half of the smaller set.
        seed: Integer >= 0, for the choice of subsets.
        batch_size: Number of examples to process at once, if the data are arrays.
        verbose: Whether to show a progress bar if it takes long.

    Returns:
        A `KernelDistance`.

    Raises:
        ValueError: If a number is out of range, a subset is larger than a set, a set has fewer than
            2 examples, or the features are not finite `[B, F]` with the same F.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(200, 4))
        >>> result = kernel_distance(x[:100], x[100:] + 3.0)
        >>> result.subset_size, result.distance > 10.0 * result.standard_error
        (50, True)

    References:
        Binkowski et al., 2018, section 4, arXiv:1801.01401; Gretton et al., 2012, eq. 3 (unbiased
        MMD^2); Shao & Wu, 1989 (jackknife that leaves out more than one).
    """
    num_subsets = checks.integer("num_subsets", num_subsets)
    seed = checks.integer("seed", seed, 0)
    if subset_size is not None:
        subset_size = checks.integer("subset_size", subset_size, 2)
    streams = both_streams(real, generated, features, batch_size, verbose)
    for stream in streams:
        _check_size(stream.name, stream.length, subset_size)
    x, y = (stream.collect() for stream in streams)
    for stream, found in zip(streams, (x, y), strict=True):
        _check_size(stream.name, len(found), subset_size)
    unit = streams[0].unit
    size = subset_size or max(2, min(_LARGEST_SUBSET, len(x) // 2, len(y) // 2))
    return mean_over_subsets(x / unit, y / unit, num_subsets, size, seed, verbose)


def mean_over_subsets(
    x: np.ndarray, y: np.ndarray, num_subsets: int, size: int, seed: int, verbose: bool
) -> KernelDistance:
    """Returns the distance between features `[N, F]` and `[M, F]`, over subsets of both."""
    rng = np.random.default_rng(seed)
    estimates = (
        unbiased_mmd2(_subset(x, size, rng), _subset(y, size, rng)) for _ in range(num_subsets)
    )
    values = np.array([*with_progress(estimates, num_subsets, verbose, "subset")])
    variance = float(np.var(values, ddof=1)) if num_subsets > 1 else np.nan
    left_out = min(len(x), len(y)) - size
    # Var(mean over all subsets) is estimated by their variance times size / left_out.
    over_data = variance * size / left_out if left_out else np.nan
    return KernelDistance(
        distance=float(np.mean(values)),
        standard_error=float(np.sqrt(over_data + variance / num_subsets)),
        subset_standard_error=float(np.sqrt(variance / num_subsets)),
        subset_standard_deviation=float(np.sqrt(variance)),
        subset_size=size,
        per_subset=values,
    )


def unbiased_mmd2(x: np.ndarray, y: np.ndarray) -> float:
    """Returns the unbiased MMD^2 of features `[N, F]` and `[M, F]` under the cubic kernel."""
    within = _mean_of_others(_kernel(x, x)) + _mean_of_others(_kernel(y, y))
    return within - 2.0 * float(np.mean(_kernel(x, y)))


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    base = x @ y.T / x.shape[1] + 1.0
    return np.asarray(base * base * base)


def _mean_of_others(kernel: np.ndarray) -> float:
    count = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (count * (count - 1)))


def _subset(rows: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    return rows[rng.choice(len(rows), size, replace=False, shuffle=False)]


def _check_size(name: str, count: int | None, subset_size: int | None) -> None:
    if count is None:
        return
    if count < 2:
        rule = "must hold at least 2 examples, for a kernel between them"
        raise ValueError(f"Argument `{name}` {rule}. Received: {count}")
    if subset_size is not None and subset_size > count:
        rule = f"must be <= {count}, the number of examples of `{name}`"
        raise checks.invalid("subset_size", rule, subset_size)
