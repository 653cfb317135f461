"""The linear classifiers that the scores use."""

from __future__ import annotations

from typing import Any

CLASSIFIERS = ("multinomial", "one_vs_rest")


def linear_classifier(kind: str) -> Any:
    """Returns a logistic regression of scikit-learn, not yet fitted.

    Args:
        kind: `"multinomial"`, one regression over all classes; or `"one_vs_rest"`, one regression
            for each class against all others, solved by liblinear, which also regularizes the
            intercepts. The latter was the default of scikit-learn before version 0.22, and
            therefore the one behind published scores.

    Example:
        >>> classifier = linear_classifier("one_vs_rest").fit([[0.0], [1.0], [2.0]], [0, 1, 2])
        >>> classifier.predict([[-1.0], [3.0]]).tolist()
        [0, 2]
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    if kind == "one_vs_rest":
        return OneVsRestClassifier(LogisticRegression(solver="liblinear"))
    return LogisticRegression(max_iter=1000)
