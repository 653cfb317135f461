"""What the callback of GECO refuses, before anything changes."""

import numpy as np
import pytest

import keras_vae as kv
from keras_vae import objectives


def objective(constraint):
    return objectives.GECO(constraint, initial_multiplier=0.5)


def test_other_objectives_are_refused(make_vae, weights_of, x):
    model = make_vae()
    model.compile("sgd", run_eagerly=True)
    before = weights_of(model)
    with pytest.raises(ValueError, match="`model` must have a keras_vae.objectives.GECO"):
        model.fit(x, callbacks=[kv.callbacks.GECO()], verbose=0)
    for weight in model.weights:
        np.testing.assert_array_equal(weight.numpy(), before[id(weight)])


SECOND = {
    "GECO": lambda: kv.callbacks.GECO(),
    "lambda": lambda: kv.callbacks.HyperparameterSchedule("lambda", kv.schedules.Constant(1.0)),
    "kappa": lambda: kv.callbacks.HyperparameterSchedule("kappa", kv.schedules.Constant(1.0)),
}


@pytest.mark.parametrize(
    ("second", "order"), [("GECO", 1), ("lambda", 1), ("lambda", -1), ("kappa", -1)]
)
def test_two_callbacks_for_one_number_are_refused(make_vae, x, second, order):
    model = make_vae(objective=objective(objectives.SquaredError(3.0)))
    model.compile("sgd", run_eagerly=True)
    callbacks = [kv.callbacks.GECO(kappa=kv.schedules.Constant(2.0)), SECOND[second]()][::order]
    with pytest.raises(ValueError, match="driven by another callback"):
        model.fit(x, callbacks=callbacks, verbose=0)
    assert float(model.objective.multipliers[0]) == 0.5
    assert float(model.objective.constraints[0].kappa) == 3.0
    assert not model.hooks, "both are detached"


BAD = [
    ("learning_rate", [0.0, -1.0, np.nan, np.inf, "1", None, True]),
    ("alpha", [-0.1, 1.0, 1.5, np.nan, None]),
    ("clip", [(1.1, 0.9), (0.0, 1.1), (1.1, 1.2), (0.8, 0.9), 1.0, (0.9,), (0.9, np.inf), "ab"]),
    ("bounds", [(2.0, 1.0), (0.0, 1.0), (-1.0, 1.0), None, (1.0, np.nan)]),
    ("every", [0, -1, 1.5, None, True]),
    ("warmup_steps", [-1, 0.5, None]),
    ("kappa", [4.0, "linear"]),
]


@pytest.mark.parametrize(("argument", "value"), [(a, v) for a, values in BAD for v in values])
def test_bad_arguments_are_refused(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}` must .*Received: {argument}="):
        kv.callbacks.GECO(**{argument: value})


@pytest.mark.parametrize("constraint", [objectives.SquaredError, objectives.NegativeLogLikelihood])
def test_kappa_must_be_one(make_vae, x, constraint):
    model = make_vae(objective=objective([constraint(3.0), constraint(4.0)]))
    model.compile("sgd", run_eagerly=True)
    rule = kv.callbacks.GECO(kappa=kv.schedules.Constant(2.0))
    with pytest.raises(ValueError, match="`kappa` must be None unless one.*HyperparameterSchedule"):
        model.fit(x, callbacks=[rule], verbose=0)
    assert not model.hooks, "the multipliers are detached"
