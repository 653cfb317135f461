"""The Fréchet distance between the features of real and generated data."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np

from keras_vae.core import checks
from keras_vae.evaluation.distances.features import both_streams
from keras_vae.evaluation.distances.moments import Moments, moments_of


@dataclasses.dataclass(frozen=True)
class FrechetDistance:
    """A squared Fréchet distance, in squared units of the features.

    Attributes:
        distance: The sum of the two terms.
        mean_term: |m1 - m2|^2.
        covariance_term: tr(C1 + C2 - 2 (C1 C2)^(1/2)), >= 0.
        num_real: Number of real examples.
        num_generated: Number of generated examples.
    """

    distance: float
    mean_term: float
    covariance_term: float
    num_real: int
    num_generated: int


def frechet_distance(
    real: Any,
    generated: Any,
    features: Any = None,
    *,
    batch_size: int = 128,
    verbose: bool = True,
) -> FrechetDistance:
    """Measures how far generated data are from real data, as Gaussians in a feature space.

    d^2 = |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))

    Here m and C are the mean and the covariance of the features. With the features of an Inception
    network, this is known as FID. Fewer examples give larger distances, and more so the more
    features there are, so compare values only at the same number of examples and with the same
    features. The memory does not depend on the number of examples.

    Args:
        real: Array `[N, ...]`, or dataset of batches as `fit` takes it.
        generated: The same, with as many features.
        features: Function from images `[B, H, W, C]` to features `[B, F]`, e.g. a Keras model.
            None: the data, flattened, are the features; images (all but arrays `[N, F]`) are
            divided by the largest absolute value of the real ones, whatever unit they come in.
        batch_size: Number of examples to process at once, if the data are arrays.
        verbose: Whether to show a progress bar if it takes long.

    Returns:
        A `FrechetDistance`. There is a warning if a set has no more examples than features.

    Raises:
        ValueError: If a set has fewer than 2 examples, or the features are not finite `[B, F]`
            with the same F.

    Example:
        >>> x = np.array([[-1.0], [1.0], [-1.0], [1.0]])
        >>> round(frechet_distance(x, 2.0 * x + 3.0).distance, 6)  # 3^2 + (2 - 1)^2 * 4/3
        10.333333

    References:
        Heusel et al., 2017, eq. 6, arXiv:1706.08500; Dowson & Landau, 1982, eq. 4 (Gaussians);
        Chong & Forsyth, 2020, arXiv:1911.07023 (bias).
    """
    streams = both_streams(real, generated, features, batch_size, verbose)
    for stream in streams:
        stream.require(2, "which a covariance needs")
    moments = [moments_of(stream) for stream in streams]
    for stream, found in zip(streams, moments, strict=True):
        if found.count <= stream.size:
            warnings.warn(
                f"`{stream.name}` has {found.count} examples for {stream.size} features: its "
                "covariance is singular, and the distance is biased upwards. Take more examples, "
                "or kernel_distance, which has no bias.",
                stacklevel=2,
            )
    return frechet_between_moments(*(found.divided_by(streams[0].unit) for found in moments))


def frechet_between_moments(real: Moments, generated: Moments) -> FrechetDistance:
    """Computes the Fréchet distance of two Gaussians from their moments.

    d^2 = |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))

    With C1 = A A^T and C2 = B B^T, tr((C1 C2)^(1/2)) is the sum of the singular values of A^T B.
    This is exact even for singular covariances, is never complex, and does not take the square root
    of a rounding error.

    Args:
        real: Moments of the real data, computed by `feature_moments` or published.
        generated: Moments of the generated data, with as many features.

    Returns:
        A `FrechetDistance`.

    Raises:
        ValueError: If the numbers of features differ, or a covariance is not positive
            semi-definite.

    Example:
        >>> from keras_vae.evaluation import Moments
        >>> one = Moments(mean=[0.0, 0.0], covariance=np.diag([1.0, 4.0]), count=100)
        >>> two = Moments(mean=[3.0, 0.0], covariance=np.diag([4.0, 0.0]), count=100)
        >>> frechet_between_moments(one, two).distance  # 3^2 + (1 - 2)^2 + (2 - 0)^2
        14.0

    References:
        Dowson & Landau, 1982, eq. 4.
    """
    checks.instance("real", real, Moments)
    checks.instance("generated", generated, Moments)
    if len(real.mean) != len(generated.mean):
        rule = f"must have as many features as `real`, {len(real.mean)}"
        raise ValueError(f"Argument `generated` {rule}. Received: {len(generated.mean)}")
    difference = real.mean - generated.mean
    mean_term = float(difference @ difference)
    cross = _factor("real", real.covariance).T @ _factor("generated", generated.covariance)
    root = np.sum(np.linalg.svd(cross, compute_uv=False)) if cross.size else 0.0
    total = np.trace(real.covariance) + np.trace(generated.covariance)
    # For equal covariances, rounding may make this negative.
    covariance_term = max(float(total - 2.0 * root), 0.0)
    distance = mean_term + covariance_term
    return FrechetDistance(distance, mean_term, covariance_term, real.count, generated.count)


def _factor(name: str, covariance: np.ndarray) -> np.ndarray:
    """Returns A `[F, rank]` with A A^T = C."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2.0)
    rounding = len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    # Published covariances are often rounded to float32.
    if values[0] < -max(rounding, 1e-6 * values[-1]):
        raise checks.invalid(name, "must have a covariance without negative eigenvalues", values[0])
    # The square root of a rounding error would be a million times as large.
    kept = values > rounding
    return np.asarray(vectors[:, kept] * np.sqrt(values[kept]))
