"""What all schedules have in common: steps of any type, any mode, files, figures."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from tests import contracts

S = kv.schedules


@pytest.fixture
def schedules(cases):
    return [case.schedule for case in cases.values()]


def test_eager_and_xla_agree_to_the_last_bit(cases, steps_of):
    """All schedules in one function, once at many steps and once at a single one."""
    given = {name: steps_of(case) for name, case in cases.items()}

    def values(steps):
        return {name: case.schedule(steps[name]) for name, case in cases.items()}

    modes = {mode: contracts.in_mode(values, mode) for mode in ("eager", "xla")}
    many = {name: tf.constant(steps) for name, steps in given.items()}
    expected = {name: value.numpy() for name, value in modes["eager"](many).items()}
    for mode, function in modes.items():
        found, index = function(many), 7
        single = function({name: tf.constant(steps[index]) for name, steps in given.items()})
        for name, case in cases.items():
            assert found[name].dtype == single[name].dtype == tf.float32
            # Of 1e-3, the last bits of the float32 in which schedules of Keras compute.
            exact = {"rtol": 0.0, "atol": 0.0 if case.exact else 1e-9, "err_msg": f"{name} {mode}"}
            np.testing.assert_allclose(found[name], expected[name], **exact)
            np.testing.assert_allclose(single[name], expected[name][index], **exact)


@pytest.mark.parametrize(
    "step",
    [
        3,
        3.0,
        np.int64(3),
        np.uint8(3),
        np.float16(3),
        tf.constant(3),
        tf.constant(3, tf.uint64),
        tf.constant(3, tf.bfloat16),
        tf.Variable(3, dtype=tf.int64),
        keras.Variable(3, dtype="int32"),
        keras.Variable(3.0),
    ],
    ids=lambda step: f"{type(step).__name__}, {getattr(step, 'dtype', 'Python')}",
)
def test_steps_of_any_number_type(schedules, step):
    for schedule in schedules:
        value = schedule(step)
        assert value.dtype == tf.float32
        assert value.shape == ()
        assert float(value) == float(schedule(3)), schedule


def test_every_step_beyond_2_to_24_counts():
    # In float32, 2^24 + 1 is 2^24; and Python's 2^31 is no int32.
    far = S.Linear(0.0, float(2**26), steps=2**26)
    assert float(far(2**24 + 2)) == 2**24 + 2
    for dtype in (tf.int32, tf.int64, tf.float64):
        sawtooth = S.Cyclical(0.0, 1.0, 4, "ramp_and_hold", ramp=1.0)
        found = sawtooth(tf.constant(2**24 + np.arange(4), dtype))
        np.testing.assert_array_equal(found, [0.0, 0.25, 0.5, 0.75])
    assert float(S.Cyclical(0.0, 1.0, 2)(2**31 + 1)) == 1.0
    assert float(S.Piecewise([2**31 + 1], [0.0, 1.0])(2**31)) == 0.0


def test_shapes_of_steps_are_kept(schedules):
    for schedule in schedules:
        steps = np.arange(6).reshape(2, 3)
        assert schedule(steps).shape == (2, 3), schedule
        assert schedule([0, 1]).shape == (2,), schedule
        np.testing.assert_array_equal(schedule(steps)[1, 0], schedule(3))


@pytest.mark.parametrize("floatx", ["float64", "float16"])
def test_values_have_the_dtype_of_keras(schedules, floatx):
    keras.config.set_floatx(floatx)
    for schedule in schedules:
        assert schedule(5).dtype.name == floatx, schedule


def test_steps_before_the_first_are_the_first(schedules):
    for schedule in schedules:
        assert float(schedule(-3)) == float(schedule(0)), schedule


def test_json_restores_the_schedule(cases, steps_of):
    for case in cases.values():
        steps = steps_of(case)
        copy = contracts.restored(case.schedule)
        np.testing.assert_array_equal(copy(steps), case.schedule(steps))


def test_a_restored_one_cycle_has_its_momentum():
    original = S.OneCycle(1.0, 100, momentum=(0.8, 0.9))
    config = json.loads(json.dumps(keras.optimizers.schedules.serialize(original)))
    restored = keras.optimizers.schedules.deserialize(config)
    assert float(restored.momentum_schedule(29)) == pytest.approx(0.8)


@pytest.mark.parametrize("name", ["cyclical, triangular, halving", "warm-up, Keras"])
def test_an_optimizer_uses_the_value_of_its_step(cases, name):
    optimizer = keras.optimizers.SGD(cases[name].schedule)
    variable = keras.Variable(0.0)
    before = 0.0
    for t in range(9):
        optimizer.apply([tf.constant(1.0)], [variable])
        after = float(variable)
        np.testing.assert_allclose(before - after, cases[name].formula(t), rtol=1e-5, atol=1e-6)
        before = after


@pytest.mark.full
def test_adam_takes_a_schedule_and_a_file_keeps_it(tmp_path, cases):
    modes = {"one-cycle": {"jit_compile": True}, "warm-up, Keras": {"run_eagerly": True}}
    for name, mode in modes.items():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        schedule = cases[name].schedule
        model.compile(keras.optimizers.Adam(schedule), "mse", **mode)
        x = np.ones([8, 2], "float32")
        model.fit(x, x[:, :1], batch_size=2, verbose=0)
        model.save(tmp_path / "model.keras")
        restored = keras.saving.load_model(tmp_path / "model.keras")
        learned = restored.optimizer._learning_rate
        assert type(learned) is type(schedule)
        assert learned.get_config() == schedule.get_config()
        assert int(restored.optimizer.iterations) == 4
        assert float(restored.optimizer.learning_rate) == float(schedule(4))


def test_a_function_of_ones_own_is_a_schedule():
    class Root(S.Schedule):
        def value_at(self, t):
            return tf.sqrt(t)

    assert float(Root()(16)) == 4.0
    with pytest.raises(NotImplementedError, match="Schedule must implement `value_at`"):
        S.Schedule()(0)


def test_a_schedule_says_what_it_is():
    schedule = S.WarmupThen(S.Cosine(1.0, 0.0, steps=8), steps=4)
    assert repr(schedule) == (
        "WarmupThen(schedule=Cosine(start=1.0, end=0.0, steps=8), steps=4, start=0.0)"
    )


def test_the_figure_shows_the_values(cases):
    schedule = cases["cyclical, triangular, halving"].schedule
    (axes,) = schedule.plot(400).get_axes()
    (line,) = axes.get_lines()
    np.testing.assert_array_equal(line.get_xdata(), np.arange(401))
    np.testing.assert_array_equal(line.get_ydata(), schedule(np.arange(401)))
    assert axes.get_xlabel() == "optimizer step" and axes.get_title() == "Cyclical"


@pytest.mark.parametrize(
    ("steps", "first", "last", "points"),
    [((100, 350), 100, 350, 251), (10**6, 0, 10**6, 4001), ((2**31, 2**32), 2**31, 2**32, 4001)],
)
def test_the_figure_spans_the_steps(steps, first, last, points):
    schedule = S.Cyclical(0.0, 1.0, 999)
    (line,) = schedule.plot(steps).get_axes()[0].get_lines()
    t = line.get_xdata()
    assert (t[0], t[-1], len(t)) == (first, last, points)
    assert np.all(np.diff(t) > 0)
    np.testing.assert_array_equal(line.get_ydata(), schedule(t))
