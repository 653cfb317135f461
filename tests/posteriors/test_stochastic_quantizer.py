"""Codes that are drawn: probabilities, vectors, gradients, and that training makes them sure."""

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

import keras_vae as kv


def built(dtype="float64", **options):
    head = kv.posteriors.StochasticQuantizer(
        (2, 1), 4, 3, initial_scale=0.7, dtype=dtype, **options
    )
    head.build((None, 2, 1, 5))
    return head


def features(size=6):
    return tf.constant(np.random.default_rng(0).normal(size=(size, 2, 1, 5)))


def test_probabilities_are_those_of_normal_densities_around_the_vectors():
    head = built()
    kernel, bias = head.projection.get_weights()
    vectors = np.asarray(head.embeddings)
    h = features().numpy().reshape(6, 2, 5) @ kernel + bias
    squares = np.sum((h[:, :, None] - vectors) ** 2, axis=-1)  # [B, P, K]
    log_p = scipy.special.log_softmax(-squares / (2 * 0.7**2), axis=-1)
    q = head(features())
    z = q.sample(9, seed=[0, 1])
    np.testing.assert_allclose(q.log_prob(z), np.sum(z * log_p, axis=(-1, -2)), rtol=1e-9)
    np.testing.assert_allclose(head.mean(q), np.exp(log_p), rtol=1e-9)
    picked = vectors[np.argmax(z, axis=-1)].reshape(9, 6, 2, 1, 3)
    np.testing.assert_array_equal(head.decoder_input(z), picked)


def test_gradients_reach_encoder_codebook_and_scale_through_relaxed_draws():
    head = built(temperature=0.5, straight_through=True)
    with tf.GradientTape() as tape:
        z = head(features(), training=True).sample(seed=[0, 1])
        loss = tf.reduce_sum(head.decoder_input(z) ** 2)
    assert set(np.unique(np.round(z, 9))) == {0.0, 1.0}
    weights = head.trainable_variables
    assert {w.name for w in weights} == {"kernel", "bias", "embeddings", "log_scale"}
    for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
        assert np.any(np.asarray(gradient) != 0.0), weight.path


def test_the_bound_is_that_of_the_enumerated_codes():
    """With the score function, whose draws are whole: E_q log w against all 4^2 codes."""
    model = _model(temperature=None, objective=kv.objectives.ELBO(estimator="score_function"))
    x = np.random.default_rng(1).integers(0, 2, (3, 4, 1, 1)).astype("float32")
    q, rows = model.encode(x), np.eye(4, dtype="float32")
    z = np.stack([[rows[i], rows[j]] for i in range(4) for j in range(4)])[:, None]
    z = tf.constant(np.repeat(z, 3, axis=1))  # [16, B, 2, 4]
    log_q, log_p = q.log_prob(z), model.decode(z).log_prob(x) - 2 * np.log(4.0)
    elbo = tf.reduce_sum(tf.exp(log_q) * (log_p - log_q), axis=0)
    log_w = model.log_weights(x, num_samples=4000, seed=3)
    error = np.std(log_w, axis=0) / np.sqrt(4000)
    assert np.all(np.abs(np.mean(log_w, axis=0) - elbo) < 4 * error)
    assert np.all(elbo < tf.reduce_logsumexp(log_p, axis=0))


@pytest.mark.full
def test_training_makes_the_codes_sure_and_the_scale_small():
    """Four patterns take four codes, without restarts or annealing."""
    patterns = np.kron(np.eye(4, dtype="float32"), np.ones((50, 1), "float32"))
    x = patterns.reshape(200, 4, 1, 1)
    model = _model(temperature=0.5, objective=None)
    model.compile(keras.optimizers.Adam(0.02))
    history = model.fit(x, batch_size=50, epochs=60, verbose=0)
    assert history.history["reconstruction"][-1] > -0.3
    assert float(model.posterior_head.log_scale) < 0.0
    codes = np.argmax(model.encode(x).mean(), axis=-1)  # [200, 2]
    assert len(np.unique(codes, axis=0)) == 4


@pytest.mark.parametrize("scale", [0.0, -1.0, np.inf])
def test_a_scale_that_is_none_is_refused(scale):
    with pytest.raises(ValueError, match="`initial_scale` must be"):
        kv.posteriors.StochasticQuantizer((2, 2), 4, 3, initial_scale=scale)


def test_a_map_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"`maps` must be that of the features.*\(3, 3\)"):
        built().build((None, 3, 3, 5))


def _model(temperature, objective):
    keras.utils.set_random_seed(0)
    posterior = kv.posteriors.StochasticQuantizer((2, 1), 4, 3, temperature=temperature)
    return kv.VAE(
        encoder=keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(16, "relu")]),
        decoder=keras.Sequential(
            [
                keras.layers.Flatten(),
                keras.layers.Dense(16, "relu"),
                keras.layers.Dense(4),
                keras.layers.Reshape((4, 1, 1)),
            ]
        ),
        posterior=posterior,
        prior=kv.priors.Categorical(2, num_classes=4),
        likelihood=kv.likelihoods.Bernoulli((4, 1, 1)),
        objective=objective,
    )
