"""Disentanglement, completeness and informativeness."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_vae.core import checks
from keras_vae.data import FactorData
from keras_vae.evaluation.disentanglement.code_table import code_table, draw, several_dimensions
from keras_vae.evaluation.reading import with_progress


@dataclasses.dataclass(frozen=True)
class DCI:
    """What boosted trees use to predict K factors from D dimensions, and how well they do.

    Attributes:
        disentanglement: How far each dimension matters for only one factor, in [0, 1].
        completeness: How far only one dimension matters for each factor, in [0, 1].
        informativeness: Mean accuracy of the predictions on the evaluation sample.
        informativeness_train: The same on the training sample.
        importance: Importance of each dimension for each factor, `[D, K]`; columns sum to one, or
            to zero if no dimension is informative about the factor.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    informativeness_train: float
    importance: np.ndarray = dataclasses.field(repr=False)


def dci(
    representation: Any,
    data: FactorData,
    seed: int = 0,
    *,
    num_train: int = 10000,
    num_eval: int = 5000,
    num_trees: int = 100,
    verbose: bool = True,
) -> DCI:
    """Measures disentanglement, completeness and informativeness with boosted trees.

    disentanglement = sum_d w_d [1 - H_K(R_d.)],  completeness = sum_k w_k [1 - H_D(R_.k)]

    R_dk is the importance of dimension d in gradient boosted trees that predict factor k from the
    codes. H_K is the entropy, to the base K, of a row of R divided by its sum, and H_D, to the base
    D, that of a column. The weights are the shares of the rows and the columns in the sum of R.
    Informativeness is the accuracy of the predictions.

    Args:
        representation: Deterministic function from observations `[B, *E]` to codes `[B, D]`, or a
            `VAE`, for the means of its posterior; D >= 2.
        data: Observations with their factors.
        seed: Integer >= 0.
        num_train: Number of observations drawn to train the trees.
        num_eval: Number of observations drawn to evaluate them.
        num_trees: Number of boosting stages, each with a tree of depth 3 for each value of a
            factor.
        verbose: Whether to show progress if it takes long.

    Returns:
        A `DCI`.

    Raises:
        ValueError: If a number is out of range, or the representation does not return finite
            codes `[B, D]`.

    Example:
        >>> import keras_vae as kv
        >>> factors = np.stack(np.meshgrid(range(5), range(4), indexing="ij"), -1).reshape(-1, 2)
        >>> data = kv.data.FactorData(factors.astype("float32"), factors)
        >>> result = dci(lambda x: x, data, num_train=500, num_eval=100, num_trees=10)
        >>> result.disentanglement > 0.99, result.completeness > 0.99, result.informativeness
        (True, True, 1.0)

    References:
        Eastwood and Williams, 2018, section 2; Locatello et al., 2019, section 4,
        arXiv:1811.12359 (protocol).
    """
    rng = np.random.default_rng(checks.integer("seed", seed, 0))
    num_train = checks.integer("num_train", num_train)
    num_eval = checks.integer("num_eval", num_eval)
    num_trees = checks.integer("num_trees", num_trees)
    table = code_table(representation, data, verbose)
    codes, factors = draw(table, num_train, rng)
    several_dimensions(codes)
    positions = table.data.sample(num_eval, rng)
    eval_codes, eval_factors = table(positions), table.data.factors[positions]
    columns, accuracies = [], []
    pairs = zip(factors.T, eval_factors.T, strict=True)
    for factor, eval_factor in with_progress(pairs, data.num_factors, verbose, "factor"):
        trees = _trees(codes, factor, num_trees, rng)
        columns.append(np.abs(trees.feature_importances_))
        samples = ((codes, factor), (eval_codes, eval_factor))
        accuracies.append([np.mean(trees.predict(x) == labels) for x, labels in samples])
    importance = np.stack(columns, axis=1)
    train, evaluated = np.mean(accuracies, axis=0)
    return DCI(
        disentanglement=concentration(importance),
        completeness=concentration(importance.T),
        informativeness=float(evaluated),
        informativeness_train=float(train),
        importance=importance,
    )


def concentration(importance: np.ndarray) -> float:
    """Returns how concentrated the rows of a matrix `[R, C]` are, weighted by their sums.

    It is 1 if every row has a single entry, and 0 if all entries within each row are equal.

    Example:
        >>> concentration(np.eye(3)), concentration(np.ones([3, 3]))
        (1.0, 0.0)
    """
    sums = importance.sum(axis=1)
    rows = importance[sums > 0.0] / sums[sums > 0.0, None]
    if not len(rows):
        return 0.0
    logs = np.log(np.where(rows > 0.0, rows, 1.0)) / np.log(importance.shape[1])
    per_row = 1.0 + np.sum(rows * logs, axis=1)
    return float(np.average(per_row, weights=sums[sums > 0.0]))


def _trees(codes: np.ndarray, factor: np.ndarray, num_trees: int, rng: np.random.Generator) -> Any:
    from sklearn.ensemble import GradientBoostingClassifier

    trees = GradientBoostingClassifier(
        n_estimators=num_trees, random_state=int(rng.integers(2**32))
    )
    return trees.fit(codes, factor)
