"""Schedules with their formulas, written as in the papers, in NumPy and float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import pytest

import keras_vae as kv

S = kv.schedules


class Case(NamedTuple):
    """A schedule, its formula, the steps at which that changes, and whether it has float64."""

    schedule: S.Schedule
    formula: Callable[[float], float]
    boundaries: tuple[int, ...]
    exact: bool = True  # schedules of Keras compute in float32


def transition(start, end, steps, fraction):
    return lambda t: start + (end - start) * fraction(min(1.0, t / steps))


def half_cosine(x):
    return 0.5 * (1.0 - math.cos(math.pi * x))


def logistic(steepness):
    def s(x):
        return 1.0 / (1.0 + math.exp(-steepness * (x - 0.5)))

    return lambda x: (s(x) - s(0.0)) / (s(1.0) - s(0.0))


def triangle(t, period):
    return 1.0 - abs(2.0 * (t % period) / period - 1.0)


def cosine_cycle(t, period):
    return 0.5 * (1.0 + math.cos(math.pi * ((t % period) / (period / 2.0) - 1.0)))


def half_cosine_cycle(t, period):
    return half_cosine((t % period) / period)


def ramp(fraction):
    return lambda t, period: min(1.0, (t % period) / period / fraction)


def cycle(low, high, period, height, amplitude=lambda t: 1.0):
    return lambda t: low + (high - low) * amplitude(t) * height(t, period)


def then(end, after, formula):
    return lambda t: formula(t) if t < end else after


def one_cycle(start, top, end, turn, steps, fraction):
    def formula(t):
        if t < turn:
            return start + (top - start) * fraction(t / turn)
        return top + (end - top) * fraction(min(1.0, (t - turn) / (steps - turn)))

    return formula


def warm_up(schedule, steps, start):
    first = schedule(0)
    return lambda t: start + (first - start) * t / steps if t < steps else schedule(t - steps)


def keras_cosine_decay(t):
    return 0.5e-3 * (1.0 + math.cos(math.pi * min(1.0, t / 2000.0)))


RATE = {"initial_division": 20.0, "final_division": 500.0}
MOMENTUM = S.OneCycle(2e-3, 1000, warmup=0.25, momentum=(0.85, 0.95)).momentum_schedule
LATER = {**RATE, "endpoint": False}
SHAPES = {
    "triangular": triangle,
    "cosine": cosine_cycle,
    "half_cosine": half_cosine_cycle,
    "ramp_and_hold": ramp(0.3),
}
AMPLITUDES = {
    "constant": lambda t: 1.0,
    "halving": lambda t: 0.5 ** (t // 130),
    "exponential": lambda t: 0.997**t,
}

CASES = {
    "constant": Case(S.Constant(0.3), lambda t: 0.3, ()),
    "linear": Case(S.Linear(0.2, 1.0, 7), transition(0.2, 1.0, 7, float), (7,)),
    "linear, down": Case(S.Linear(1.0, 0.0, 999), transition(1.0, 0.0, 999, float), (999,)),
    "linear, long": Case(S.Linear(0, 2**26, 2**26), lambda t: float(min(t, 2**26)), (2**26,)),
    "cosine": Case(S.Cosine(0.1, 0.7, 1000), transition(0.1, 0.7, 1000, half_cosine), (1000,)),
    "cosine, down": Case(S.Cosine(1.0, 0.0, 31), transition(1.0, 0.0, 31, half_cosine), (31,)),
    "sigmoid": Case(S.Sigmoid(0.0, 1.0, 1000), transition(0.0, 1.0, 1000, logistic(10)), (1000,)),
    "sigmoid, down": Case(
        S.Sigmoid(2.0, -1.0, 50, steepness=25.0), transition(2.0, -1.0, 50, logistic(25)), (50,)
    ),
    "sigmoid, flat": Case(
        S.Sigmoid(0.0, 1.0, 50, steepness=0.01), transition(0.0, 1.0, 50, logistic(0.01)), (50,)
    ),
    "exponential": Case(
        S.Exponential(1e-2, 1e-6, 777), lambda t: 1e-2 * 1e-4 ** min(1.0, t / 777), (777,)
    ),
    "exponential, up": Case(
        S.Exponential(1e-6, 10.0, 100), lambda t: 1e-6 * 1e7 ** min(1.0, t / 100), (100,)
    ),
    "piecewise": Case(
        S.Piecewise([3, 1000], [1.0, 0.1, -0.01]),
        lambda t: 1.0 if t < 3 else 0.1 if t < 1000 else -0.01,
        (3, 1000),
    ),
    **{
        f"cyclical, {shape}, {amplitude}": Case(
            S.Cyclical(0.1, 1.1, 130, shape, ramp=0.3, amplitude=amplitude, decay=0.997),
            cycle(0.1, 1.1, 130, height, factor),
            (39, 65, 130, 169, 195, 260, 130 * 10**8),
        )
        for shape, height in SHAPES.items()
        for amplitude, factor in AMPLITUDES.items()
    },
    "cyclical, four times": Case(
        S.Cyclical(0.0, 1.0, 90, "ramp_and_hold", cycles=4),
        then(360, 1.0, cycle(0.0, 1.0, 90, ramp(0.5))),
        (90, 270, 315, 360),
    ),
    "cyclical, shrinking twice": Case(
        S.Cyclical(0.1, 1.0, 130, amplitude="halving", cycles=2),
        then(260, 0.1, cycle(0.1, 1.0, 130, triangle, AMPLITUDES["halving"])),
        (130, 195, 260),
    ),
    "one-cycle": Case(
        S.OneCycle(2e-3, 1000, warmup=0.25, **RATE),
        one_cycle(1e-4, 2e-3, 2e-7, 249, 999, half_cosine),
        (249, 999),
    ),
    "one-cycle, linear": Case(
        S.OneCycle(2e-3, 997, warmup=0.37, shape="linear", **RATE),
        one_cycle(1e-4, 2e-3, 2e-7, 0.37 * 997 - 1, 996, float),
        (367, 368, 996),
    ),
    "one-cycle, a step later": Case(
        S.OneCycle(2e-3, 1000, warmup=0.25, **LATER),
        one_cycle(1e-4, 2e-3, 2e-7, 250, 1000, half_cosine),
        (250, 1000),
    ),
    "one-cycle, momentum": Case(
        MOMENTUM, one_cycle(0.95, 0.85, 0.95, 249, 999, half_cosine), (249, 999)
    ),
    "warm-up": Case(
        S.WarmupThen(S.Exponential(1e-2, 1e-4, 500), 100, start=1e-3),
        warm_up(lambda t: 1e-2 * 1e-2 ** min(1.0, t / 500), 100, 1e-3),
        (100, 600),
    ),
    "warm-up, Keras": Case(
        S.WarmupThen(keras.optimizers.schedules.CosineDecay(1e-3, 2000), 500),
        warm_up(keras_cosine_decay, 500, 0.0),
        (500, 2500),
        exact=False,
    ),
}


def steps_of(case):
    """Return steps everywhere, around every boundary, and far beyond what float32 can count."""
    everywhere = np.random.default_rng(0).integers(0, 3000, 300)
    around = [b + d for b in (0, *case.boundaries, 2**24, 2**31, 2**40) for d in (-1, 0, 1)]
    return np.array(sorted({*everywhere.tolist(), *(t for t in around if t >= 0)}), np.int64)


@pytest.fixture(name="steps_of")
def steps_of_fixture():
    """Return the function that tells the steps at which a case is looked at."""
    return steps_of


@pytest.fixture
def cases():
    """Return all cases by name."""
    return CASES
