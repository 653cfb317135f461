"""The mutual information gap."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_vae.core import checks
from keras_vae.data import FactorData
from keras_vae.evaluation.disentanglement import information
from keras_vae.evaluation.disentanglement.code_table import code_table, several_dimensions


@dataclasses.dataclass(frozen=True)
class MutualInformationGap:
    """How much more one of D dimensions informs about each of K factors than any other does.

    Attributes:
        score: Mean gap over the factors, in [0, 1].
        per_factor: The gaps, `[K]`.
        mutual_information: Information of each discretized dimension about each factor, `[D, K]`,
            in nats.
        entropy: Entropy of each factor in the sample, `[K]`, in nats.
    """

    score: float
    per_factor: np.ndarray = dataclasses.field(repr=False)
    mutual_information: np.ndarray = dataclasses.field(repr=False)
    entropy: np.ndarray = dataclasses.field(repr=False)


def mutual_information_gap(
    representation: Any,
    data: FactorData,
    seed: int = 0,
    *,
    num_train: int = 10000,
    num_bins: int = 20,
    verbose: bool = True,
) -> MutualInformationGap:
    """Measures how much more one dimension informs about a factor than any other dimension does.

    MIG = 1/K sum_k [max_d I(z_d; v_k) - second max_d I(z_d; v_k)] / H(v_k)

    The information is that in the sample, between factors and codes in bins of equal width.

    Args:
        representation: Deterministic function from observations `[B, *E]` to codes `[B, D]`, or a
            `VAE`, for the means of its posterior; D >= 2.
        data: Observations with their factors.
        seed: Integer >= 0.
        num_train: Number of observations drawn.
        num_bins: Number of bins for each dimension.
        verbose: Whether to show progress if it takes long.

    Returns:
        A `MutualInformationGap`.

    Raises:
        ValueError: If there are fewer observations than bins, a number is out of range, or the
            representation does not return finite codes `[B, D]`.

    Example:
        >>> import keras_vae as kv
        >>> factors = np.stack(np.meshgrid(range(5), range(4), indexing="ij"), -1).reshape(-1, 2)
        >>> data = kv.data.FactorData(factors.astype("float32"), factors)
        >>> mutual_information_gap(lambda x: x, data).score > 0.99
        True

    References:
        Chen et al., 2018, eq. 6, arXiv:1802.04942; Locatello et al., 2019, section 4,
        arXiv:1811.12359 (protocol).
    """
    rng = np.random.default_rng(checks.integer("seed", seed, 0))
    table = code_table(representation, data, verbose)
    codes, factors, shared = information.sampled_information(table, num_train, num_bins, rng)
    several_dimensions(codes)
    entropy = information.entropies(factors)
    per_factor = information.gap(shared) / entropy
    return MutualInformationGap(float(np.mean(per_factor)), per_factor, shared, entropy)
