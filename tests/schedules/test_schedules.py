"""The schedules are their formulas."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv


def test_linear_is_its_formula_at_every_step():
    schedule = kv.schedules.Linear(0.2, 1.0, steps=7)
    expected = [0.2 + 0.8 * min(1.0, t / 7) for t in range(20)]
    np.testing.assert_allclose([schedule(t) for t in range(20)], expected, rtol=1e-6)


def test_linear_goes_down_too():
    schedule = kv.schedules.Linear(1.0, 0.0, steps=4)
    np.testing.assert_array_equal([schedule(t) for t in (0, 1, 4, 9)], [1.0, 0.75, 0.0, 0.0])


def test_steps_beyond_the_integers_of_float32_count():
    # In float32, 2^24 + 1 is 2^24.
    schedule = kv.schedules.Linear(0.0, float(2**25), steps=2**25)
    assert float(schedule(tf.constant(2**24 + 2, tf.int64))) == 2**24 + 2


@pytest.mark.parametrize("step", [3, np.int64(3), tf.constant(3), tf.Variable(3, dtype=tf.int64)])
def test_steps_of_any_integer_type(step):
    assert float(kv.schedules.Linear(0.0, 1.0, steps=4)(step)) == 0.75
    assert float(kv.schedules.Constant(0.5)(step)) == 0.5


def test_schedule_is_a_learning_rate_of_keras():
    optimizer = keras.optimizers.SGD(kv.schedules.Linear(1.0, 0.0, steps=4))
    variable = keras.Variable(0.0)
    values = []
    for _ in range(4):
        optimizer.apply([tf.constant(1.0)], [variable])
        values.append(float(variable))
    np.testing.assert_allclose(values, -np.cumsum([1.0, 0.75, 0.5, 0.25]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kv.schedules.Linear(0.0, 1.0, 0), "`steps` must be an integer >= 1"),
        (lambda: kv.schedules.Linear(float("nan"), 1.0, 5), "`start` must be a finite number"),
        (lambda: kv.schedules.Constant("1"), "`value` must be a finite number"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
