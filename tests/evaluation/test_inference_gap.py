"""Which examples `inference_gap` takes, which models and data work, and what is refused."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv

SHAPE = (4, 4, 1)
QUICK = {"steps": 2, "num_samples": 4}


def make(cls=kv.VAE, posterior=None, decoder=None, **kwargs):
    keras.utils.set_random_seed(0)
    return cls(
        encoder=kv.networks.MLPEncoder((6,)),
        decoder=decoder or kv.networks.MLPDecoder(SHAPE),
        posterior=posterior or kv.posteriors.DiagonalNormal(2),
        likelihood=kv.likelihoods.Bernoulli(SHAPE),
        **kwargs,
    )


@pytest.fixture
def x():
    return np.random.default_rng(0).integers(0, 2, (9, *SHAPE)).astype("float32")


@pytest.mark.full
def test_the_first_examples_count_in_any_form_of_data(x):
    model = make(kv.ConditionalVAE, condition=3)
    y = np.arange(9) % 3
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(2)
    first = kv.evaluation.inference_gap(model, data, 5, batch_size=3, **QUICK)
    same = kv.evaluation.inference_gap(model, (x[:5], y[:5]), 7, batch_size=3, **QUICK)
    assert first.inference.per_example.shape == (5,)
    assert np.array_equal(first.inference.per_example, same.inference.per_example)
    tf.config.run_functions_eagerly(True)
    log_p = kv.evaluation.log_likelihood(model, (x[:5], y[:5]), 500, verbose=False)
    # Some 0.1 nats are lost with four samples.
    np.testing.assert_allclose(first.log_likelihood.mean, log_p.mean, atol=1.0)


class Watched(keras.layers.Layer):
    """A decoder that notes how many z it is given at once."""

    def build(self, z_shape):
        self.dense = keras.layers.Dense(16)
        self.dense.build(z_shape)
        self.sizes = []

    def call(self, z, training=None):
        def note(count):
            self.sizes.append(int(count))
            return count

        with tf.control_dependencies([tf.numpy_function(note, [tf.shape(z)[0]], tf.int32)]):
            return tf.reshape(self.dense(z), [-1, *SHAPE])


@pytest.mark.full
def test_no_more_examples_are_decoded_at_once_than_a_batch(x, monkeypatch):
    monkeypatch.setattr(sys.modules["keras_vae.evaluation.inference_gap"], "_MEMORY", 1e-9)
    model = make(decoder=Watched())
    result = kv.evaluation.inference_gap(model, np.repeat(x, 4, 0), 36, batch_size=2, **QUICK)
    assert result.inference.per_example.shape == (36,)
    assert max(model.decoder.sizes) == 2 * 8  # of the fit, whose samples are 8


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
    refused("`verbose`", verbose=2)
    refused("`batch_size`", batch_size=0)
    refused("`data` must hold at least one", data=x[:0])
    refused("`x` must be in", data=x + 3.0)
    refused("`model` must be a VAE", model=keras.Sequential())
