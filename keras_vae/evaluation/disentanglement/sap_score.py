"""The separated attribute predictability score."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_vae.core import checks
from keras_vae.data import FactorData
from keras_vae.evaluation.disentanglement.code_table import code_table, draw, several_dimensions
from keras_vae.evaluation.disentanglement.information import gap
from keras_vae.evaluation.reading import with_progress

# Variances below this are those of a constant.
_CONSTANT = 1e-12


@dataclasses.dataclass(frozen=True)
class SAPScore:
    """How much better one of D dimensions predicts each of K factors than any other does.

    Attributes:
        score: Mean gap over the factors, in [0, 1].
        per_factor: The gaps, `[K]`.
        predictability: How well each dimension predicts each factor, `[D, K]`: the accuracy of a
            classifier, or the squared correlation for continuous factors.
    """

    score: float
    per_factor: np.ndarray = dataclasses.field(repr=False)
    predictability: np.ndarray = dataclasses.field(repr=False)


def sap_score(
    representation: Any,
    data: FactorData,
    seed: int = 0,
    *,
    num_train: int = 10000,
    num_eval: int = 5000,
    regularization: float = 0.01,
    continuous_factors: bool = False,
    verbose: bool = True,
) -> SAPScore:
    """Measures how much better one dimension predicts a factor than any other dimension does.

    SAP = 1/K sum_k [max_d S_dk - second max_d S_dk]

    S_dk is the accuracy, on further observations, of a linear support vector machine that predicts
    factor k from dimension d alone, with balanced classes; for continuous factors, it is the
    squared correlation.

    Args:
        representation: Deterministic function from observations `[B, *E]` to codes `[B, D]`, or a
            `VAE`, for the means of its posterior; D >= 2.
        data: Observations with their factors.
        seed: Integer >= 0.
        num_train: Number of observations drawn to train the classifiers.
        num_eval: Number of observations drawn to evaluate the classifiers.
        regularization: C of the support vector machines, the weight of errors, > 0.
        continuous_factors: Whether the values of a factor are quantities rather than classes.
        verbose: Whether to show progress if it takes long.

    Returns:
        A `SAPScore`.

    Raises:
        ValueError: If a number is out of range, or the representation does not return finite
            codes `[B, D]`.

    Example:
        >>> import keras_vae as kv
        >>> factors = np.stack(np.meshgrid([0, 1], [0, 1], indexing="ij"), -1).reshape(-1, 2)
        >>> data = kv.data.FactorData(factors.astype("float32"), factors)
        >>> sap_score(lambda x: x, data, num_train=1000, num_eval=1000).predictability.round(1)
        array([[1. , 0.5],
               [0.5, 1. ]])

    References:
        Kumar et al., 2018, section 3, arXiv:1711.00848; Locatello et al., 2019, section 4,
        arXiv:1811.12359 (protocol).
    """
    rng = np.random.default_rng(checks.integer("seed", seed, 0))
    num_train = checks.integer("num_train", num_train)
    num_eval = checks.integer("num_eval", num_eval)
    regularization = checks.number("regularization", regularization, 0.0, exclusive=True)
    checks.flag("continuous_factors", continuous_factors)
    table = code_table(representation, data, verbose)
    codes, factors = draw(table, num_train, rng)
    several_dimensions(codes)
    if continuous_factors:
        predictability = _squared_correlations(codes, factors)
    else:
        eval_positions = table.data.sample(num_eval, rng)
        evaluation = table(eval_positions), table.data.factors[eval_positions]
        rows = _accuracies((codes, factors), evaluation, regularization)
        predictability = np.array(list(with_progress(rows, codes.shape[1], verbose, "dimension")))
    per_factor = gap(predictability)
    return SAPScore(float(np.mean(per_factor)), per_factor, predictability)


def _accuracies(
    train: tuple[np.ndarray, np.ndarray], evaluation: tuple[np.ndarray, np.ndarray], c: float
) -> Any:
    """Yields, for each dimension, the accuracies `[K]` of classifiers that use it."""
    from sklearn.svm import LinearSVC

    (codes, factors), (eval_codes, eval_factors) = train, evaluation
    for column, eval_column in zip(codes.T[..., None], eval_codes.T[..., None], strict=True):
        accuracies = []
        for factor, eval_factor in zip(factors.T, eval_factors.T, strict=True):
            # Solve in the primal: it has the same optimum, without the noise of coordinate descent.
            machine = LinearSVC(C=c, class_weight="balanced", dual=False).fit(column, factor)
            accuracies.append(np.mean(machine.predict(eval_column) == eval_factor))
        yield accuracies


def _squared_correlations(codes: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Returns the squared correlations `[D, K]`, which are 0 for constants."""
    codes, factors = codes - codes.mean(axis=0), factors - factors.mean(axis=0)
    size = len(codes) - 1
    covariances = codes.T @ factors / size
    variances = np.sum(codes**2, axis=0)[:, None] / size
    correlations = covariances**2 / np.maximum(variances, _CONSTANT)
    correlations /= np.sum(factors**2, axis=0) / size
    return np.where(variances > _CONSTANT, correlations, 0.0)
