"""Finds the objective of a model that a callback works on."""

from __future__ import annotations

from typing import Any, TypeVar

from keras_vae.core import checks
from keras_vae.objectives import Objective

Kind = TypeVar("Kind", bound=Objective)


def objective_of(model: Any, kind: type[Kind]) -> Kind:
    """Returns the objective of a model, or one wrapped inside it, that is of the given kind.

    Raises:
        ValueError: If there is none.
    """
    given = objective = getattr(model, "objective", None)
    while objective is not None and not isinstance(objective, kind):
        objective = getattr(objective, "objective", None)
    if objective is None:
        needed = f"must have a keras_vae.objectives.{kind.__name__} as its objective"
        raise checks.invalid("model", needed, given)
    return objective
