"""Steps that are finite until the optimizer makes them leave no trace; huge gradients are cut."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.training import non_finite, optimization, optimizer_step
from tests.small_models import make_vae
from tests.training.test_non_finite import WithRule, fit, state

SHAPE, BATCH = (4, 3), 8
ADAM, SGD = keras.optimizers.Adam, keras.optimizers.SGD

# Each makes an infinity, or NaN, of finite gradients; what is bad first.
BAD_STEPS = {
    "squares overflow": (lambda: ADAM(0.01), 1e15, "new value of adam/"),
    "rate": (lambda: SGD(1e38), 1e3, "new value of "),
    "rate that is infinite": (lambda: ADAM(np.inf), 1.0, "new value of "),
    "nothing by nothing": (lambda: ADAM(0.01, epsilon=0.0), 0.0, "new value of "),
}


def make(optimizer, **options):
    model = make_vae(shape=SHAPE, likelihood=kv.likelihoods.Normal(SHAPE, scale=1e-3))
    model.compile(optimizer, **options)
    return model


def images(factor=1.0):
    x = np.random.default_rng(0).uniform(0.0, 1.0, (BATCH, *SHAPE))
    return (factor * x).astype("float32")


@pytest.mark.parametrize(
    ("case", "rule"),
    [
        ("squares overflow", None),
        ("squares overflow", non_finite.Stop),
        *((case, non_finite.Skip) for case in BAD_STEPS),
    ],
)
def test_a_step_is_judged_by_what_it_would_write(case, rule):
    optimizer, factor, name = BAD_STEPS[case]
    model = make(optimizer(), run_eagerly=True)
    # Of zeros there is no gradient, of which Adam makes zero over epsilon.
    x = images(factor)
    model.optimizer.build(model.trainable_variables)
    before = state(model)
    if rule is None:
        with pytest.raises(ArithmeticError, match=f"the {name}.* is not finite; all weights are"):
            fit(model, x)
    else:
        told = WithRule(rule)
        assert fit(model, x, told)["skipped_steps"] == [1]
        assert name in model.names_of_quantities[int(told.first.numpy())]
    for key, value in state(model).items():
        if "ined_batches" not in key:  # which counts batches that are read
            np.testing.assert_array_equal(value, before[key], err_msg=key)


@pytest.mark.full
@pytest.mark.parametrize("mode", ["xla", "replicas"])
def test_a_bad_step_leaves_no_trace_in_any_mode(mode, replicas):
    with replicas.scope() if mode == "replicas" else contextlib.nullcontext():
        model = make(ADAM(0.01), jit_compile=mode == "xla")
        model.build((None, *SHAPE))
        model.optimizer.build(model.trainable_variables)
    for slot in model.optimizer.variables[2:]:
        slot.assign(np.full(slot.shape, 0.5))
    before, rule = state(model), WithRule(non_finite.Skip)
    assert fit(model, images(1e15), rule)["skipped_steps"] == [1]
    assert "new value of adam/" in model.names_of_quantities[int(rule.first.numpy())]
    for key, value in state(model).items():
        if "ined_batches" not in key:
            np.testing.assert_array_equal(value, before[key], err_msg=key)


@pytest.mark.parametrize("option", ["global_clipnorm", "clipnorm"])
@pytest.mark.parametrize("size", [1.0, 1e25, 3e38])
def test_norms_of_huge_gradients_do_not_overflow(option, size):
    # The step is minus the gradient over its norm, taken in double precision here.
    variables = [keras.Variable(np.zeros(shape)) for shape in [(3, 2), (2,)]]
    values = [np.array([[0.5, -1.0], [0.0, 0.25], [1e-3, 1.0]]), np.array([1.0, -0.5])]
    gradients = [tf.constant(size * value, tf.float32) for value in values]
    optimizer = SGD(1.0, **{option: 0.125})
    optimizer.build(variables)
    optimization.apply(optimizer, gradients, variables, {})
    norms = [np.linalg.norm(value) for value in values]
    norms = [np.hypot(*norms)] * 2 if option == "global_clipnorm" else norms
    for variable, value, norm in zip(variables, values, norms, strict=True):
        np.testing.assert_allclose(variable.numpy(), -0.125 * value / norm, rtol=1e-5)


def test_gradients_that_need_no_clipping_stay_as_they_are():
    variable = keras.Variable([0.0])
    optimizer = SGD(1.0, global_clipnorm=1e9)
    optimizer.build([variable])
    optimization.apply(optimizer, [tf.constant([3e7])], [variable], {})
    assert variable.numpy() == [-3e7]


def test_a_pixel_that_is_far_too_bright_is_clipped_as_any_other():
    x = images()
    x[0, 0, 0] = 3e12
    model = make(ADAM(0.01, global_clipnorm=1.0), run_eagerly=True)
    fit(model, x)
    assert all(np.isfinite(value).all() for value in state(model).values())
    assert int(model.optimizer.iterations.numpy()) == 1


@pytest.mark.parametrize(
    ("optimizer", "bounded"),
    [
        (lambda: ADAM(0.01), True),
        (lambda: kv.optimizers.RAdam(0.01), True),
        (lambda: keras.optimizers.LossScaleOptimizer(SGD(0.1, momentum=0.9)), True),
        (lambda: ADAM(0.01, epsilon=0.0), False),
        (lambda: keras.optimizers.RMSprop(0.01, centered=True), False),
        (lambda: SGD(0.01, loss_scale_factor=2.0), False),
        (lambda: type("Own", (ADAM,), {})(0.01), False),
    ],
)
def test_values_are_kept_only_where_a_step_may_be_bad(optimizer, bounded):
    assert optimizer_step._is_bounded(optimizer(), [keras.Variable(0.0)]) == bounded
    limited = keras.Variable(0.0)
    limited.constraint = keras.constraints.NonNeg()
    assert not optimizer_step._is_bounded(optimizer(), [limited])
