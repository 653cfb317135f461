"""The disentanglement score of the FactorVAE's authors."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_vae.core import checks
from keras_vae.data import FactorData
from keras_vae.evaluation.disentanglement.code_table import CodeTable, code_table
from keras_vae.evaluation.disentanglement.voting import fixed_factors, for_each_point


@dataclasses.dataclass(frozen=True)
class FactorVAEScore:
    """How well the dimension that varies least tells which factor a batch shares.

    Attributes:
        score: Accuracy of the majority vote on the evaluation batches; 0 if there is no active
            dimension.
        train_accuracy: Accuracy on the training batches.
        votes: Number of training batches by least-varying dimension and fixed factor, `[D, K]`.
        active: Whether each dimension varies enough to take part, `[D]`.
    """

    score: float
    train_accuracy: float
    votes: np.ndarray = dataclasses.field(repr=False)
    active: np.ndarray = dataclasses.field(repr=False)


def factor_vae_score(
    representation: Any,
    data: FactorData,
    seed: int = 0,
    *,
    batch_size: int = 64,
    num_train: int = 10000,
    num_eval: int = 5000,
    num_variance_estimate: int = 10000,
    min_stddev: float = 0.05,
    verbose: bool = True,
) -> FactorVAEScore:
    """Measures how well the dimension that varies least tells which factor a batch shares.

    d = argmin_d Var_l(z_d(a_l)) / Var(z_d),  v_k(a_l) the same for all l
    score = share of batches with k = argmax_k votes_dk

    The observations of a batch share the value of one randomly drawn factor. The votes come from
    the training batches, the score from further batches. Dimensions that hardly vary at all are
    left out.

    Args:
        representation: Deterministic function from observations `[B, *E]` to codes `[B, D]`, or a
            `VAE`, for the means of its posterior.
        data: Observations with their factors.
        seed: Integer >= 0.
        batch_size: Number of observations in a batch, >= 2.
        num_train: Number of training batches.
        num_eval: Number of evaluation batches.
        num_variance_estimate: Number of observations used to estimate Var(z_d), >= 2.
        min_stddev: Standard deviation that a dimension must reach to take part. The released code
            of the protocol compares it with 0.05, while its paper mentions a variance of 0.05,
            which is `min_stddev=0.05**0.5`.
        verbose: Whether to show progress if it takes long.

    Returns:
        A `FactorVAEScore`.

    Raises:
        ValueError: If a number is out of range, or the representation does not return finite
            codes `[B, D]`.

    Example:
        >>> import keras_vae as kv
        >>> factors = np.stack(np.meshgrid(range(5), range(4), indexing="ij"), -1).reshape(-1, 2)
        >>> data = kv.data.FactorData(factors.astype("float32"), factors)
        >>> factor_vae_score(lambda x: x, data, num_train=500, num_eval=100).score
        1.0

    References:
        Kim and Mnih, 2018, section 4, arXiv:1802.05983; Locatello et al., 2019, section 4,
        arXiv:1811.12359 (protocol).
    """
    rng = np.random.default_rng(checks.integer("seed", seed, 0))
    batch_size = checks.integer("batch_size", batch_size, 2)
    num_train = checks.integer("num_train", num_train)
    num_eval = checks.integer("num_eval", num_eval)
    number = checks.integer("num_variance_estimate", num_variance_estimate, 2)
    min_stddev = checks.number("min_stddev", min_stddev, 0.0)
    table = code_table(representation, data, verbose)
    variances = np.var(table(table.data.sample(number, rng)), axis=0, ddof=1)
    # A constant has no variance to divide by, whatever the threshold.
    active = (np.sqrt(variances) >= min_stddev) & (variances > 0.0)
    if not active.any():
        votes = np.zeros([len(active), data.num_factors], np.int64)
        return FactorVAEScore(0.0, 0.0, votes, active)
    variances = np.where(active, variances, np.inf)
    train, evaluation = (
        _votes(table, variances, batch_size, size, rng) for size in (num_train, num_eval)
    )
    winners = (np.arange(len(active)), np.argmax(train, axis=1))
    score, train_accuracy = (float(v[winners].sum() / v.sum()) for v in (evaluation, train))
    return FactorVAEScore(score, train_accuracy, train, active)


def _votes(
    table: CodeTable, variances: np.ndarray, batch_size: int, number: int, rng: np.random.Generator
) -> np.ndarray:
    """Returns how often each dimension varies least when each factor is fixed, `[D, K]`."""
    data = table.data
    labels = rng.integers(data.num_factors, size=number)
    values = data.factors[data.sample(number, rng), labels]  # [P]
    spread = np.repeat(values[:, None], batch_size, axis=1)  # [P, L]
    batches = fixed_factors(data, labels, spread, rng)
    local = for_each_point(table, batches, lambda z: np.var(z, axis=1, ddof=1))  # [P, D]
    # 0 / inf would make an inactive dimension the least-varying one.
    ratios = np.where(np.isinf(variances), np.inf, local / variances)
    votes = np.zeros([len(variances), data.num_factors], np.int64)
    np.add.at(votes, (np.argmin(ratios, axis=1), labels), 1)
    return votes
