"""The estimate of log p(x) as users call it: chunks, memory, warnings, progress, bad input."""

import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.models.importance import ImportanceEstimate, chunk_of

IMAGE = (4, 4, 1)


class CountingEncoder(keras.layers.Layer):
    """An encoder that counts how often it runs."""

    def build(self, input_shape):
        self.runs = 0

    def call(self, x, training=None):
        self.runs += tf.executing_eagerly()
        return tf.reshape(x, [-1, 16])


def vae(encoder=None, model=kv.VAE, units=(8,)):
    return model(
        encoder=encoder or kv.networks.MLPEncoder((8,)),
        decoder=kv.networks.MLPDecoder(IMAGE, units),
        posterior=kv.posteriors.DiagonalNormal(2),
        likelihood=kv.likelihoods.Bernoulli(IMAGE),
    )


@pytest.fixture
def x():
    return np.random.default_rng(0).integers(0, 2, (7, *IMAGE)).astype("float32")


def test_the_encoder_runs_once_for_all_chunks(x):
    tf.config.run_functions_eagerly(True)
    encoder = CountingEncoder()
    model = vae(encoder)
    encoder.runs = 0
    kv.evaluation.log_likelihood(model, x, num_samples=9, chunk_size=2)
    assert encoder.runs == 1


@pytest.mark.full
def test_terms_of_a_subclass_are_those_that_count(x):
    tf.config.run_functions_eagerly(True)

    class Shifted(kv.VAE):
        def compute_terms(self, *args, **kwargs):
            terms = super().compute_terms(*args, **kwargs)
            return terms._replace(log_p_x=terms.log_p_x - 3.0)

    plain, shifted = vae(), vae(model=Shifted)
    shifted.set_weights(plain.get_weights())
    found = [kv.evaluation.log_likelihood(m, x, 5, chunk_size=2).mean for m in (plain, shifted)]
    np.testing.assert_allclose(found[1], found[0] - 3.0, rtol=1e-6)


@pytest.mark.parametrize("num_samples", [1, 64])
def test_chunks_of_the_default_size_hold_all_samples(monkeypatch, x, num_samples):
    tf.config.run_functions_eagerly(True)
    model, sizes = vae(), []
    right = model._terms

    def terms(x, q, condition, size, *args):
        sizes.append(int(size))
        return right(x, q, condition, size, *args)

    monkeypatch.setattr(model, "_terms", terms)
    kv.evaluation.log_likelihood(model, x, num_samples, memory=0.05)
    assert sum(sizes[1:]) == num_samples  # the first is the look at the size of a draw


@pytest.mark.full
def test_more_memory_takes_larger_chunks_and_a_larger_draw_smaller_ones(x):
    data = tf.constant(x)
    small = int(chunk_of(vae(), data, None, 1.0))
    assert small == int(2**20 / (6 * 16 * 4)) // 7
    assert 0 <= int(chunk_of(vae(), data, None, 4.0)) - 4 * small < 4
    wide = int(chunk_of(vae(units=(1600,)), data, None, 1.0))
    assert wide == int(2**20 / (6 * 1600 * 4)) // 7
    assert int(chunk_of(vae(), data, None, 1e-9)) == 1


@pytest.mark.full
def test_few_effective_samples_are_told(x):
    tf.config.run_functions_eagerly(True)
    model = vae()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = kv.evaluation.log_likelihood(model, x, num_samples=100)
    assert not result.is_bound
    # A decoder that makes the likelihood depend on z by hundreds of nats.
    for weight in model.decoder.weights:
        weight.assign(100.0 * weight)
    told = r"\d.*% of the 7 examples have fewer than 10 .* of 100.*annealed_importance_sampling"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kv.evaluation.log_likelihood(model, x, num_samples=99)  # too few to judge by
    with pytest.warns(RuntimeWarning, match=told):
        result = kv.evaluation.log_likelihood(model, x, num_samples=100)
    sizes = result.effective_sample_sizes
    assert result.share_below_10 == np.mean(sizes < 10.0) > 0.0
    assert f"share_below_10={result.share_below_10}" in repr(result)
    np.testing.assert_allclose(result.effective_sample_size, sizes.mean(), rtol=1e-5)


@pytest.mark.parametrize(("bad", "told"), [(0, False), (1, False), (2, True)])
def test_outliers_are_told_that_mean_and_median_hide(monkeypatch, bad, told):
    sizes = np.full(100, 180.0, "float32")
    sizes[:bad] = 1.0
    module = sys.modules["keras_vae.evaluation.log_likelihood"]
    found = ImportanceEstimate(np.zeros(100), sizes)
    monkeypatch.setattr(module, "map_batches", lambda *args: [found])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = kv.evaluation.log_likelihood(vae(), None, num_samples=5000)
    assert result.share_below_10 == bad / 100
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == told and all(text.startswith("2.0% of the 100") for text in messages)


@pytest.mark.full
def test_long_work_shows_a_bar_and_short_work_does_not(x, monkeypatch, capsys):
    tf.config.run_functions_eagerly(True)
    model = vae()
    kv.evaluation.log_likelihood(model, x, num_samples=2)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(kv.core.progress, "_PATIENCE", 0.0)
    kv.evaluation.log_likelihood(model, x, num_samples=2, batch_size=4)
    assert "2/2" in capsys.readouterr().out
    kv.evaluation.log_likelihood(model, x, num_samples=2, verbose=False)
    assert capsys.readouterr().out == ""


BAD = [
    ({"num_samples": 0}, ["`num_samples`", "integer >= 1", "0"]),
    ({"num_samples": 2.5}, ["`num_samples`", "integer >= 1", "2.5"]),
    ({"chunk_size": 0}, ["`chunk_size`", "integer >= 1"]),
    ({"batch_size": 0}, ["`batch_size`", "integer >= 1"]),
    ({"memory": 0.0}, ["`memory`", "> 0"]),
    ({"seed": -1}, ["`seed`", ">= 0"]),
    ({"verbose": "loud"}, ["`verbose`", "must be one of"]),
    ({"data": np.zeros((0, *IMAGE))}, ["`data`", "at least one example"]),
    ({"data": np.full((2, *IMAGE), 255.0)}, ["`x`", "must be in [0, 1]", "255"]),
    ({"data": np.full((2, *IMAGE), np.nan)}, ["`x`", "must be in [0, 1]", "NaN"]),
    ({"data": np.zeros((2, 5))}, ["`x`", "shape", "(2, 5)"]),
    ({"data": tf.data.Dataset.range(3).repeat()}, ["`data`", "must end"]),
    ({"data": None}, ["`data`", "Received: data=None"]),
    ({"model": keras.Sequential()}, ["`model`", "LatentVariableModel"]),
]


def test_bad_input_is_refused_by_one_sentence(x):
    given = {"model": vae(), "data": x, "num_samples": 2}
    for changes, words in BAD:
        with pytest.raises(ValueError) as error:
            kv.evaluation.log_likelihood(**{**given, **changes})
        assert all(word in str(error.value) for word in words), error.value


def test_a_model_that_was_never_built_is_refused(x):
    class Own(kv.LatentVariableModel):
        def __init__(self):
            super().__init__()
            self.hidden = keras.layers.Dense(3)

    model = Own()
    with pytest.raises(ValueError, match="`model` must be built: train it.*dense"):
        kv.evaluation.log_likelihood(model, x)
    assert not model.hidden.weights


def test_an_empty_dataset_is_refused(x):
    data = tf.data.Dataset.from_tensor_slices(x).batch(2).take(0)
    with pytest.raises(ValueError, match="`data` must hold at least one"):
        kv.evaluation.log_likelihood(vae(), data)
