"""A driven momentum does to each optimizer what changing its number by hand would do."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.callbacks import OneCycleLearningRate
from keras_vae.controllers import OptimizerMomentum
from keras_vae.schedules import OneCycle

OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "SGD, Nesterov": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "SGD, accumulating": lambda: keras.optimizers.SGD(
        0.1, momentum=0.9, gradient_accumulation_steps=2
    ),
    "RMSprop": lambda: keras.optimizers.RMSprop(0.1, momentum=0.9),
    "RMSprop, centered": lambda: keras.optimizers.RMSprop(0.1, momentum=0.9, centered=True),
    "Adam": lambda: keras.optimizers.Adam(0.1),
    "Adam, amsgrad": lambda: keras.optimizers.Adam(0.1, amsgrad=True),
    "AdamW": lambda: keras.optimizers.AdamW(0.1),
    "Adamax": lambda: keras.optimizers.Adamax(0.1),
    "Nadam": lambda: keras.optimizers.Nadam(0.1),
    "Lamb": lambda: keras.optimizers.Lamb(0.1),
    "RAdam": lambda: kv.optimizers.RAdam(0.1),
    "loss scaling": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.1, momentum=0.9)
    ),
}
STEPS = 6


def momentum(step):
    """A schedule in float64, from 0.95 to 0.55 and on."""
    return 0.95 - 0.05 * tf.cast(step, "float64")


@pytest.fixture
def float64():
    """Let Keras work in float64; `clean_state` takes it back."""
    keras.config.set_floatx("float64")


def gradient(step, size):
    return np.sin(1.0 + step + np.arange(size))


def inner(optimizer):
    return getattr(optimizer, "inner_optimizer", optimizer)


def apply(optimizer, gradients, weights):
    if inner(optimizer) is not optimizer:
        gradients = optimizer.scale_loss(gradients)
    optimizer.apply([gradients], [weights])


def steps(optimizer, mode):
    """Return the weights after every step of an optimizer whose momentum is driven, or set."""
    weights, found = keras.Variable(np.linspace(-1.0, 1.0, 4)), []
    optimizer.build([weights])
    rule = OptimizerMomentum(optimizer, momentum)

    def function(gradients):
        apply(optimizer, gradients, weights)

    if mode == "XLA":  # As in the train step, a function within it.
        function = tf.function(function, jit_compile=True, autograph=False)

    def step(gradients):
        rule.before_step(optimizer.iterations)
        function(gradients)
        rule.end_trace()

    step = tf.function(step, autograph=False) if mode in ("graph", "XLA") else step
    for t in range(STEPS):
        if mode == "by hand":
            setattr(inner(optimizer), rule.name, float(momentum(int(optimizer.iterations))))
        (function if mode == "by hand" else step)(tf.constant(gradient(t, 4)))
        found.append(weights.numpy())
        assert type(getattr(inner(optimizer), rule.name)) is float
    return found


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_those_with_the_number_set_by_hand(float64, name):
    expected = steps(OPTIMIZERS[name](), "by hand")
    for mode in ("eager", "graph", "XLA") if name in ("SGD", "Adam", "RAdam") else ("graph",):
        # To float32: Keras takes floats of Python by way of it.
        found = steps(OPTIMIZERS[name](), mode)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7, err_msg=mode)


def test_sgd_follows_its_formula(float64):
    weights, memory = np.linspace(-1.0, 1.0, 4), np.zeros(4)
    for step, found in enumerate(steps(OPTIMIZERS["SGD"](), "graph")):
        memory = float(momentum(step)) * memory - 0.1 * gradient(step, 4)
        weights = weights + memory
        np.testing.assert_allclose(found, weights, rtol=1e-12)


def test_adam_follows_its_formula(float64):
    weights, m, v = np.linspace(-1.0, 1.0, 4), np.zeros(4), np.zeros(4)
    for step, found in enumerate(steps(OPTIMIZERS["Adam"](), "graph")):
        g, beta, t = gradient(step, 4), float(momentum(step)), step + 1
        m, v = beta * m + (1 - beta) * g, 0.999 * v + 0.001 * g**2
        rate = 0.1 * np.sqrt(1 - 0.999**t) / (1 - beta**t)
        weights = weights - rate * m / (np.sqrt(v) + 1e-7)
        np.testing.assert_allclose(found, weights, rtol=2e-5)  # β2 is taken by way of float32


# In a training.


class Numbers(keras.callbacks.Callback):
    """Writes down what is logged of each step, and what the optimizer would be saved with."""

    def __init__(self):
        super().__init__()
        self.logged, self.saved = [], []

    def on_train_batch_end(self, batch, logs=None):
        name = "momentum" if "momentum" in logs else "beta_1"
        self.logged.append(logs[name])
        self.saved.append(inner(self.model.optimizer).get_config()[name])


def test_one_cycle_drives_the_momentum_the_other_way(make_vae, x):
    model, numbers = make_vae(), Numbers()
    model.compile(keras.optimizers.Adam(0.1), jit_compile=False)
    cycle = OneCycleLearningRate(0.01, momentum=(0.85, 0.95))
    model.fit(x, batch_size=8, epochs=2, callbacks=[cycle, numbers], verbose=0)
    schedule = OneCycle(0.01, 8, momentum=(0.85, 0.95)).momentum_schedule
    assert numbers.logged == pytest.approx([float(schedule(t)) for t in range(8)])
    assert numbers.saved == [0.9] * 8
    assert model.hooks == {}


@pytest.mark.full
def test_replicas_take_the_same_momentum(make_vae, replicas, x):
    found, numbers = [], []
    for scope in (tf.distribute.get_strategy(), replicas):
        with scope.scope():
            model = make_vae()
            model.compile(
                keras.optimizers.SGD(0.1, momentum=0.5), run_eagerly=scope is not replicas
            )
        numbers.append(Numbers())
        cycle = OneCycleLearningRate(0.01, momentum=(0.1, 0.95))
        model.fit(x, batch_size=14, epochs=2, callbacks=[cycle, numbers[-1]], verbose=0)
        found.append(model.optimizer.get_config()["momentum"])
    assert numbers[0].logged == pytest.approx(numbers[1].logged)
    assert numbers[1].saved == [0.5] * 4 and found == [0.5, 0.5]


def test_a_training_that_breaks_off_leaves_the_float(make_vae, x):
    def crash(batch, logs):
        raise KeyboardInterrupt

    model = make_vae()
    model.compile(keras.optimizers.Adam(0.01, beta_1=0.8), run_eagerly=True)
    callbacks = [
        OneCycleLearningRate(0.01, momentum=(0.85, 0.95)),
        keras.callbacks.LambdaCallback(on_train_batch_end=crash),
    ]
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, callbacks=callbacks, verbose=0)
    with pytest.raises(ValueError, match="`x` must be"):  # within the first step
        model.fit(tf.data.Dataset.from_tensors(255.0 * x), callbacks=callbacks[:1], verbose=0)
    assert model.optimizer.beta_1 == 0.8 and type(model.optimizer.beta_1) is float


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (lambda: keras.optimizers.SGD(0.1), "must have a momentum above 0"),
        (lambda: keras.optimizers.RMSprop(0.1), "must have a momentum above 0"),
        (lambda: keras.optimizers.Adagrad(0.1), "SGD, RMSprop, Adam, AdamW.*optimizer='Adagrad'"),
        (lambda: keras.optimizers.Lion(0.1), "must be one whose momentum can be driven"),
    ],
)
def test_other_optimizers_are_refused(make_vae, x, optimizer, message):
    model = make_vae()
    model.compile(optimizer())
    with pytest.raises(ValueError, match=message):
        model.fit(x, callbacks=[OneCycleLearningRate(0.1, momentum=(0.85, 0.95))], verbose=0)
    assert model.hooks == {}
