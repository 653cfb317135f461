"""What Keras's optimizers offer makes the right step of every model, on one device and on two.

The step is compared with its formula for the gradient of the whole batch, which a step of plain
SGD tells. The models have no noise, so that replicas and halves of a batch have the same.
"""

import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.optimizers import RAdam, by_part
from tests.small_models import binary_images, make_mean_vae, make_vae

RATE, LIMIT, DECAY, EPSILON = 0.5, 0.05, 0.1, 1e-2

PRESETS = {
    "VAE": (kv.VAE, {}),
    "BetaVAE": (kv.BetaVAE, {"beta": 2.0}),
    "IWAE": (kv.IWAE, {"num_samples": 1}),  # all samples are the same where there is no noise
    "GECOVAE": (kv.GECOVAE, {"constraint": kv.objectives.SquaredError(2.0)}),
    "ConditionalVAE": (kv.ConditionalVAE, {"condition": 3}),
}


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


def step(model, optimizer, x, batch_size=16, run_eagerly=True):
    """Train for one epoch; return the weights before and after."""
    before = [w.numpy() for w in model.trainable_variables]
    y = np.arange(16) % 3
    with model.distribute_strategy.scope():
        model.compile(optimizer(), run_eagerly=run_eagerly)
    model.fit(x[:16], y, batch_size=batch_size, shuffle=False, verbose=0)
    return before, [w.numpy() for w in model.trainable_variables]


@functools.cache
def plain_step(preset):
    """Return the weights of a preset, and the gradient that a step of plain SGD tells of."""
    kind, arguments = PRESETS[preset]
    before, after = step(make_mean_vae(kind, **arguments), sgd, binary_images())
    gradients = [(a - b) / RATE for a, b in zip(before, after, strict=True)]
    assert norm(*gradients) > LIMIT and max(np.abs(g).max() for g in gradients) > LIMIT
    return before, gradients


def check_step(preset, option, strategy=None, **kwargs):
    """Check a step of a preset, on the devices of a strategy, against the formula."""
    kind, arguments = PRESETS[preset]
    with (strategy or tf.distribute.get_strategy()).scope():
        model = make_mean_vae(kind, **arguments)
    make, formula = OPTIONS[option]
    _, found = step(model, make, binary_images(), 8 if option == "accumulation" else 16, **kwargs)
    for a, b in zip(found, formula(*plain_step(preset)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


# Each preset and each option at least once; all of them with each other in the full suite.
PAIRS = [*zip(PRESETS, OPTIONS, strict=True)]
REST = [pair for pair in itertools.product(PRESETS, OPTIONS) if pair not in PAIRS]


@pytest.mark.parametrize(
    ("preset", "option"), [*PAIRS, *(pytest.param(*pair, marks=pytest.mark.full) for pair in REST)]
)
def test_step_on_one_device(preset, option):
    check_step(preset, option)


@pytest.mark.first_is_quick
@pytest.mark.parametrize(("preset", "option"), PAIRS)
def test_step_on_two_replicas(replicas, preset, option):
    check_step(preset, option, replicas)


@pytest.mark.full
def test_step_on_two_replicas_in_a_graph(replicas):
    check_step("VAE", "clipnorm", replicas, run_eagerly=False)


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
            model.compile(optimizer, run_eagerly=model is one)
        model.fit(x[:24], batch_size=8, epochs=2, shuffle=False, verbose=0)
        found.append([w.numpy() for w in model.trainable_variables])
    assert two.optimizer.iterations.numpy() == 6  # so that RAdam has adapted
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)
