"""The parts of the KL for models and data of every kind, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import keras_vae as kv
from keras_vae.evaluation import aggregate_posterior

tfd = tfp.distributions
SHAPE = (4, 4, 1)
FUNCTIONS = {
    name: getattr(kv.evaluation, name)
    for name in ("mean_kl", "marginal_kl", "mutual_information", "kl_decomposition")
}
AGGREGATE = sorted(set(FUNCTIONS) - {"mean_kl"})


def make(cls=kv.VAE, **changes):
    keras.utils.set_random_seed(0)
    parts = {
        "encoder": kv.networks.MLPEncoder((6,)),
        "decoder": kv.networks.MLPDecoder(SHAPE),
        "posterior": kv.posteriors.DiagonalNormal(2),
        "likelihood": kv.likelihoods.Bernoulli(SHAPE),
    }
    return cls(**{**parts, **changes})


@pytest.fixture
def x():
    return np.random.default_rng(0).integers(0, 2, (9, *SHAPE)).astype("float32")


@pytest.mark.parametrize(
    ("prior", "policy"),
    [(kv.priors.MixtureOfNormals, "float32"), (kv.priors.VampPrior, "mixed_bfloat16")],
)
def test_priors_without_closed_form_agree_with_samples_of_their_own(x, prior, policy):
    keras.config.set_dtype_policy(policy)
    model = make(prior=prior(2, 3))
    parts = kv.evaluation.kl_decomposition(model, x, 300)
    assert np.isnan(parts.z_score)
    exact = kv.evaluation.mean_kl(model, x, num_samples=4000)
    error = np.hypot(parts.mean_kl.standard_error, exact.standard_error)
    # 4 standard errors: 6.3e-5 for a new seed.
    assert abs(parts.mean_kl.mean - exact.mean) < 4.0 * error
    assert parts.mean_kl.per_example.dtype == np.float64


def test_a_conditional_model_of_one_prior_has_all_parts(x):
    model, y = make(kv.ConditionalVAE, condition=3), np.arange(9) % 3
    parts = kv.evaluation.kl_decomposition(model, (x, y), 300)
    assert abs(parts.z_score) < 4.0  # 6.3e-5 for a new seed
    # The labels count: they are part of what the encoder sees.
    other = kv.evaluation.kl_decomposition(model, (x, 0 * y), 300)
    assert parts.exact_mean_kl != other.exact_mean_kl


def test_a_prior_that_depends_on_labels_has_no_marginal_kl(x):
    prior = kv.priors.ConditionalNormal(2)
    model, y = make(kv.ConditionalVAE, condition=3, prior=prior), np.arange(9) % 3
    prior.loc.set_weights([np.arange(6.0).reshape(3, 2), np.zeros(2)])
    for function in (kv.evaluation.marginal_kl, kv.evaluation.kl_decomposition):
        with pytest.raises(ValueError, match="`model` must have a prior that is the same for all"):
            function(model, (x, y))
    information = kv.evaluation.mutual_information(model, (x, y), 100)
    assert information.mean + 4.0 * information.standard_error >= 0.0
    expected = tfd.kl_divergence(model.encode(x, y), model.prior(y))
    result = kv.evaluation.mean_kl(model, (x, y))
    np.testing.assert_allclose(result.per_example, expected, rtol=1e-5)


def test_arrays_and_datasets_give_the_same_and_the_seed_decides(x):
    tf.config.run_functions_eagerly(True)
    model, options = make(), {"num_samples": 20, "batch_size": 4}
    data = tf.data.Dataset.from_tensor_slices(x).batch(4)
    for name in ("mean_kl", "mutual_information"):
        results = [FUNCTIONS[name](model, some, **options).mean for some in (x, data)]
        np.testing.assert_allclose(results[1], results[0], rtol=1e-6)
    assert results[0] != kv.evaluation.mutual_information(model, x, seed=1, **options).mean


@pytest.mark.full
def test_by_default_a_given_number_of_draws_is_made_and_at_least_two(monkeypatch, x):
    monkeypatch.setattr(aggregate_posterior, "_DRAWS", 100)
    model = make()
    reading = aggregate_posterior.Reading(None, 0, "mixture", 128, False)
    for count, each in ((9, 12), (3, 34)):
        densities = aggregate_posterior.AggregatePosterior(model, x[:count], reading).densities()
        assert [part.shape for part in densities] == [(count, each)] * 3
    many = np.repeat(x, 20, axis=0)
    densities = aggregate_posterior.AggregatePosterior(model, many, reading).densities()
    assert densities.log_q.shape == (180, 2)


class OnlyCall(kv.posteriors.Posterior):
    """A head without parameters of its own."""

    def build(self, features_shape):
        self.built = True

    def call(self, features, training=False):
        loc = self.to_density(features)[:, : self.latent_dim]
        return tfd.MultivariateNormalDiag(loc, tf.ones_like(loc))


def test_a_head_without_parameters_has_a_mean_kl_alone(x):
    model = make(posterior=OnlyCall(2))
    assert np.isfinite(kv.evaluation.mean_kl(model, x).mean)
    for name in AGGREGATE:
        with pytest.raises(ValueError, match="`model` must have a posterior .*OnlyCall"):
            FUNCTIONS[name](model, x)


def test_bad_input_is_refused(x):
    right = make()
    for name, function in FUNCTIONS.items():

        def refused(match, function=function, data=x, model=right, **kwargs):
            with pytest.raises(ValueError, match=match):
                function(model, data, **kwargs)

        refused("`num_samples` must be an integer", num_samples=0)
        refused("`seed` must be", seed=-1)
        refused("`batch_size` must be an integer", batch_size=0)
        refused("`verbose` must be one of", verbose=2)
        refused("`data` must hold at least one", data=x[:0])
        refused("`x` must be in", data=x + 0.5)
        refused("`x` must have shape", data=x[:, :3])
        refused("`model` must be a VAE", model=keras.Sequential())
        if name in AGGREGATE:
            refused("`num_samples` must be an integer >= 2", num_samples=1)
            refused("`method` must be one of", method="exact")
