"""Modularity and explicitness."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_vae.core import checks
from keras_vae.data import FactorData
from keras_vae.evaluation.disentanglement import information
from keras_vae.evaluation.disentanglement.code_table import code_table, draw
from keras_vae.evaluation.disentanglement.linear import CLASSIFIERS, linear_classifier
from keras_vae.evaluation.reading import with_progress


@dataclasses.dataclass(frozen=True)
class Modularity:
    """Whether each dimension informs about one factor, and how well linear classifiers read them.

    Attributes:
        score: Modularity, the mean over the dimensions, in [0, 1].
        explicitness: Mean area under the ROC curve of the classifiers on the evaluation sample;
            0.5 is chance.
        explicitness_train: The same on the training sample.
        per_dimension: Modularity of each dimension, `[D]`; 0 if it informs about no factor.
        mutual_information: Information of each discretized dimension about each factor, `[D, K]`,
            in nats.
    """

    score: float
    explicitness: float
    explicitness_train: float
    per_dimension: np.ndarray = dataclasses.field(repr=False)
    mutual_information: np.ndarray = dataclasses.field(repr=False)


def modularity(
    representation: Any,
    data: FactorData,
    seed: int = 0,
    *,
    num_train: int = 10000,
    num_eval: int = 5000,
    num_bins: int = 20,
    classifier: str = "multinomial",
    verbose: bool = True,
) -> Modularity:
    """Measures whether each dimension informs about a single factor only.

    modularity = 1/D sum_d [1 - sum_{k != k_d} I_dk^2 / ((K - 1) I_dk_d^2)],  k_d = argmax_k I_dk

    I_dk is the information between factor k and dimension d in bins of equal width. Explicitness is
    the area under the ROC curve of a logistic regression from the standardized codes to each
    factor, averaged over the factor's values, each against the rest, and over the factors. The
    regression covers all values at once; published scores, made with disentanglement_lib, use one
    value against the rest (`"one_vs_rest"`), which gives slightly different numbers.

    Args:
        representation: Deterministic function from observations `[B, *E]` to codes `[B, D]`, or a
            `VAE`, for the means of its posterior.
        data: Observations with their factors.
        seed: Integer >= 0.
        num_train: Number of observations drawn for the information and the classifiers.
        num_eval: Number of observations drawn to evaluate the classifiers.
        num_bins: Number of bins for each dimension.
        classifier: `"multinomial"`, a logistic regression over all classes at once; or
            `"one_vs_rest"`, one regression for each class against the others by liblinear, as in
            published scores.
        verbose: Whether to show progress if it takes long.

    Returns:
        A `Modularity`.

    Raises:
        ValueError: If there are fewer observations than bins, a number is out of range, or the
            representation does not return finite codes `[B, D]`.

    Example:
        >>> import keras_vae as kv
        >>> factors = np.stack(np.meshgrid(range(5), range(4), indexing="ij"), -1).reshape(-1, 2)
        >>> data = kv.data.FactorData(factors.astype("float32"), factors)
        >>> modularity(lambda x: x, data, num_train=2000, num_eval=500).score > 0.99
        True

    References:
        Ridgeway and Mozer, 2018, section 3, arXiv:1802.05312; Locatello et al., 2019, section 4,
        arXiv:1811.12359 (protocol).
    """
    rng = np.random.default_rng(checks.integer("seed", seed, 0))
    num_eval = checks.integer("num_eval", num_eval)
    checks.option("classifier", classifier, CLASSIFIERS)
    table = code_table(representation, data, verbose)
    codes, factors, shared = information.sampled_information(table, num_train, num_bins, rng)
    eval_codes, eval_factors = draw(table, num_eval, rng, "num_eval")
    mean, deviation = codes.mean(axis=0), codes.std(axis=0)
    deviation[deviation == 0.0] = 1.0  # For constant dimensions.
    codes, eval_codes = (codes - mean) / deviation, (eval_codes - mean) / deviation
    columns = zip(factors.T, eval_factors.T, strict=True)
    areas = []
    for factor, eval_factor in with_progress(columns, data.num_factors, verbose, "factor"):
        fitted = linear_classifier(classifier).fit(codes, factor)
        areas.append([_area(fitted, codes, factor), _area(fitted, eval_codes, eval_factor)])
    train, evaluated = np.mean(areas, axis=0)
    per_dimension = modularities(shared)
    score = float(np.mean(per_dimension))
    return Modularity(score, float(evaluated), float(train), per_dimension, shared)


def modularities(shared: np.ndarray) -> np.ndarray:
    """Returns the modularity `[D]` of dimensions, given their information `[D, K]` about factors.

    Example:
        >>> modularities(np.array([[2.0, 0.0], [2.0, 1.0], [2.0, 2.0], [0.0, 0.0]]))
        array([1.  , 0.75, 0.  , 0.  ])
    """
    squares = np.square(shared)
    largest = squares.max(axis=1)
    rest = (squares.sum(axis=1) - largest) / (shared.shape[1] - 1)
    return np.where(largest > 0.0, 1.0 - rest / np.where(largest > 0.0, largest, 1.0), 0.0)


def _area(fitted: Any, codes: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean area under the ROC curves of each class against the rest.

    The mean is taken over the classes that occur among the labels.
    """
    from sklearn.metrics import roc_auc_score

    columns = zip(fitted.classes_, fitted.predict_proba(codes).T, strict=True)
    areas = [roc_auc_score(labels == c, p) for c, p in columns if np.any(labels == c)]
    return float(np.mean(areas))
