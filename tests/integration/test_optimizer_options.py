"""What Keras's optimizers offer makes the right step, on one device and on two.

The step is compared with its formula for the gradient of the whole batch, which a step of plain
SGD tells. The models have no noise, so that replicas and halves of a batch have the same.
"""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vae.optimizers import RAdam, by_part
from tests.small_models import binary_images, make_mean_vae, make_vae

RATE, LIMIT, DECAY, EPSILON = 0.5, 0.05, 0.1, 1e-2


def sgd(**options):
    return keras.optimizers.SGD(RATE, **options)


def clipped(gradient, norm):
    return gradient * min(1.0, LIMIT / norm)


def norm(*gradients):
    return np.sqrt(sum(np.sum(g**2.0) for g in gradients))


def adamw_step(weights, gradients):
    # The first step: m_hat = g, v_hat = g^2, and epsilon before the correction of the bias.
    adaptive = [g / (np.abs(g) + EPSILON / np.sqrt(1 - 0.999)) for g in gradients]
    return [w - RATE * (a + DECAY * w) for w, a in zip(weights, adaptive, strict=True)]


def sgd_step(change):
    return lambda weights, gradients: [
        w - RATE * g for w, g in zip(weights, change(gradients), strict=True)
    ]


# Makers of optimizers, with the weights after a step.
OPTIONS = {
    "AdamW": (
        lambda: keras.optimizers.AdamW(RATE, weight_decay=DECAY, epsilon=EPSILON),
        adamw_step,
    ),
    "clipnorm": (
        lambda: sgd(clipnorm=LIMIT),
        sgd_step(lambda gradients: [clipped(g, norm(g)) for g in gradients]),
    ),
    "global_clipnorm": (
        lambda: sgd(global_clipnorm=LIMIT),
        sgd_step(lambda gradients: [clipped(g, norm(*gradients)) for g in gradients]),
    ),
    "clipvalue": (
        lambda: sgd(clipvalue=LIMIT),
        sgd_step(lambda gradients: [np.clip(g, -LIMIT, LIMIT) for g in gradients]),
    ),
    "accumulation": (
        lambda: sgd(gradient_accumulation_steps=2),
        sgd_step(lambda gradients: gradients),
    ),
}


def step(model, optimizer, x, batch_size=16):
    """Train for one epoch; return the weights before and after."""
    before = [w.numpy() for w in model.trainable_variables]
    with model.distribute_strategy.scope():
        model.compile(optimizer(), run_eagerly=True)
    model.fit(x[:16], batch_size=batch_size, shuffle=False, verbose=0)
    return before, [w.numpy() for w in model.trainable_variables]


@functools.cache
def plain_step():
    """Return the weights of a model, and the gradient that a step of plain SGD tells of."""
    before, after = step(make_mean_vae(), sgd, binary_images())
    gradients = [(a - b) / RATE for a, b in zip(before, after, strict=True)]
    assert norm(*gradients) > LIMIT and max(np.abs(g).max() for g in gradients) > LIMIT
    return before, gradients


def check_step(option, strategy=None):
    """Check a step of a model, on the devices of a strategy, against the formula."""
    with (strategy or tf.distribute.get_strategy()).scope():
        model = make_mean_vae()
    make, formula = OPTIONS[option]
    _, found = step(model, make, binary_images(), 8 if option == "accumulation" else 16)
    for a, b in zip(found, formula(*plain_step()), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("option", OPTIONS)
def test_step_on_one_device(option):
    check_step(option)


# What is made of the sum of the gradients of all replicas, and would differ for each of its own.
@pytest.mark.first_is_quick
@pytest.mark.parametrize("option", ["global_clipnorm", "clipnorm", "accumulation"])
def test_step_on_two_replicas(replicas, option):
    check_step(option, replicas)


@pytest.mark.parametrize(
    "options",
    [{"gradient_accumulation_steps": 2}, {"use_ema": True, "ema_overwrite_frequency": 3}],
    ids=lambda options: list(options)[-1],
)
def test_what_keras_cannot_do_on_replicas_is_refused(replicas, options):
    name = list(options)[-1]
    with replicas.scope():
        model = make_vae()
        for optimizer in (sgd(**options), by_part(model, default=sgd(**options))):
            with pytest.raises(ValueError, match=rf"`optimizer` must have {name}=None on several"):
                model.compile(optimizer)
        model.compile(sgd(**options), run_eagerly=True)


@pytest.mark.full
def test_an_overflow_on_any_replica_is_seen(replicas, x):
    # Loss scaling looks at the first replica alone, of which the sum is given to it.
    with replicas.scope():
        model = make_mean_vae()
        model.compile(keras.optimizers.LossScaleOptimizer(sgd()), run_eagerly=True)
    before = [w.numpy() for w in model.trainable_variables]
    weights = np.ones(16, "float32")
    weights[8:] = 1e35  # the examples of the second replica; times the scale, an overflow
    model.fit(x[:16], np.zeros(16), sample_weight=weights, batch_size=16, shuffle=False, verbose=0)
    assert model.optimizer.iterations.numpy() == 0
    for a, b in zip(before, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(a, b.numpy())


@pytest.mark.full
def test_own_optimizers_on_two_replicas(replicas, x):
    found = []
    one = make_mean_vae()
    with replicas.scope():
        two = make_mean_vae()
    for model in (one, two):
        with model.distribute_strategy.scope():
            decoder = keras.optimizers.SGD(0.1, global_clipnorm=0.1)
            optimizer = by_part(model, encoder=RAdam(0.05), decoder=decoder)
            model.compile(optimizer, run_eagerly=True)
        model.fit(x[:24], batch_size=4, shuffle=False, verbose=0)
        found.append([w.numpy() for w in model.trainable_variables])
    assert two.optimizer.iterations.numpy() == 6  # so that RAdam has adapted
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)
