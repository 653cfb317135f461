"""The codes of observations, each computed only once, and samples of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_vae.core import checks
from keras_vae.data import FactorData
from keras_vae.evaluation.reading import check_noise, check_vectors, checked_vae, with_progress
from keras_vae.models import LatentVariableModel

# Number of observations that are encoded at once.
_BATCH = 256


class CodeTable:
    """The codes of a data set under a deterministic representation, computed when first needed.

    The protocols of the metrics ask for up to two million codes, many more than most data sets have
    observations.

    Args:
        representation: Function from observations `[B, *E]` to codes `[B, D]`, or a `VAE`, for
            the means of its posterior.
        data: The observations and their factors.
        verbose: Whether to show progress when encoding or fitting takes long.
    """

    def __init__(self, representation: Any, data: FactorData, verbose: bool = True):
        if not isinstance(data, FactorData):
            raise checks.invalid("data", "must be a keras_vae.data.FactorData", data)
        if data.num_factors < 2:
            raise checks.invalid("data", "must have at least two factors", data.names)
        self.data = data
        self.verbose = checks.flag("verbose", verbose)
        self._encode = _encoder(representation)
        self._known = np.zeros(len(data), bool)
        self._codes: np.ndarray | None = None

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Returns the codes `[..., D]`, float64, of the observations at positions `[...]`."""
        missing = np.unique(positions)
        missing = missing[~self._known[missing]]
        starts = range(0, len(missing), _BATCH)
        for start in with_progress(starts, len(starts), self.verbose):
            self._fill(missing[start : start + _BATCH])
        assert self._codes is not None
        return self._codes[positions]

    def _fill(self, positions: np.ndarray) -> None:
        codes = np.asarray(self._encode(self.data.observations_at(positions)), np.float64)
        wanted = "D" if self._codes is None else self._codes.shape[1]
        fits = codes.ndim == 2 and codes.size and wanted in ("D", codes.shape[1])
        if not fits or len(codes) != len(positions):
            raise ValueError(
                f"Argument `representation` must return codes of shape [{len(positions)}, {wanted}]"
                f" for as many observations. Received: shape={codes.shape}"
            )
        finite = np.isfinite(codes).all(axis=1)
        if not finite.all():
            bad = np.argmin(finite)
            rule = f"must return finite codes, also for observation {positions[bad]}"
            raise checks.invalid("representation", rule, codes[bad])
        if self._codes is None:
            self._codes = np.zeros([len(self.data), codes.shape[1]])
        self._codes[positions], self._known[positions] = codes, True


def code_table(representation: Any, data: Any, verbose: bool) -> CodeTable:
    """Returns the table of a representation, or the table itself if one was given instead."""
    if isinstance(representation, CodeTable):
        return representation
    return CodeTable(representation, data, verbose)


def draw(
    table: CodeTable, size: int, rng: np.random.Generator, argument: str = "num_train"
) -> tuple[np.ndarray, np.ndarray]:
    """Draws observations uniformly, and returns their codes `[N, D]` and factors `[N, K]`.

    Raises:
        ValueError: If a factor has only one value in the sample; the error names `argument`, which
            set the sample's size.
    """
    positions = table.data.sample(size, rng)
    factors = table.data.factors[positions]
    if np.any(np.all(factors == factors[0], axis=0)):
        rule = "must be so large that two values of every factor are drawn"
        raise checks.invalid(argument, rule, size)
    return table(positions), factors


def several_dimensions(codes: np.ndarray) -> np.ndarray:
    """Returns the codes `[N, D]`, or raises unless D >= 2, as one leaves nothing to compare."""
    if codes.shape[-1] < 2:
        rule = "must return codes [B, D] with D >= 2 for this metric"
        raise ValueError(f"Argument `representation` {rule}. Received: D={codes.shape[-1]}")
    return codes


def _encoder(representation: Any) -> Callable[[np.ndarray], Any]:
    if isinstance(representation, LatentVariableModel):
        model = checked_vae(representation)
        check_noise(model, "codes are names, in which a factor is not more or less")
        check_vectors(model, "a factor is looked for in single dimensions, not in places of a map")
        return lambda x: _flat(model.posterior_head.mean(model.encode(x)).numpy())
    if not callable(representation):
        rule = "must be a function from observations to codes, or a VAE"
        raise checks.invalid("representation", rule, representation)
    return representation


def _flat(means: np.ndarray) -> np.ndarray:
    """Returns means of any event shape as `[B, D]`."""
    return means.reshape(len(means), -1)
