"""Up again and again."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.schedules import curves
from keras_vae.schedules.base import Schedule

SHAPES = ("triangular", "cosine", "half_cosine", "ramp_and_hold")
AMPLITUDES = ("constant", "halving", "exponential")


@serializable
class Cyclical(Schedule):
    """Cycles between `low` and `high`.

    value(t) = low + (high - low) * a(t) * s((t mod period) / period)

    The shapes, with x in [0, 1) the place in the cycle:

    - `"triangular"`: s(x) = 1 - |2x - 1|, up in the first half and down in the second;
    - `"cosine"`: s(x) = (1 + cos(pi (2x - 1))) / 2, likewise, without corners;
    - `"half_cosine"`: s(x) = (1 - cos(pi x)) / 2, up over the whole period, then back at once;
    - `"ramp_and_hold"`: s(x) = min(1, x / ramp), up, then at the top until the period ends.

    The amplitude a(t) of cycle c = floor(t / period) is 1, or `"halving"`: 2^-c, or
    `"exponential"`: decay^t.

    Args:
        low: Value at the start of a cycle.
        high: Value at the top of a cycle, >= low.
        period: Number of steps of a cycle, >= 2. Of a triangle this is twice the `step_size` of
            Smith, 2017.
        shape: `"triangular"`, `"cosine"`, `"half_cosine"` or `"ramp_and_hold"`.
        ramp: Fraction of the period that the ramp of `"ramp_and_hold"` takes, in (0, 1].
        amplitude: `"constant"`, `"halving"` or `"exponential"`.
        decay: Factor of the amplitude per step if it is `"exponential"`, in (0, 1].
        cycles: Number of cycles, or None for no end. From step `cycles * period` on the value stays
            at `high`, as β should after its annealing; if the amplitude shrinks, as that of a
            learning rate does, it stays at `low` instead, where it was going.

    Example:
        >>> rate = Cyclical(0.001, 0.01, period=4000)
        >>> [round(float(rate(t)), 4) for t in (0, 1000, 2000, 3000, 4000)]
        [0.001, 0.0055, 0.01, 0.0055, 0.001]
        >>> beta = Cyclical(0.0, 1.0, period=8, shape="ramp_and_hold", cycles=4)
        >>> [float(beta(t)) for t in (0, 2, 4, 7, 8, 31, 32, 100)]
        [0.0, 0.5, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0]

    References:
        Fu et al., 2019, arXiv:1903.10145 (cyclical annealing of the KL weight, with a ramp
        of half a period); Smith, 2017, section 3, arXiv:1506.01186 (cyclical learning rates).
    """

    def __init__(
        self,
        low: float,
        high: float,
        period: int,
        shape: str = "triangular",
        *,
        ramp: float = 0.5,
        amplitude: str = "constant",
        decay: float = 0.99994,
        cycles: int | None = None,
    ):
        self.low = checks.number("low", low)
        self.high = checks.number("high", high)
        if self.high < self.low:
            raise checks.invalid("high", f"must be >= low={self.low}", high)
        self.period = checks.integer("period", period, minimum=2)
        self.shape = checks.option("shape", shape, SHAPES)
        self.ramp = _fraction("ramp", ramp)
        self.amplitude = checks.option("amplitude", amplitude, AMPLITUDES)
        self.decay = _fraction("decay", decay)
        self.cycles = None if cycles is None else checks.integer("cycles", cycles)

    def value_at(self, t: tf.Tensor) -> tf.Tensor:
        # Whole numbers, because a rounded quotient could end a cycle one step early or late.
        whole = tf.cast(tf.floor(t), tf.int64)
        cycle = tf.cast(whole // self.period, t.dtype)
        place = tf.cast(whole % self.period, t.dtype) + (t - tf.floor(t))  # in [0, period)
        height = self._amplitude(t, cycle) * self._height(place)
        value = self.low * (1.0 - height) + self.high * height
        if self.cycles is None:
            return value
        final = self.high if self.amplitude == "constant" else self.low
        return tf.where(cycle < self.cycles, value, final)

    def _height(self, place: tf.Tensor) -> tf.Tensor:
        """Returns s at a place in the cycle, counted in steps."""
        if self.shape == "half_cosine":
            return curves.cosine(place / self.period)
        if self.shape == "ramp_and_hold":
            return tf.minimum(place / (self.ramp * self.period), 1.0)
        triangle = tf.minimum(place, self.period - place) / (0.5 * self.period)
        return curves.cosine(triangle) if self.shape == "cosine" else triangle

    def _amplitude(self, t: tf.Tensor, cycle: tf.Tensor) -> tf.Tensor:
        if self.amplitude == "halving":
            return tf.exp(-math.log(2.0) * cycle)
        if self.amplitude == "exponential":
            return tf.exp(math.log(self.decay) * t)
        return tf.ones_like(t)

    def get_config(self) -> dict[str, Any]:
        names = ("low", "high", "period", "shape", "ramp", "amplitude", "decay", "cycles")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _fraction(argument: str, value: Any) -> float:
    checks.number(argument, value, 0.0, 1.0)
    return checks.number(argument, value, 0.0, exclusive=True)
