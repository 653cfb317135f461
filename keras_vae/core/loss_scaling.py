"""Optimizers under loss scaling."""

from __future__ import annotations

from typing import Any


def without_loss_scaling(optimizer: Any) -> Any:
    """Returns the optimizer that a `LossScaleOptimizer` wraps, and any other one unchanged."""
    return getattr(optimizer, "inner_optimizer", optimizer)
