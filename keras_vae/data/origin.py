"""Records where a pipeline comes from: which data, in which order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

_ATTRIBUTE = "_keras_vae_origin"


def mark(dataset: tf.data.Dataset, facts: Mapping[str, Any]) -> tf.data.Dataset:
    """Marks a pipeline with facts, which `of` returns, and returns it.

    The batches of an epoch must be determined by the facts and the epoch number.
    """
    setattr(dataset, _ATTRIBUTE, dict(facts))
    return dataset


def of(dataset: Any) -> dict[str, Any] | None:
    """Returns the facts of a marked pipeline, or None for any other, even one derived from it."""
    return getattr(dataset, _ATTRIBUTE, None)
