"""GECO in whole trainings: λ and C_ma are exact at every step.

`test_exactness.py` and `test_callback_combinations.py` have trainings that were stopped.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv

SquaredError = kv.objectives.SquaredError
STEPS = 6


def objective(constraint=None, multiplier=0.5):
    return kv.objectives.GECO(constraint or SquaredError(3.0), None, multiplier)


def one_step_an_epoch(model, x, rule=None, epochs=STEPS, **kwargs):
    """Return histories of single steps: their `constraint` is the C of the step."""
    callbacks = [] if rule is None else [rule]
    size = {"batch_size": len(x), "shuffle": False, "verbose": 0}
    return model.fit(x, epochs=epochs, callbacks=callbacks, **size, **kwargs).history


def state(model):
    """Return λ, C_ma and whether C_ma has begun, of every constraint."""
    numbers = [*model.objective.multipliers, *sum(model.objective._averages, ())]
    return [float(number.numpy()) for number in numbers]


@pytest.fixture
def fast():
    """Return a rule that moves λ much in a few steps."""
    return lambda **changes: kv.callbacks.GECO(
        **{"learning_rate": 0.02, "alpha": 0.8, "clip": (0.8, 1.25), **changes}
    )


# The rule, replayed in NumPy.

RULES = {
    "plain": {"learning_rate": 0.01, "clip": (0.5, 2.0)},
    "no memory, at a bound": {"alpha": 0.0, "bounds": (0.45, 0.6)},
}


def published(constraints, every, wait, multiplier):
    """Return λ after each step by the code of the MNIST table, which counts from 0."""
    found, average = [], constraints[0]
    for step, constraint in enumerate(constraints):
        average = 0.99 * average + 0.01 * constraint
        if step % every == 0 and step >= wait:
            multiplier *= np.clip(np.exp(average), 0.9, 1.1)
        found.append(multiplier)
    return found


def test_a_warm_up_gives_the_published_rule_one_step_earlier():
    constraints = np.random.default_rng(0).normal(0.0, 0.3, size=60)
    wanted = published([constraints[0], *constraints], every=5, wait=20, multiplier=0.5)
    numbers = {"learning_rate": 1.0, "clip": (0.9, 1.1), "every": 5, "warmup_steps": 19}
    average, seen, multiplier = (keras.Variable(value) for value in (0.0, 0.0, 0.5))
    average = kv.controllers.MovingAverage("ma", average, seen, "constraint", decay=0.99)
    rule = kv.controllers.MultiplierRule("lambda", multiplier, average, **numbers)
    found = []
    for step, constraint in enumerate(constraints):
        for variable, value in rule.after_step(step, {"constraint": constraint}):
            variable.assign(value)
        found.append(float(multiplier))
    np.testing.assert_allclose(found, wanted[1:], rtol=1e-6)
    assert found[18] == 0.5 != found[19], "the first four moves are left out"


def test_the_multiplier_moves_first_at_the_step_after_the_warm_up():
    average, seen, multiplier = (keras.Variable(value) for value in (0.0, 0.0, 0.5))
    average = kv.controllers.MovingAverage("ma", average, seen, "constraint", decay=0.9)
    rule = kv.controllers.MultiplierRule("lambda", multiplier, average, 0.1, warmup_steps=3)
    values = [rule.after_step(step, {"constraint": 0.5})[-1][1] for step in range(5)]
    assert [float(value) != 0.5 for value in values] == [False, False, False, True, True]


def replay(constraints, rule, multiplier):
    averages, multipliers, average = [], [], None
    for step, constraint in enumerate(constraints, start=1):
        first = average is None
        average = constraint if first else rule.alpha * average + (1 - rule.alpha) * constraint
        if step > rule.warmup_steps and step % rule.every == 0:
            factor = np.exp(np.clip(rule.learning_rate * average, *np.log(rule.clip)))
            multiplier = np.clip(multiplier * factor, *rule.bounds)
        averages.append(average)
        multipliers.append(multiplier)
    return averages, multipliers


def assert_follows(history, rule, suffix=""):
    """Hold averages and multipliers against the rule; return Σ λ C_ma of every step's loss."""
    averages, multipliers = replay(history["constraint" + suffix], rule, 0.5)
    np.testing.assert_allclose(history["constraint_ma" + suffix], averages, rtol=2e-6)
    np.testing.assert_allclose(history["lambda" + suffix], multipliers, rtol=2e-6)
    # The loss is that before λ moves, with C_ma in place of C.
    return np.array([0.5, *multipliers[:-1]]) * averages


@pytest.mark.first_is_quick
@pytest.mark.parametrize("rule", RULES)
def test_averages_and_multipliers_follow_their_rules(make_vae, fast, x, rule):
    # A κ of 3 is far off at first, one of 7 more than good enough.
    model = make_vae(objective=objective([SquaredError(3.0), SquaredError(7.0)]))
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=True)
    rule = fast(**RULES[rule])
    history = one_step_an_epoch(model, x, rule)
    penalty = 0.0
    for number, sign in ((1, 1.0), (2, -1.0)):
        constraints = history[f"constraint_squared_error_{number}"]
        assert np.all(np.sign(constraints) == sign) and len(set(constraints)) == STEPS
        penalty += assert_follows(history, rule, f"_squared_error_{number}")
    np.testing.assert_allclose(history["loss"], history["kl"] + penalty, rtol=1e-5)
    assert [history[f"lambda_squared_error_{n}"][-1] for n in (1, 2)] == state(model)[:2]


@pytest.mark.full
def test_weights_of_examples_count(make_vae, fast, x):
    model, rule = make_vae(objective=objective()), fast()
    model.compile("sgd", run_eagerly=True)
    labels = np.zeros(len(x))
    one_step_an_epoch(model, x, rule, 1, y=labels, sample_weight=0.0 * labels)
    assert state(model) == [0.5, 0.0, 0.0], "a batch without weight says nothing"
    weights = np.linspace(0.0, 3.0, len(x)).astype("float32")
    history = one_step_an_epoch(model, x, rule, 3, y=labels, sample_weight=weights)
    losses = history["kl"] + assert_follows(history, rule)
    np.testing.assert_allclose(history["loss"], weights.mean() * losses, rtol=1e-5)


def test_the_gradient_is_that_of_the_constraint(make_mean_vae, fast, trainable, x):
    # The average has seen another C, and enters the value alone.
    steps = []
    for rule in (None, fast(warmup_steps=9)):
        model = make_mean_vae(objective=objective())
        model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
        one_step_an_epoch(model, x, rule, epochs=2)
        steps.append(trainable(model))
    for a, b in zip(*steps, strict=True):
        np.testing.assert_array_equal(a, b)


def test_without_the_callback_it_is_a_plain_lagrangian(make_vae, x):
    model = make_vae(objective=objective(multiplier=0.3))
    model.compile("adam", run_eagerly=True)
    before = state(model)
    history = one_step_an_epoch(model, x, epochs=3)
    assert state(model) == before == [float(np.float32(0.3)), 0.0, 0.0]
    assert set(history) == {"loss", "elbo", "reconstruction", "kl", "constraint"}
    losses = np.array(history["kl"]) + 0.3 * np.array(history["constraint"])
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-5)
    logs = model.evaluate(x, verbose=0, return_dict=True)
    assert set(logs) == set(history)
    assert logs["loss"] == pytest.approx(logs["kl"] + 0.3 * logs["constraint"], rel=1e-5)


def test_validation_does_not_move_the_average(make_vae, fast, x):
    one, two = make_vae(objective=objective()), make_vae(objective=objective())
    for model, data in ((one, None), (two, x[:9])):
        model.compile("sgd", run_eagerly=True)
        history = model.fit(x, epochs=2, callbacks=[fast()], validation_data=data, verbose=0)
    assert state(one) == state(two)
    assert {"val_constraint", "val_loss"} <= set(history.history)
    kl, constraint = history.history["val_kl"][-1], history.history["val_constraint"][-1]
    loss = kl + history.history["lambda"][-1] * constraint
    assert history.history["val_loss"][-1] == pytest.approx(loss, rel=1e-5)


# κ by a schedule.


def test_a_schedule_drives_kappa(make_mean_vae, fast, x):
    constraints = [SquaredError(3.0), kv.objectives.NegativeLogLikelihood(30.0)]
    model = make_mean_vae(objective=objective(constraints))
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    schedule = kv.schedules.Linear(2.0, 4.0, steps=4)
    history = one_step_an_epoch(model, x, fast(kappa=schedule), epochs=3)
    assert history["kappa"] == [2.0, 2.5, 3.0]
    # At a learning rate of zero and without noise, only κ² moves C.
    moved = np.diff(history["constraint_squared_error"])
    np.testing.assert_allclose(moved, -np.diff([4.0, 6.25, 9.0]), rtol=1e-5)
    assert "kappa" not in one_step_an_epoch(model, x, fast(), epochs=1), "it is detached"
    assert float(model.objective.constraints[0].kappa) == 3.0


def test_each_of_several_kappas_goes_by_its_name(make_vae, fast, x):
    constraints = [SquaredError(3.0, name="coarse"), SquaredError(4.0, name="fine")]
    model = make_vae(objective=objective(constraints))
    model.compile("sgd", run_eagerly=True)
    schedule = kv.callbacks.HyperparameterSchedule("fine.kappa", kv.schedules.Constant(2.0))
    history = model.fit(x, callbacks=[schedule, fast()], verbose=0).history
    assert history["fine.kappa"] == [2.0]
    assert [float(c.kappa) for c in constraints] == [3.0, 2.0]


# When nothing may move.


def test_accumulated_gradients_are_one_step(make_vae, fast, x):
    model = make_vae(objective=objective())
    model.compile(keras.optimizers.SGD(1e-3, gradient_accumulation_steps=2), run_eagerly=True)
    states = []
    record = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: states.append(state(model))
    )
    model.fit(x, batch_size=7, callbacks=[fast(), record], verbose=0)
    assert states[0] == [0.5, 0.0, 0.0] != states[1] == states[2] != states[3]


def test_a_step_that_overflows_moves_nothing(make_vae, fast, trainable, x):
    keras.config.set_dtype_policy("mixed_float16")
    model = make_vae(objective=objective())
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1e-4), initial_scale=2.0**127)
    model.compile(scaled, run_eagerly=True)
    before = trainable(model)
    one_step_an_epoch(model, x, fast(), epochs=1)
    assert state(model) == [0.5, 0.0, 0.0]
    for a, b in zip(before, trainable(model), strict=True):
        np.testing.assert_array_equal(a, b)
    scaled.dynamic_scale.assign(8.0)
    history = one_step_an_epoch(model, x, fast(), epochs=1)
    assert history["constraint_ma"] == pytest.approx(history["constraint"], rel=1e-5)
    assert state(model)[0] > 0.5


def spoil(x, mean):
    return tf.reduce_sum(tf.square(x - mean), axis=[2, 3, 4]) * np.nan


@pytest.mark.parametrize("bad", ["data", "constraint"])
def test_refused_steps_move_nothing(make_vae, fast, weights_of, dataset, x, bad):
    model = make_vae(objective=objective(spoil if bad == "constraint" else None))
    model.compile("sgd", run_eagerly=True)
    before = weights_of(model)
    data = dataset(255.0 * x if bad == "data" else x)
    error = ValueError if bad == "data" else ArithmeticError
    with pytest.raises(error, match="`x` must be" if bad == "data" else "loss is not finite"):
        model.fit(data, callbacks=[fast()], verbose=0)
    for weight in model.weights:
        np.testing.assert_array_equal(weight.numpy(), before[id(weight)], err_msg=weight.path)


def enormous(x, mean):
    return 1e8 + tf.reduce_sum(tf.square(x - mean), axis=[2, 3, 4])


@pytest.mark.parametrize(("tolerance", "bound"), [(0.0, 100.0), (2e8, 0.01)])
def test_an_enormous_constraint_stays_within_bounds(make_vae, fast, x, tolerance, bound):
    model = make_vae(objective=objective(kv.objectives.Distance(enormous, tolerance)))
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    rule = fast(learning_rate=1e6, clip=(1e-3, 1e3), bounds=(0.01, 100.0))
    history = one_step_an_epoch(model, x, rule, epochs=2)
    assert history["lambda"] == pytest.approx([bound] * 2)
    assert all(np.isfinite(values).all() for values in history.values())


def test_the_weight_of_the_rate_is_that_of_the_bound(make_vae, x):
    """loss = beta KL + lambda C of the terms themselves."""
    bound = kv.objectives.ELBO(beta=0.5)
    one = kv.objectives.GECO(SquaredError(3.0), bound, 0.7)
    model = make_vae(objective=one)
    terms = model.compute_terms(*model.standardize(x)[:1], 1, seed=3)
    loss, _ = one.loss_and_measures(terms)
    errors = np.sum((x - terms.draws.p_x.mean()[0]) ** 2, axis=(1, 2, 3))
    expected = 0.5 * terms.kl_total + 0.7 * (errors - 3.0**2)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
