"""Where a pipeline comes from: which data, in which order; so that it can be told again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

_ATTRIBUTE = "_keras_vae_origin"


def mark(dataset: tf.data.Dataset, facts: Mapping[str, Any]) -> tf.data.Dataset:
    """Returns a pipeline that remembers its facts, which `of` returns.

    The batches of an epoch must follow from the facts and the number of the epoch.
    """
    setattr(dataset, _ATTRIBUTE, dict(facts))
    return dataset


def of(dataset: Any) -> dict[str, Any] | None:
    """Returns the facts of a pipeline; None of any other, also of one that was made of it."""
    return getattr(dataset, _ATTRIBUTE, None)
