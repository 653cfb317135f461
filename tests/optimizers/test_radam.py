"""RAdam against the formulas of the paper in NumPy, and what it inherits from Keras."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.optimizers import RAdam

STEPS, SIZE, RATE = 30, 7, 0.05


def reference(start, gradients, lr=RATE, beta_1=0.9, beta_2=0.999, epsilon=0.0, weight_decay=0.0):
    """Return theta after every step: Liu et al., 2020, algorithm 2, with decoupled decay."""
    theta, m, v, path = start.copy(), 0.0, 0.0, []
    rho_inf = 2 / (1 - beta_2) - 1
    for t, g in enumerate(gradients, 1):
        m = beta_1 * m + (1 - beta_1) * g
        v = beta_2 * v + (1 - beta_2) * g**2
        m_hat = m / (1 - beta_1**t)
        rho = rho_inf - 2 * t * beta_2**t / (1 - beta_2**t)
        theta = theta * (1 - lr * weight_decay)
        if rho > 4:
            r = ((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)) ** 0.5
            # l_t of the paper is sqrt((1 - beta_2^t) / v).
            theta = theta - lr * m_hat * r * (1 - beta_2**t) ** 0.5 / (v**0.5 + epsilon)
        else:
            theta = theta - lr * m_hat
        path.append(theta)
    return np.array(path)


@pytest.fixture
def gradients():
    """Return gradients of very different sizes, which turn their signs: [T, n]."""
    rng = np.random.default_rng(1)
    return rng.normal(size=(STEPS, SIZE)) * np.logspace(-4, 3, SIZE)


START = np.linspace(-2.0, 3.0, SIZE)


def path_of(optimizer, gradients, dtype="float64", compiled=None):
    """Return the variable after every step."""
    variable, path = keras.Variable(START, dtype=dtype), []
    optimizer.build([variable])

    def apply(gradient):
        optimizer.apply([gradient], [variable])

    if compiled is not None:
        apply = tf.function(apply, jit_compile=compiled)
    for gradient in gradients:
        apply(tf.constant(gradient, dtype))
        path.append(keras.ops.convert_to_numpy(variable))
    return np.array(path)


@pytest.mark.parametrize(
    ("beta_2", "beta_1", "epsilon"),
    [
        (0.9999, 0.9, 1e-3),
        (0.999, 0.9, 0.0),
        (0.9, 0.0, 1e-3),
        (0.7, 0.9, 0.0),
        (0.6, 0.9, 1e-3),
        (0.5, 0.0, 0.0),
        (0.0, 0.9, 0.0),
    ],
)
def test_steps_are_those_of_the_paper(float64, gradients, beta_1, beta_2, epsilon):
    numbers = {"beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon}
    found = path_of(RAdam(RATE, **numbers), gradients)
    # At 0.9999, rho is a difference of numbers 2e4 times as large, in the reference as well.
    rtol = 1e-8 if beta_2 == 0.9999 else 1e-12
    np.testing.assert_allclose(found, reference(START, gradients, **numbers), rtol=rtol)


def test_reference_rectifies_where_the_paper_does(gradients):
    # The threshold is what the test above is about: not met at t = 4, met at t = 5. Steps of
    # momentum grow with the gradient, adaptive ones do not.
    small, large = (np.diff(reference(START, s * gradients), axis=0) for s in (1.0, 1e3))
    np.testing.assert_allclose(large[:3], 1e3 * small[:3], rtol=1e-6)  # t = 2, 3, 4
    np.testing.assert_allclose(large[3:], small[3:], rtol=1e-6, atol=1e-12)  # t = 5, ...
    never = [np.diff(reference(START, s * gradients, beta_2=0.6), axis=0) for s in (1.0, 1e3)]
    np.testing.assert_allclose(never[1], 1e3 * never[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("compiled", "beta_2"), [(None, 0.999), (None, 0.9999), (False, 0.9999), (True, 0.9999)]
)
def test_float32_switches_at_the_right_step(gradients, compiled, beta_2):
    # In float32 alone, rho of beta_2 = 0.9999 would be 4.02 at t = 4 in place of 3.9997.
    found = path_of(RAdam(RATE, beta_2=beta_2), gradients, "float32", compiled)
    expected = reference(START, gradients, beta_2=beta_2, epsilon=1e-7)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("compiled", [None, True], ids=["eager", "xla"])
def test_bfloat16_variables(gradients, compiled):
    found = path_of(RAdam(RATE), gradients / 1e3, "bfloat16", compiled).astype("float64")
    # One rounding to 8 bits a step, of values up to 3: 2^-8 each.
    np.testing.assert_allclose(found[:6], reference(START, gradients / 1e3)[:6], atol=0.05)
    assert np.isfinite(found).all()


def test_xla_takes_the_eager_steps(float64, gradients):
    eager = path_of(RAdam(RATE), gradients)
    compiled = path_of(RAdam(RATE), gradients, compiled=True)
    np.testing.assert_allclose(compiled, eager, rtol=1e-13, atol=1e-14)


@pytest.mark.full
def test_schedule_and_callable_rates(float64, gradients):
    schedule = kv.schedules.Linear(0.1, 0.0, steps=2 * STEPS)
    rates = 0.1 * (1 - np.arange(STEPS) / (2 * STEPS))
    found = path_of(RAdam(schedule), gradients)
    # With a momentum of 0 and no adaptation each step is -lr g.
    plain = path_of(RAdam(schedule, beta_1=0.0, beta_2=0.5), gradients)
    expected = START - np.cumsum(rates[:, None] * gradients, axis=0)
    np.testing.assert_allclose(plain, expected, rtol=1e-12, atol=1e-12)
    assert np.abs(found - path_of(RAdam(0.1), gradients)).max() > 1e-2
    np.testing.assert_array_equal(
        path_of(RAdam(lambda: RATE), gradients), path_of(RAdam(RATE), gradients)
    )


def test_no_step_without_a_gradient():
    # 0 / 0 of the paper's formulas, where a weight has never had a gradient.
    found = path_of(RAdam(RATE, epsilon=0.0), np.zeros([8, SIZE]))
    np.testing.assert_array_equal(found, np.tile(START, (8, 1)))


def test_beta_1_may_be_a_tensor(float64, gradients):
    optimizer = RAdam(RATE, beta_1=0.5)
    optimizer.beta_1 = tf.Variable(0.9, dtype=tf.float64)
    expected = path_of(RAdam(RATE, beta_1=0.9), gradients)
    np.testing.assert_allclose(path_of(optimizer, gradients, compiled=False), expected, rtol=1e-12)


# What is inherited.


def test_weight_decay_is_decoupled(float64, gradients):
    # A power of two, as Keras takes the number by way of float32.
    found = path_of(RAdam(RATE, epsilon=0.0, weight_decay=0.125), gradients)
    expected = reference(START, gradients, weight_decay=0.125)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def clipped_norm(g):
    return g * min(1.0, 3.0 / np.linalg.norm(g))


CLIPS = {
    "clipvalue": lambda g: np.clip(g, -3.0, 3.0),
    "clipnorm": clipped_norm,
    "global_clipnorm": clipped_norm,
}


@pytest.mark.parametrize("name", CLIPS)
def test_clipping(float64, gradients, name):
    found = path_of(RAdam(RATE, epsilon=0.0, **{name: 3.0}), gradients)
    clipped = np.array([CLIPS[name](g) for g in gradients])
    assert np.abs(clipped - gradients).max() > 1
    np.testing.assert_allclose(found, reference(START, clipped), rtol=1e-11)


def test_gradient_accumulation(float64, gradients):
    found = path_of(RAdam(RATE, epsilon=0.0, gradient_accumulation_steps=3), gradients)
    means = gradients.reshape(-1, 3, SIZE).mean(axis=1)
    np.testing.assert_allclose(found[2::3], reference(START, means), rtol=1e-11)
    np.testing.assert_array_equal(found[3], found[2])


def test_ema(float64, gradients):
    optimizer = RAdam(RATE, epsilon=0.0, use_ema=True, ema_momentum=0.8)
    path = path_of(optimizer, gradients)
    np.testing.assert_allclose(path, reference(START, gradients), rtol=1e-12)
    average = path[0]
    for theta in path[1:]:
        average = 0.8 * average + 0.2 * theta
    (variable,) = optimizer._trainable_variables
    optimizer.finalize_variable_values([variable])
    np.testing.assert_allclose(variable.numpy(), average, rtol=1e-12)


def test_loss_scale_factor(float64, gradients):
    optimizer = RAdam(RATE, loss_scale_factor=8.0)
    assert float(optimizer.scale_loss(tf.constant(2.0))) == 16.0
    np.testing.assert_array_equal(
        path_of(optimizer, 8.0 * gradients), path_of(RAdam(RATE), gradients)
    )


def test_dynamic_loss_scaling_skips_overflows(gradients):
    # A scale of 2^10 and powers of two as gradients: nothing is rounded, the steps are equal.
    scaled = keras.optimizers.LossScaleOptimizer(RAdam(RATE), initial_scale=2.0**10)
    bad = np.insert(2.0**10 * gradients[:9], 4, np.inf, axis=0)
    bad[5:] /= 2.0  # which halves the scale
    found = path_of(scaled, bad, "float32")
    expected = path_of(RAdam(RATE), gradients[:9], "float32")
    np.testing.assert_array_equal(found[4], found[3])
    np.testing.assert_array_equal(np.delete(found, 4, axis=0), expected)
    assert int(scaled.iterations) == 9


@pytest.mark.parametrize("options", [{}, {"clipnorm": 0.5}], ids=["plain", "clipped"])
def test_sparse_gradients_are_those_of_the_dense(float64, options):
    rng = np.random.default_rng(2)
    start, paths = rng.normal(size=(5, 3)), []
    rows = rng.integers(0, 5, (8, 4))
    rows[:, 1] = rows[:, 0]  # a row that occurs twice counts as the sum
    values = rng.normal(size=(8, 4, 3))
    for dense in (False, True):
        variable, optimizer = keras.Variable(start), RAdam(RATE, **options)
        for r, g in zip(rows, values, strict=True):
            gradient = tf.IndexedSlices(tf.constant(g), tf.constant(r), tf.constant([5, 3]))
            # Keras clips slices by the norm of their rows, duplicates apart.
            if options:
                gradient = tf.IndexedSlices(gradient.values[1:], gradient.indices[1:], [5, 3])
                unique, index = np.unique(r[1:], return_inverse=True)
                summed = tf.math.unsorted_segment_sum(g[1:], index, len(unique))
                gradient = tf.IndexedSlices(summed, tf.constant(unique), tf.constant([5, 3]))
            optimizer.apply([tf.convert_to_tensor(gradient) if dense else gradient], [variable])
        paths.append(variable.numpy())
    np.testing.assert_allclose(*paths, rtol=1e-12)
    assert np.abs(paths[0] - start).max() > 1e-2


# With models.


def train(model, x, epochs=1, **kwargs):
    options = {"batch_size": 8, "shuffle": False, "verbose": 0, **kwargs}
    return model.fit(x, epochs=epochs, **options).history


@pytest.mark.full
def test_a_vae_learns_at_a_driven_rate(make_vae, x):
    model = make_vae()
    model.compile(RAdam(1e-2), steps_per_execution=3)
    schedule = kv.schedules.Linear(0.02, 0.0, steps=60)
    callback = kv.callbacks.HyperparameterSchedule("learning_rate", schedule)
    history = train(model, x, epochs=20, callbacks=[callback])
    assert sorted(history) == ["elbo", "kl", "learning_rate", "loss", "reconstruction"]
    assert history["loss"][-1] < history["loss"][0] - 1.0
    assert int(model.optimizer.iterations) == 60
    assert history["learning_rate"][-1] == pytest.approx(0.02 / 60)


def test_saved_and_resumed_is_unbroken(make_vae, weights, x, tmp_path):
    whole, x = make_vae(), x[:8]
    whole.compile(RAdam(1e-2, weight_decay=0.01, use_ema=True), run_eagerly=True)
    train(whole, x)
    whole.save(tmp_path / "m.keras")
    resumed = keras.saving.load_model(tmp_path / "m.keras")
    resumed.run_eagerly = True
    for model in (whole, resumed):
        train(model, x)
    assert int(resumed.optimizer.iterations) == 2
    for a, b in zip(weights(whole), weights(resumed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_config():
    arguments = {"learning_rate": 0.25, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-5}
    inherited = {"weight_decay": 0.1, "clipnorm": 2.0, "use_ema": True, "ema_momentum": 0.5}
    optimizer = RAdam(**arguments, **inherited, gradient_accumulation_steps=2, name="mine")
    text = json.dumps(keras.optimizers.serialize(optimizer))
    restored = keras.optimizers.deserialize(json.loads(text))
    assert type(restored) is RAdam
    assert restored.get_config() == optimizer.get_config()
    for name, value in {**arguments, **inherited}.items():
        assert restored.get_config()[name] == value
    schedule = kv.schedules.Linear(0.1, 0.0, steps=9)
    config = RAdam(schedule).get_config()
    assert RAdam.from_config(config).get_config() == RAdam(schedule).get_config() | {
        "name": config["name"]
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [("beta_1", 1.0), ("beta_1", -0.1), ("beta_2", 1.0), ("beta_2", "0.9"), ("epsilon", -1e-8)],
)
def test_bad_arguments(name, value):
    with pytest.raises(ValueError, match=rf"`{name}` must be .*Received: {name}={value!r}"):
        RAdam(**{name: value})


def test_two_replicas_take_the_steps_of_one_device(replicas):
    # Given gradients, for the noise of z differs from replica to replica.
    one = keras.Variable(np.ones(3, "float32"))
    gradients = np.random.default_rng(3).normal(size=(9, 3)).astype("float32")
    optimizer = RAdam(RATE, weight_decay=0.1)
    for gradient in gradients:
        optimizer.apply([tf.constant(gradient)], [one])
    with replicas.scope():
        two = keras.Variable(np.ones(3, "float32"))
        optimizer = RAdam(RATE, weight_decay=0.1)
        optimizer.build([two])

    @tf.function
    def step(gradient):
        # Each replica brings a part: 1/3 and 2/3.
        part = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group + 1, tf.float32)
        optimizer.apply([gradient * part / 3.0], [two])

    for gradient in gradients:
        replicas.run(step, args=(tf.constant(gradient),))
    np.testing.assert_allclose(two.numpy(), one.numpy(), rtol=1e-5)
    for copy in replicas.experimental_local_results(two.value):
        np.testing.assert_array_equal(copy.numpy(), two.numpy())
