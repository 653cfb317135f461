"""The disentanglement score of the beta-VAE's authors."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_vae.core import checks
from keras_vae.data import FactorData
from keras_vae.evaluation.disentanglement.code_table import CodeTable, code_table
from keras_vae.evaluation.disentanglement.linear import CLASSIFIERS, linear_classifier
from keras_vae.evaluation.disentanglement.voting import fixed_factors, for_each_point


@dataclasses.dataclass(frozen=True)
class BetaVAEScore:
    """How well a linear classifier tells which factor pairs of observations share.

    Attributes:
        score: Accuracy on the evaluation points; 1 / K is chance with K factors.
        train_accuracy: Accuracy on the training points.
        differences: Absolute differences between the codes of pairs, averaged over the evaluation
            points of each factor, `[K, D]`; small where a dimension depends on that factor.
    """

    score: float
    train_accuracy: float
    differences: np.ndarray = dataclasses.field(repr=False)


def beta_vae_score(
    representation: Any,
    data: FactorData,
    seed: int = 0,
    *,
    batch_size: int = 64,
    num_train: int = 10000,
    num_eval: int = 5000,
    classifier: str = "multinomial",
    verbose: bool = True,
) -> BetaVAEScore:
    """Measures how well a linear classifier tells which factor pairs of observations share.

    x = 1/L sum_l |z(a_l) - z(b_l)|,  v_k(a_l) = v_k(b_l);  score = accuracy of x -> k

    A point is the mean over L pairs, each of which shares the value of the same randomly drawn
    factor. The classifier is a logistic regression over all factors at once; published scores, made
    with disentanglement_lib, use one factor against the rest (`"one_vs_rest"`).

    Args:
        representation: Deterministic function from observations `[B, *E]` to codes `[B, D]`, or a
            `VAE`, for the means of its posterior.
        data: Observations with their factors.
        seed: Integer >= 0.
        batch_size: Number L of pairs per point.
        num_train: Number of points to train the classifier on.
        num_eval: Number of points to evaluate it on.
        classifier: `"multinomial"`, a logistic regression over all classes at once; or
            `"one_vs_rest"`, one regression for each class against the others by liblinear, as in
            published scores.
        verbose: Whether to show progress if it takes long.

    Returns:
        A `BetaVAEScore`.

    Raises:
        ValueError: If a number is out of range, or the representation does not return finite
            codes `[B, D]`.

    Example:
        >>> import keras_vae as kv
        >>> factors = np.stack(np.meshgrid(range(5), range(4), indexing="ij"), -1).reshape(-1, 2)
        >>> data = kv.data.FactorData(factors.astype("float32"), factors)
        >>> beta_vae_score(lambda x: x, data, num_train=500, num_eval=100).score
        1.0

    References:
        Higgins et al., 2017, section 3; Locatello et al., 2019, section 4, arXiv:1811.12359
        (protocol).
    """
    rng = np.random.default_rng(checks.integer("seed", seed, 0))
    batch_size = checks.integer("batch_size", batch_size)
    num_train = checks.integer("num_train", num_train)
    num_eval = checks.integer("num_eval", num_eval)
    checks.option("classifier", classifier, CLASSIFIERS)
    table = code_table(representation, data, verbose)
    points, labels = _points(table, batch_size, num_train, rng)
    if len(np.unique(labels)) < 2:
        rule = "must be so large that two factors are drawn"
        raise checks.invalid("num_train", rule, num_train)
    fitted = linear_classifier(classifier).fit(points, labels)
    eval_points, eval_labels = _points(table, batch_size, num_eval, rng)
    return BetaVAEScore(
        score=float(np.mean(fitted.predict(eval_points) == eval_labels)),
        train_accuracy=float(np.mean(fitted.predict(points) == labels)),
        differences=_means_by_label(eval_points, eval_labels, data.num_factors),
    )


def _points(
    table: CodeTable, batch_size: int, number: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean absolute differences `[P, D]`, and the factor `[P]` that each fixes."""
    data = table.data
    first = data.sample((number, batch_size), rng)
    labels = rng.integers(data.num_factors, size=number)
    values = data.factors[first, labels[:, None]]  # [P, L]
    second = fixed_factors(data, labels, values, rng)
    pairs = np.stack([first, second], axis=1)  # [P, 2, L]
    differences = for_each_point(table, pairs, lambda z: np.abs(z[:, 0] - z[:, 1]).mean(axis=1))
    return differences, labels


def _means_by_label(points: np.ndarray, labels: np.ndarray, number: int) -> np.ndarray:
    """Returns the mean of the points `[P, D]` with each label, `[K, D]`; NaN if there are none."""
    sums = np.zeros([number, points.shape[1]])
    np.add.at(sums, labels, points)
    counts = np.bincount(labels, minlength=number)[:, None]
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
