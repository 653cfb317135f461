"""Which examples `inference_gap` takes, which models and data work, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv

SHAPE = (4, 4, 1)
QUICK = {"steps": 2, "num_samples": 4}


def make(cls=kv.VAE, posterior=None, **kwargs):
    keras.utils.set_random_seed(0)
    return cls(
        encoder=kv.networks.MLPEncoder((6,)),
        decoder=kv.networks.MLPDecoder(SHAPE),
        posterior=posterior or kv.posteriors.DiagonalNormal(2),
        likelihood=kv.likelihoods.Bernoulli(SHAPE),
        **kwargs,
    )


@pytest.fixture
def x():
    return np.random.default_rng(0).integers(0, 2, (9, *SHAPE)).astype("float32")


def test_the_first_examples_count_in_any_form_of_data(x):
    model = make()
    data = tf.data.Dataset.from_tensor_slices(x).batch(2)
    first = kv.evaluation.inference_gap(model, data, 5, batch_size=6, **QUICK)
    same = kv.evaluation.inference_gap(model, x[:5], 7, batch_size=6, **QUICK)
    assert first.inference.per_example.shape == (5,)
    assert np.array_equal(first.inference.per_example, same.inference.per_example)


def test_a_conditional_flow_works(x):
    flow = kv.posteriors.AutoregressiveFlow(2, num_flows=1, hidden_units=(4,))
    model = make(kv.ConditionalVAE, flow, condition=3)
    y = np.arange(9) % 3
    result = kv.evaluation.inference_gap(model, (x, y), 4, batch_size=3, **QUICK)
    log_p = kv.evaluation.log_likelihood(model, (x[:4], y[:4]), 500, verbose=False)
    # Some 0.1 nats are lost with four samples.
    np.testing.assert_allclose(result.log_likelihood.mean, log_p.mean, atol=1.0)


def test_discrete_posteriors_work(x):
    posterior = kv.posteriors.Categorical(2, 3, temperature=0.5)
    model = make(posterior=posterior, prior=kv.priors.Categorical(2, 3))
    result = kv.evaluation.inference_gap(model, x, 4, **QUICK)
    assert np.all(np.isfinite(result.inference.per_example))


def test_bad_input_is_refused(x):
    model = make()

    def refused(match, data=x, model=model, **kwargs):
        with pytest.raises(ValueError, match=match):
            kv.evaluation.inference_gap(model, data, **kwargs)

    refused("`num_examples` must be an integer >= 1", num_examples=0)
    refused("`num_samples` must be an integer >= 2", num_samples=1)
    refused("`steps`", steps=0)
    refused("`learning_rate`", learning_rate=0.0)
    refused("`seed`", seed=-1)
    refused("`batch_size`", batch_size=0)
    refused("`data` must hold at least one", data=x[:0])
    refused("`x` must be in", data=x + 3.0)
    refused("`model` must be a VAE", model=keras.Sequential())
