"""A learning rate that goes up and down."""

from __future__ import annotations

from typing import Any

from keras_vae.callbacks.hyperparameter_schedule import HyperparameterSchedule
from keras_vae.core import checks
from keras_vae.schedules import Cyclical


class CyclicalLearningRate(HyperparameterSchedule):
    """Drives the learning rate in cycles between two values.

    value at step t = base_lr + (max_lr - base_lr) * a(t) * s((t mod 2 step_size) / (2 step_size))

    t is `optimizer.iterations`, so a second or a resumed training continues the cycle. The rate
    appears in the logs as `learning_rate`.

    Args:
        base_lr: Rate at the start of a cycle, > 0.
        max_lr: Rate at the top of a cycle, >= base_lr.
        step_size: Number of optimizer steps in half a cycle, >= 1; 2 to 8 epochs are usual.
        shape: s, one of the shapes of `keras_vae.schedules.Cyclical`.
        amplitude: a, `"constant"`, `"halving"` or `"exponential"` (triangular, triangular2 and
            exp_range of the paper).
        **kwargs: Passed on to `keras_vae.schedules.Cyclical`: `ramp`, `decay`, `cycles`.

    Raises:
        ValueError: If an argument is out of range; at the start of `fit`, if something else sets
            the learning rate.

    Example:
        >>> callback = CyclicalLearningRate(1e-3, 1e-2, step_size=2000)
        >>> [round(float(callback.schedule(t)), 4) for t in (0, 1000, 2000, 3000, 4000)]
        [0.001, 0.0055, 0.01, 0.0055, 0.001]

    References:
        Smith, 2017, section 3, arXiv:1506.01186.
    """

    def __init__(
        self,
        base_lr: float,
        max_lr: float,
        step_size: int,
        shape: str = "triangular",
        amplitude: str = "constant",
        **kwargs: Any,
    ):
        base = checks.number("base_lr", base_lr, 0.0, exclusive=True)
        top = checks.number("max_lr", max_lr, base)
        period = 2 * checks.integer("step_size", step_size)
        schedule = Cyclical(base, top, period, shape, amplitude=amplitude, **kwargs)
        super().__init__("learning_rate", schedule)
