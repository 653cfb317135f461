"""Float32: every estimator stays finite where weights and scales are extreme."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import keras_vae as kv
from keras_vae.terms import Draws, Path

tfd = tfp.distributions
ELBO, ImportanceWeighted = kv.objectives.ELBO, kv.objectives.ImportanceWeighted


def objectives(count):
    """Return every estimator of every bound of `count` samples."""
    elbo_estimators = ("reparameterized", "sticking_the_landing", "score_function")
    half = count // 2
    return [
        *(ELBO(num_samples=count, estimator=name) for name in elbo_estimators),
        ELBO(num_samples=count, estimator="score_function", baseline="none"),
        *(ImportanceWeighted(count, name) for name in kv.objectives.estimators.ESTIMATORS),
        ImportanceWeighted(count, "score_function", baseline="none"),
        ImportanceWeighted(count, "score_function", elbo_weight=0.5),
        ImportanceWeighted(half, "doubly_reparameterized", num_groups=2),
        ImportanceWeighted(half, "score_function", num_groups=2),
    ]


def is_bound(objective):
    """Return whether the value is finite if a single sample has the density zero."""
    if not isinstance(objective, ImportanceWeighted):
        return False
    return objective.elbo_weight == 0.0 and objective.num_groups == 1


def in_mode(function, jit_compile):
    return tf.function(function, jit_compile=True, autograph=False) if jit_compile else function


# Terms made by hand: log p(x|z) is a number for every sample, plus something that depends on z.


def terms_of(offsets, loc, raw_scale, slope):
    """Return terms of log p(x|z) = offset + slope sum(z), with `[K, B]` offsets."""
    q = tfd.MultivariateNormalDiag(loc, tf.math.softplus(raw_scale))
    p_z = tfd.MultivariateNormalDiag(tf.zeros(2), tf.ones(2))
    path = Path()
    z = path(q.sample(offsets.shape[0], seed=tf.constant([1, 2])))
    log_p_x = offsets + slope * tf.reduce_sum(z, axis=-1)
    kl = kv.bounds.closed_form_kl(q, p_z)
    draws = Draws(None, z, q, p_z, None, None, path, tf.constant([3, 4]), True)
    return kv.Terms(log_p_x, p_z.log_prob(z), q.log_prob(z), kl, draws)


def compute(chosen, offsets, parameters):
    results = []
    for objective in chosen:
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            loss = objective.loss(terms_of(offsets, *parameters))
        results.append([loss, *tape.gradient(loss, parameters)])
    return results


def losses_and_gradients(function, offsets):
    """Return losses `[B]` and gradients of every objective at these `[K, B]` offsets."""
    count = offsets.shape[1]
    parameters = [tf.constant(v, shape=[count, 2]) for v in (0.1, 0.7)] + [tf.constant(0.3)]
    return function(tf.constant(offsets, tf.float32), parameters)


@functools.cache  # To compile them takes seconds, whatever the numbers are.
def every_estimator(count, jit_compile):
    """Return every objective of `count` samples, and the function that computes them all."""
    chosen = objectives(count)
    return chosen, in_mode(functools.partial(compute, chosen), jit_compile)


def assert_finite(chosen, results):
    for objective, (loss, *gradients) in zip(chosen, results, strict=True):
        said = f"{objective.get_config()}"
        assert np.all(np.isfinite(loss)), said
        for gradient in gradients:
            assert gradient is not None and np.all(np.isfinite(gradient)), said


def extreme_offsets(count):
    """Return log-densities `[K, 6]`, every column a trouble of its own."""
    normal = np.random.default_rng(0).normal(size=[count, 6])
    offsets = normal.copy()
    offsets[:, 0] = -1e6  # Every weight underflows, all alike.
    offsets[:, 1] -= 1e6  # Every weight underflows.
    offsets[0, 2] += 1e5  # One weight dominates by 1e5 nats.
    offsets[-1, 3] -= 1e6  # One weight is nothing.
    offsets[:, 4] *= 1e5  # A spread that leaves one weight.
    offsets[:, 5] = 1e6  # Densities of continuous data may be large.
    return offsets


@pytest.mark.first_is_quick
@pytest.mark.parametrize("count, jit_compile", [(2, False), (1000, True)])
def test_extreme_weights(count, jit_compile):
    chosen, function = every_estimator(count, jit_compile)
    assert_finite(chosen, losses_and_gradients(function, extreme_offsets(count)))


def test_losses_of_extreme_weights_are_right():
    chosen = [ImportanceWeighted(1000, name) for name in kv.objectives.estimators.ESTIMATORS]
    results = losses_and_gradients(functools.partial(compute, chosen), extreme_offsets(1000))
    for loss, *_ in results:
        # -log 1/K sum w of what dominates, but for some nats of z; rounding of 1e6 is 0.06.
        dominant = np.log(1000.0) - 1e5
        np.testing.assert_allclose(loss[:3], [1e6, 1e6, dominant], atol=10.0)
        np.testing.assert_allclose(loss[5], -1e6, atol=10.0)


@pytest.mark.first_is_quick
@pytest.mark.parametrize("count, jit_compile", [(2, False), (1000, True)])
def test_a_sample_of_density_zero_poisons_nothing(count, jit_compile):
    offsets = np.zeros([count, 6])  # As many as above, for which it is compiled.
    offsets[0, 0] = offsets[-1, 1] = -np.inf
    offsets[1:, 2] = -np.inf  # All but one.
    chosen, function = every_estimator(count, jit_compile)
    results = losses_and_gradients(function, offsets)
    bounds = [pair for pair in zip(chosen, results, strict=True) if is_bound(pair[0])]
    assert len(bounds) == 5
    assert_finite(*zip(*bounds, strict=True))


def test_a_sample_of_density_zero_does_not_count_under_a_constraint():
    constraint = kv.objectives.NegativeLogLikelihood(1.0)
    chosen = [kv.objectives.GECO(constraint, ImportanceWeighted(4))]
    offsets = np.zeros([4, 2])
    offsets[1, 0] = -np.inf
    assert_finite(chosen, losses_and_gradients(functools.partial(compute, chosen), offsets))


# Posteriors at the ends of what their parameters can be: location and raw scale.

POSTERIORS = {
    "collapsed": (0.0, -1e6),
    "collapsed far off": (1e4, -1e6),
    "exploded": (0.0, 1e6),
    "exploded far off": (1e4, 1e6),
    "minus": (-1e4, -1e3),
}


@pytest.mark.first_is_quick
@pytest.mark.parametrize(
    "posterior, jit_compile",
    [("DiagonalNormal", False), ("DiagonalNormal", True), ("FullCovarianceNormal", False)],
)
def test_collapsed_and_exploded_posteriors(posterior, jit_compile):
    head, size = getattr(kv.posteriors, posterior)(2), len(POSTERIORS)
    model = kv.VAE(
        encoder=keras.layers.Dense(size),
        decoder=keras.layers.Dense(size),
        posterior=head,
        likelihood=kv.likelihoods.Normal((size,), scale="shared"),
    )
    # Every example has a posterior of its own; a gradient that is not finite is so in the sum, too.
    x = tf.eye(size)
    model.encoder.kernel.assign(x)
    # Only the diagonal of a Cholesky factor goes through `positive_scale`.
    diagonal = tfp.math.fill_triangular_inverse(tf.eye(2))
    of_scales = tf.ones(2) if posterior == "DiagonalNormal" else diagonal
    loc, raw_scale = tf.transpose(list(POSTERIORS.values()))[..., None]
    head.loc.kernel.assign(tf.tile(loc, [1, 2]))
    head.raw_scale.kernel.assign(raw_scale * of_scales)
    # What XLA makes of densities, draws and KLs is the same in all of them.
    few = [ELBO(num_samples=4), ImportanceWeighted(2, "doubly_reparameterized", num_groups=2)]
    chosen = few if jit_compile else objectives(4)

    def compute():
        results = []
        for objective in chosen:
            with tf.GradientTape() as tape:
                loss = objective.loss(model.compute_terms(x, 4, training=True, seed=1))
            results.append([loss, *tape.gradient(loss, model.trainable_variables)])
        return results

    assert_finite(chosen, in_mode(compute, jit_compile)())
