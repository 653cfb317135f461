"""Schedules that rise and fall: cycles, and the one-cycle policy for rate and momentum."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.schedules import curves
from keras_vae.schedules.base import Schedule
from keras_vae.schedules.curves import CURVES, between

SHAPES = ("triangular", "cosine", "half_cosine", "ramp_and_hold")
AMPLITUDES = ("constant", "halving", "exponential")


@serializable
class Cyclical(Schedule):
    """Cycles between `low` and `high`.

    value(t) = low + (high - low) * a(t) * s((t mod period) / period)

    The shapes, where x in [0, 1) is the position in the cycle, are:

    - `"triangular"`: s(x) = 1 - |2x - 1|, up in the first half and down in the second;
    - `"cosine"`: s(x) = (1 + cos(pi (2x - 1))) / 2, likewise, without corners;
    - `"half_cosine"`: s(x) = (1 - cos(pi x)) / 2, up over the whole period, then back at once;
    - `"ramp_and_hold"`: s(x) = min(1, x / ramp), up, then at the top until the period ends.

    The amplitude a(t) in cycle c = floor(t / period) is 1, or, if it is `"halving"`, 2^-c, or, if
    it is `"exponential"`, decay^t.

    Args:
        low: Value at the start of a cycle.
        high: Value at the top of a cycle, >= low.
        period: Number of steps in a cycle, >= 2. For a triangle, this is twice the `step_size` of
            Smith, 2017.
        shape: `"triangular"`, `"cosine"`, `"half_cosine"` or `"ramp_and_hold"`.
        ramp: Fraction of the period that the ramp of `"ramp_and_hold"` takes, in (0, 1].
        amplitude: `"constant"`, `"halving"` or `"exponential"`.
        decay: Factor of the amplitude per step if it is `"exponential"`, in (0, 1].
        cycles: Number of cycles, or None for no end. From step `cycles * period` on, the value
            stays at `high`, as β should after annealing; if the amplitude shrinks, as for a
            learning rate, it stays at `low` instead, which it was approaching.

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
        # Use integers, because a rounded quotient could end a cycle one step early or late.
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
        """Returns s at a position in the cycle, counted in steps."""
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


@serializable
class ThereAndBack(Schedule):
    """Goes from `start` to `middle` over `turn` steps, then to `end`, and stays there.

    Both the rate and the momentum of `OneCycle` follow this schedule.

    Args:
        start: Value at step 0.
        middle: Value at step `turn`.
        end: Value from step `steps` on.
        turn: The step at which it turns, less than `steps`; it need not be an integer. If it lies
            before step 0, the schedule begins on its way from `middle` to `end`.
        steps: Total number of steps, >= 0.
        shape: `"cosine"` or `"linear"`, for both directions.

    Example:
        >>> schedule = ThereAndBack(0.9, 0.5, 0.9, turn=2, steps=6, shape="linear")
        >>> [round(float(schedule(t)), 3) for t in (0, 1, 2, 4, 6, 100)]
        [0.9, 0.7, 0.5, 0.7, 0.9, 0.9]
    """

    def __init__(
        self,
        start: float,
        middle: float,
        end: float,
        turn: float,
        steps: int,
        shape: str = "cosine",
    ):
        self.start = checks.number("start", start)
        self.middle = checks.number("middle", middle)
        self.end = checks.number("end", end)
        self.steps = checks.integer("steps", steps, minimum=0)
        self.turn = checks.number("turn", turn, maximum=self.steps, exclusive=True)
        self.shape = checks.option("shape", shape, CURVES)

    def value_at(self, t: tf.Tensor) -> tf.Tensor:
        curve = CURVES[self.shape]
        back = between(self.middle, self.end, t - self.turn, self.steps - self.turn, curve)
        # The difference between the last step and the turn may have a rounding error.
        back = tf.where(t < self.steps, back, self.end)
        if self.turn <= 0.0:
            return back
        there = between(self.start, self.middle, t, self.turn, curve)
        return tf.where(t < self.turn, there, back)

    def get_config(self) -> dict[str, Any]:
        names = ("start", "middle", "end", "turn", "steps", "shape")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@serializable
class OneCycle(Schedule):
    """The one-cycle policy: warm-up to a large learning rate, then annealing to a tiny one.

    initial = max_value / initial_division,  final = initial / final_division
    value(t) goes from initial at t = 0 to max_value at t = warmup * steps - 1,
             and on to final at t = steps - 1, the last of the updates, where it stays

    Both the rise and the fall are half cosines or straight lines. The momentum moves in the
    opposite direction. The values are those of `torch.optim.lr_scheduler.OneCycleLR`.

    Args:
        max_value: The largest value, > 0.
        steps: Number of steps of the training, >= 1.
        warmup: Fraction of the steps in which the value rises, in (0, 1).
        initial_division: What `max_value` is divided by at the start, >= 1.
        final_division: What the initial value is divided by at the end, >= 1.
        shape: `"cosine"` or `"linear"`.
        momentum: None, or the smallest and largest momentum (or β1 of Adam) of the opposite cycle,
            in [0, 1).
        endpoint: Whether the last of the `steps` updates has the final value. If False, both the
            peak and the end come one step later: `max_value` is reached at t = warmup * steps, and
            the final value at t = steps, after the last update.

    Attributes:
        momentum_schedule: Schedule of the momentum, from its largest value to its smallest and
            back; None without `momentum`.

    Example:
        >>> schedule = OneCycle(1.0, steps=1000, initial_division=4.0, momentum=(0.85, 0.95))
        >>> [round(float(schedule(t)), 6) for t in (0, 299, 999)]
        [0.25, 1.0, 2.5e-05]
        >>> [round(float(schedule.momentum_schedule(t)), 4) for t in (0, 299, 649, 999)]
        [0.95, 0.85, 0.9, 0.95]

    References:
        Smith and Topin, 2018, arXiv:1708.07120; Smith, 2018, section 4, arXiv:1803.09820 (cyclical
        momentum).
    """

    def __init__(
        self,
        max_value: float,
        steps: int,
        *,
        warmup: float = 0.3,
        initial_division: float = 25.0,
        final_division: float = 1e4,
        shape: str = "cosine",
        momentum: tuple[float, float] | None = None,
        endpoint: bool = True,
    ):
        self.max_value = checks.number("max_value", max_value, 0.0, exclusive=True)
        self.steps = checks.integer("steps", steps)
        self.warmup = checks.number("warmup", warmup, 0.0, 1.0, exclusive=True)
        self.initial_division = checks.number("initial_division", initial_division, 1.0)
        self.final_division = checks.number("final_division", final_division, 1.0)
        self.shape = checks.option("shape", shape, CURVES)
        self.momentum = None if momentum is None else _momenta(momentum)
        self.endpoint = checks.flag("endpoint", endpoint)
        initial = self.max_value / self.initial_division
        self._rate = self._phases(initial, self.max_value, initial / self.final_division)

    @property
    def momentum_schedule(self) -> Schedule | None:
        """The schedule of the momentum, or None if there is none."""
        if self.momentum is None:
            return None
        low, high = self.momentum
        return self._phases(high, low, high)

    def value_at(self, t: tf.Tensor) -> tf.Tensor:
        return self._rate.value_at(t)

    def _phases(self, start: float, middle: float, end: float) -> ThereAndBack:
        # The last of n updates comes n - 1 steps after the first.
        shift = 1 if self.endpoint else 0
        turn, last = self.warmup * self.steps - shift, self.steps - shift
        return ThereAndBack(start, middle, end, turn, last, self.shape)

    def get_config(self) -> dict[str, Any]:
        names = ("max_value", "steps", "warmup", "initial_division", "final_division", "shape")
        own = {name: getattr(self, name) for name in names}
        own |= {"momentum": self.momentum, "endpoint": self.endpoint}
        return {**super().get_config(), **own}


def _momenta(momentum: Any) -> tuple[float, float]:
    low, high = checks.interval("momentum", momentum, 0.0)
    if high >= 1.0:
        raise checks.invalid("momentum", "must be < 1", momentum)
    return low, high
