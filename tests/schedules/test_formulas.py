"""The schedules are their formulas."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv

S = kv.schedules


def values(schedule, steps):
    return [float(schedule(t)) for t in steps]


def test_every_step_has_the_value_of_the_formula(cases, steps_of):
    keras.config.set_floatx("float64")  # `clean_state` takes it back
    for name, case in cases.items():
        steps = steps_of(case)
        found = case.schedule(steps)
        assert found.dtype == tf.float64
        tolerance = 1e-11 if case.exact else 1e-6
        expected = [case.formula(int(t)) for t in steps]
        np.testing.assert_allclose(found, expected, tolerance, tolerance * 1e-3, err_msg=name)


def test_all_public_schedules_are_among_the_cases(cases):
    kinds = {type(case.schedule).__name__ for case in cases.values()}
    assert set(S.__all__) - {"Schedule"} <= kinds


def test_cosine_cycle_is_that_of_the_table():
    cycle = S.Cyclical(0.0, 1.0, period=80, shape="cosine")
    found = values(cycle, (0, 10, 20, 30, 40, 80))
    np.testing.assert_allclose(found, [0.0, 0.146447, 0.5, 0.853553, 1.0, 0.0], atol=1e-6)
    assert found[0] == found[5] == 0.0 and found[4] == 1.0


def test_triangular_learning_rate_is_that_of_the_paper():
    rate = S.Cyclical(0.001, 0.01, period=4000)
    found = values(rate, (0, 1000, 2000, 3000, 4000))
    np.testing.assert_allclose(found, [0.001, 0.0055, 0.01, 0.0055, 0.001], rtol=1e-7)


def test_half_cosine_starts_again_at_once():
    cycle = S.Cyclical(0.0, 1.0, period=100, shape="half_cosine")
    assert values(cycle, (0, 50, 100, 150)) == [0.0, 0.5, 0.0, 0.5]
    assert 0.999 < float(cycle(99)) < 1.0


@pytest.mark.parametrize("fraction", [0.25, 1.0])
def test_ramp_takes_its_fraction_of_the_period(fraction):
    cycle = S.Cyclical(0.0, 1.0, period=100, shape="ramp_and_hold", ramp=fraction)
    steps = np.arange(200)
    expected = np.minimum(steps % 100 / (100 * fraction), 1.0)
    np.testing.assert_allclose(cycle(steps), expected, rtol=1e-6)


def test_amplitudes_shrink_as_their_names_say():
    tops = [50, 150, 250]
    halving = S.Cyclical(1.0, 2.0, period=100, amplitude="halving")
    assert values(halving, tops) == [2.0, 1.5, 1.25]
    shrinking = S.Cyclical(1.0, 2.0, period=100, amplitude="exponential", decay=0.99)
    np.testing.assert_allclose(shrinking(tops), 1.0 + 0.99 ** np.array(tops), rtol=1e-6)


@pytest.mark.parametrize("shape", ["triangular", "cosine", "half_cosine", "ramp_and_hold"])
def test_after_its_cycles_beta_stays_high(shape):
    beta = S.Cyclical(0.0, 0.5, period=10, shape=shape, cycles=4)
    assert values(beta, (30, 40, 41, 45, 50, 2**33)) == [0.0] + [0.5] * 5


@pytest.mark.parametrize("amplitude", ["halving", "exponential"])
def test_after_its_cycles_a_shrinking_rate_stays_low(amplitude):
    rate = S.Cyclical(0.25, 0.5, period=10, amplitude=amplitude, cycles=4)
    assert values(rate, (40, 45, 2**33)) == [0.25] * 3
    assert float(rate(35)) > 0.25


def test_transitions_begin_and_end_exactly():
    for kind in (S.Linear, S.Cosine, S.Sigmoid, S.Exponential):
        schedule = kind(0.3, 0.7, steps=11)
        at = [float(schedule.value_at(tf.constant(t, tf.float64))) for t in (0.0, 11.0, 99.0)]
        assert at == [0.3, 0.7, 0.7], kind


def test_sigmoid_is_symmetric_and_steeper_in_the_middle():
    flat, steep = (S.Sigmoid(0.0, 1.0, 100, steepness) for steepness in (5.0, 50.0))
    t = np.arange(101)
    for schedule in (flat, steep):
        np.testing.assert_allclose(schedule(t) + schedule(100 - t), np.ones(101), rtol=1e-6)
    assert float(steep(40)) < float(flat(40)) < 0.5 < float(flat(60)) < float(steep(60))


def test_exponential_multiplies_by_one_factor():
    ratios = np.array(S.Exponential(1e-6, 1.0, 60)(np.arange(61)))
    np.testing.assert_allclose(ratios[1:] / ratios[:-1], 10.0**0.1, rtol=1e-6)


def test_the_new_piece_holds_at_its_boundary():
    schedule = S.Piecewise([10, 20], [3.0, 2.0, 1.0])
    assert values(schedule, (0, 9, 10, 19, 20, 1000)) == [3.0, 3.0, 2.0, 2.0, 1.0, 1.0]


def test_one_cycle_by_default():
    rate = S.OneCycle(2e-3, steps=1000)
    # The initial value is a 25th of the largest, the final one a 10000th of the initial.
    found = values(rate, (0, 299, 649, 999, 5000))
    np.testing.assert_allclose(found, [8e-5, 2e-3, 1.000004e-3, 8e-9, 8e-9], rtol=1e-6)
    assert np.argmax(rate(np.arange(1001))) == 299
    assert rate.momentum_schedule is None
    later = S.OneCycle(2e-3, steps=1000, endpoint=False)
    found = values(later, (0, 150, 300, 650, 1000))
    np.testing.assert_allclose(found, [8e-5, 1.04e-3, 2e-3, 1.000004e-3, 8e-9], rtol=1e-6)


# Rates and momenta of all updates of `torch.optim.lr_scheduler.OneCycleLR` in PyTorch 2.13.0, with
# SGD in float64. In the last two, the way up is shorter than a step.
ONE_CYCLES_OF_PYTORCH = {
    "defaults": (
        {"max_value": 2e-3, "steps": 10},
        [8e-05, 0.00104, 0.002, 0.001900969264, 0.001623491308]
        + [0.001222524044, 0.0007774839561, 0.0003765166921, 9.903873597e-05, 8e-09],
        [0.95, 0.9, 0.85, 0.8549515566, 0.8688255099]
        + [0.8888739533, 0.9111260467, 0.9311744901, 0.9450484434, 0.95],
    ),
    "between steps": (
        {
            **{"max_value": 0.5, "steps": 7, "warmup": 0.45, "shape": "linear"},
            **{"initial_division": 10.0, "final_division": 50.0},
        },
        [0.05, 0.2593023256, 0.4686046512, 0.3898311688, 0.2602207792, 0.1306103896, 0.001],
        [0.95, 0.9034883721, 0.8569767442, 0.8720779221, 0.8980519481, 0.924025974, 0.95],
    ),
    "short": (
        {"max_value": 1.0, "steps": 3},
        [0.9944154355, 0.4626371027, 4e-06],
        [0.8505584587, 0.9037365047, 0.95],
    ),
    "one step": ({"max_value": 1.0, "steps": 1}, [4e-06], [0.95]),
}


@pytest.mark.parametrize("name", ONE_CYCLES_OF_PYTORCH)
def test_one_cycle_is_that_of_pytorch(name):
    arguments, rates, momenta = ONE_CYCLES_OF_PYTORCH[name]
    cycle = S.OneCycle(**arguments, momentum=(0.85, 0.95))
    steps = np.arange(arguments["steps"])
    np.testing.assert_allclose(cycle(steps), rates, rtol=1e-6)
    np.testing.assert_allclose(cycle.momentum_schedule(steps), momenta, rtol=1e-6)
    # PyTorch divides by zero where the way up takes no time at all.
    assert float(S.OneCycle(1.0, 4, warmup=0.25)(0)) == 1.0


@pytest.mark.parametrize("shape", ["cosine", "linear"])
def test_momentum_is_low_while_the_rate_is_high(shape):
    one = S.OneCycle(1.0, 500, warmup=0.4, shape=shape, momentum=(0.85, 0.95))
    momentum = one.momentum_schedule
    np.testing.assert_allclose(momentum([0, 199, 499, 500]), [0.95, 0.85, 0.95, 0.95], rtol=1e-6)
    # Both go along the same curve.
    t = np.arange(200)
    way = (np.array(one(t)) - 0.04) / 0.96
    np.testing.assert_allclose((0.95 - np.array(momentum(t))) / 0.1, way, atol=2e-6)


def test_warm_up_leads_to_the_first_value_of_the_other():
    other = S.Piecewise([5], [0.5, 0.25])
    schedule = S.WarmupThen(other, steps=4, start=0.1)
    expected = [0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25]
    np.testing.assert_allclose(schedule(np.arange(10)), expected, rtol=1e-6)


def test_warm_ups_can_follow_each_other():
    inner = S.WarmupThen(S.Constant(1.0), steps=2, start=0.5)
    schedule = S.WarmupThen(inner, steps=2, start=0.0)
    assert values(schedule, range(6)) == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]


def test_steps_between_whole_ones_count():
    # An eighth of a period need not be a whole number of steps.
    assert float(S.Cyclical(0.0, 1.0, period=100)(100 / 8)) == 0.25
    assert float(S.Linear(0.0, 1.0, steps=4)(0.5)) == 0.125


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: S.Constant("1"), "`value` must be a finite number"),
        (lambda: S.Linear(0.0, 1.0, 0), "`steps` must be an integer >= 1"),
        (lambda: S.Linear(float("nan"), 1.0, 5), "`start` must be a finite number"),
        (lambda: S.Cosine(0.0, float("inf"), 5), "`end` must be a finite number"),
        (lambda: S.Sigmoid(0.0, 1.0, 5, 0.0), "`steepness` must be a finite number > 0"),
        (lambda: S.Exponential(0.0, 1.0, 5), "`start` must be a finite number > 0"),
        (lambda: S.Exponential(1.0, -1.0, 5), "`end` must be a finite number > 0"),
        (lambda: S.Piecewise([], [1.0]), "`boundaries` must be a list that is not empty"),
        (lambda: S.Piecewise([5, 5], [1.0, 2.0, 3.0]), "`boundaries` must be increasing"),
        (lambda: S.Piecewise([0], [1.0, 2.0]), "`boundaries` must be an integer >= 1"),
        (lambda: S.Piecewise([5], [1.0]), "`values` must have one entry more than the 1 bound"),
        (lambda: S.Piecewise([5], 1.0), "`values` must be a list"),
        (lambda: S.Cyclical(1.0, 0.5, 10), "`high` must be >= low=1.0"),
        (lambda: S.Cyclical(0.0, 1.0, 1), "`period` must be an integer >= 2"),
        (lambda: S.Cyclical(0.0, 1.0, 10, "saw"), "`shape` must be one of .*'half_cosine'"),
        (lambda: S.Cyclical(0.0, 1.0, 10, ramp=0.0), "`ramp` must be a finite number > 0"),
        (lambda: S.Cyclical(0.0, 1.0, 10, ramp=1.5), "`ramp` must be .* <= 1"),
        (lambda: S.Cyclical(0.0, 1.0, 10, amplitude="half"), "`amplitude` must be one of"),
        (lambda: S.Cyclical(0.0, 1.0, 10, decay=1.1), "`decay` must be .* <= 1"),
        (lambda: S.Cyclical(0.0, 1.0, 10, cycles=0), "`cycles` must be an integer >= 1"),
        (lambda: S.OneCycle(0.0, 10), "`max_value` must be a finite number > 0"),
        (lambda: S.OneCycle(1.0, 10.5), "`steps` must be an integer >= 1"),
        (lambda: S.OneCycle(1.0, 10, warmup=1.0), "`warmup` must be .* > 0 and < 1"),
        (lambda: S.OneCycle(1.0, 10, initial_division=0.5), "`initial_division` must be .* >= 1"),
        (lambda: S.OneCycle(1.0, 10, final_division=0.5), "`final_division` must be .* >= 1"),
        (lambda: S.OneCycle(1.0, 10, shape="triangular"), "`shape` must be one of"),
        (lambda: S.OneCycle(1.0, 10, momentum=(0.95, 0.85)), "`momentum` must have low <= high"),
        (lambda: S.OneCycle(1.0, 10, momentum=(0.9, 1.0)), "`momentum` must be < 1"),
        (lambda: S.OneCycle(1.0, 10, momentum=0.9), "`momentum` must be a pair"),
        (lambda: S.WarmupThen(1e-3, 10), "`schedule` must be a schedule"),
        (lambda: S.WarmupThen(S.Constant(1.0), 0), "`steps` must be an integer >= 1"),
        (lambda: S.Constant(1.0).plot(0), "`steps` must be an integer >= 1"),
        (lambda: S.Constant(1.0).plot((5, 5)), "`steps` must have first < last"),
        (lambda: S.Constant(1.0).plot((-5, 5)), "`steps` must be an integer >= 0"),
        (lambda: S.Constant(1.0).plot((1, 2, 3)), "`steps` must be an integer or a pair"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
