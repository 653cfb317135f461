"""Mean and covariance of features, in one pass and with constant memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_vae.core import checks
from keras_vae.evaluation.distances.features import FeatureStream, feature_stream


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """Mean and covariance of the features of a data set.

    Attributes:
        mean: Mean, `[F]`.
        covariance: Covariance with the divisor N - 1, `[F, F]`.
        count: Number N of examples.

    Raises:
        ValueError: If the shapes do not match, an entry is not finite, the covariance is not
            symmetric, or there are fewer than 2 examples.

    Example:
        >>> Moments(mean=np.zeros(2), covariance=np.eye(2), count=50_000).count
        50000
    """

    mean: np.ndarray = dataclasses.field(repr=False)
    covariance: np.ndarray = dataclasses.field(repr=False)
    count: int

    def __post_init__(self) -> None:
        mean = np.asarray(self.mean, np.float64)
        covariance = np.asarray(self.covariance, np.float64)
        if mean.ndim != 1 or not mean.size or not np.isfinite(mean).all():
            raise checks.invalid("mean", "must be finite numbers [F]", self.mean)
        size = len(mean)
        if covariance.shape != (size, size) or not np.isfinite(covariance).all():
            rule = f"must be finite numbers of shape {(size, size)}, as `mean` has {size}"
            raise checks.invalid("covariance", rule, self.covariance)
        if not np.allclose(covariance, covariance.T, atol=1e-6 * np.abs(covariance).max()):
            raise checks.invalid("covariance", "must be symmetric", self.covariance)
        checks.integer("count", self.count, 2)
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "covariance", covariance)

    def divided_by(self, unit: float) -> Moments:
        """Returns the moments of the features in another unit."""
        if unit == 1.0:
            return self
        return Moments(self.mean / unit, self.covariance / unit**2, self.count)


def feature_moments(
    data: Any, features: Any = None, *, batch_size: int = 128, verbose: bool = True
) -> Moments:
    """Computes the mean and covariance of the features of a data set.

    m = mean_n f_n,  C = sum_n (f_n - m) (f_n - m)^T / (N - 1)

    This takes one pass over the data, in float64, and memory for F x F numbers. To compare many
    models with the same real data, compute the moments of the real data only once.

    Args:
        data: Array `[N, ...]`, or dataset of batches as `fit` takes it.
        features: Function from images `[B, H, W, C]` to features `[B, F]`, e.g. a Keras model.
            None: the data, flattened, are the features, in their own units.
        batch_size: Number of examples to process at once, if `data` is an array.
        verbose: Whether to show a progress bar if it takes long.

    Returns:
        `Moments`.

    Raises:
        ValueError: If there are fewer than 2 examples, or their features are not finite `[B, F]`.

    Example:
        >>> moments = feature_moments(np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]]))
        >>> moments.mean.tolist(), moments.covariance.tolist()
        ([2.0, 1.0], [[4.0, 0.0], [0.0, 0.0]])

    References:
        Chan et al., 1983, eq. 2.1 (moments of two parts from those of each).
    """
    return moments_of(feature_stream("data", data, features, batch_size, verbose))


def moments_of(stream: FeatureStream) -> Moments:
    """Returns the moments of a stream of features."""
    reason = "which a covariance needs"
    stream.require(2, reason)
    mean, scatter, count = _merged(stream.parts, stream.size)
    stream.require(2, reason, count)
    return Moments(mean, scatter / (count - 1), count)


def _merged(parts: Iterable[np.ndarray], size: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Returns the mean, the sum of squares about it, and the number of all examples."""
    mean, scatter, count = np.zeros(size), np.zeros((size, size)), 0
    for part in parts:
        # Everything is centred before it is squared, so a large mean costs no precision.
        shift = part.mean(axis=0) - mean
        total = count + len(part)
        between = np.sqrt(count * len(part) / total) * shift
        rows = np.vstack([part - part.mean(axis=0), between])
        scatter += rows.T @ rows
        mean = mean + shift * (len(part) / total)
        count = total
    return mean, scatter, count
