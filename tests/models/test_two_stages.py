"""A VQ-VAE, then a prior over its codes: both by `fit`."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from tests.small_models import binary_images, randomize

PIXELS, X = (2, 2, 1), binary_images(24, (2, 2, 1))
LABELS = np.arange(24) % 3


def vqvae(posterior=None):
    """Return a model of four binary pixels and two codes of three, or of other codes."""
    keras.utils.set_random_seed(0)
    encoder = kv.networks.MLPEncoder((5,))
    if isinstance(posterior, kv.posteriors.QuantizerHierarchy):
        encoder = keras.Sequential([kv.networks.MLPEncoder((12,)), keras.layers.Reshape((2, 2, 3))])
    model = kv.VQVAE(
        encoder=encoder,
        decoder=kv.networks.MLPDecoder(PIXELS, (5,)),
        posterior=posterior or kv.posteriors.VectorQuantizer((1, 2), 3, 3),
        likelihood=kv.likelihoods.Bernoulli(PIXELS),
    )
    randomize(model.encoder, model.decoder, scale=1.0)
    return model


def pixel_cnn(maps=(1, 2), num_codes=3):
    return kv.priors.PixelCNN(maps, num_codes, filters=4, num_layers=1, kernel_size=3)


def all_images():
    return np.array(list(itertools.product([0.0, 1.0], repeat=4)), "float32").reshape(16, *PIXELS)


def one_map():
    """Return a quantizer of two codes, and a prior over them."""
    return kv.posteriors.VectorQuantizer((1, 2), 3, 3), pixel_cnn()


def two_maps():
    """Return a quantizer of one code above four, and a prior over them."""
    top = kv.posteriors.VectorQuantizer((1, 1), 3, 2)
    bottom = kv.posteriors.VectorQuantizer((2, 2), 2, 2)
    head = kv.posteriors.QuantizerHierarchy(top, bottom, filters=3)
    return head, kv.priors.Hierarchy(pixel_cnn((1, 1)), pixel_cnn((2, 2), 2), filters=4)


@pytest.mark.parametrize("parts", [one_map, two_maps])
def test_the_model_with_its_prior_is_a_distribution_and_its_weights_a_bound(parts):
    posterior, prior = parts()
    model = vqvae(posterior).with_prior(prior)
    randomize(model.prior_head)
    codes = np.array(list(itertools.product(*map(range, posterior.groups.counts))))  # [Z, N]
    log_p_z = model.prior().log_prob(codes)  # [Z]
    np.testing.assert_allclose(tf.reduce_sum(tf.exp(log_p_z)), 1.0, rtol=1e-5)
    log_p_x_z = model.decode(codes).log_prob(all_images()[:, None])  # [16, Z]
    log_p_x = tf.reduce_logsumexp(log_p_x_z + log_p_z, axis=1)
    np.testing.assert_allclose(tf.reduce_sum(tf.exp(log_p_x)), 1.0, rtol=1e-5)
    bound = model.log_weights(all_images())[0]
    assert np.all(bound <= log_p_x + 1e-6)
    numbers = {tuple(row): number for number, row in enumerate(codes.tolist())}
    own = [numbers[tuple(row)] for row in model.codes(all_images()).numpy().tolist()]
    expected = log_p_z.numpy()[own] + log_p_x_z.numpy()[range(16), own]
    np.testing.assert_allclose(bound, expected, rtol=1e-5)


@pytest.mark.full
def test_codes_are_encoded_once_in_memory_or_on_disk(tmp_path):
    model = vqvae()
    codes = model.codes(X)
    found, labels = kv.evaluation.encode_codes(model, (X, LABELS), batch_size=7)
    np.testing.assert_array_equal(found, codes)
    np.testing.assert_array_equal(labels, LABELS)
    assert found.dtype == "int32"
    folder = tmp_path / "new" / "codes"
    alone = kv.evaluation.encode_codes(model, X, folder)
    np.testing.assert_array_equal(alone, codes)
    assert [path.name for path in folder.iterdir()] == ["codes.npy"]
    with_labels = tf.data.Dataset.from_tensor_slices((X[::-1], LABELS)).batch(5)
    found, labels = kv.evaluation.encode_codes(model, with_labels, folder)  # replaces the first
    assert isinstance(found, np.memmap) and isinstance(labels, np.memmap)
    np.testing.assert_array_equal(np.load(folder / "codes.npy"), codes[::-1])
    np.testing.assert_array_equal(labels, LABELS)
    prior_model = kv.PriorModel(pixel_cnn(), condition=3)
    prior_model.compile("adam", run_eagerly=True)
    prior_model.fit(found, labels, batch_size=12, verbose=0)


def test_what_has_no_codes_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Argument `model` must be a VQVAE"):
        kv.evaluation.encode_codes(kv.PriorModel(pixel_cnn()), X)
    with pytest.raises(ValueError, match="Argument `x` must be"):
        kv.evaluation.encode_codes(vqvae(), X - 7.0, tmp_path / "codes")
    assert not list(tmp_path.iterdir())


@pytest.mark.full
def test_a_prior_learns_the_codes_and_raises_the_bound():
    model, prior = vqvae(), pixel_cnn()
    codes = kv.evaluation.encode_codes(model, X)
    np.testing.assert_array_equal(codes, model.codes(X))
    prior_model = kv.PriorModel(prior)
    prior_model.compile(keras.optimizers.Adam(0.05))
    prior_model.fit(codes, epochs=40, batch_size=24, verbose=0)
    learned = model.with_prior(prior)
    assert learned.prior_head is prior
    gain = learned.log_weights(X)[0] - model.log_weights(X)[0]
    np.testing.assert_allclose(gain, prior().log_prob(codes) + 2 * np.log(3.0), rtol=1e-4)
    frequencies = np.unique(codes, axis=0, return_counts=True)[1] / len(codes)
    entropy = -np.sum(frequencies * np.log(frequencies))
    np.testing.assert_allclose(np.mean(gain), 2 * np.log(3.0) - entropy, atol=0.05)
    assert learned.sample(3, seed=1).shape == (3, *PIXELS)


@pytest.mark.full
def test_fit_prior_trains_the_same_prior():
    model = vqvae()
    prior = kv.evaluation.fit_prior(
        model, X, pixel_cnn(), epochs=30, learning_rate=0.05, held_out=0.25, verbose=False
    )
    codes = model.codes(X)
    assert np.mean(prior().log_prob(codes)) > -2 * np.log(3.0) + 0.1
    with pytest.raises(ValueError, match="Argument `prior` must have trainable weights"):
        kv.evaluation.fit_prior(model, X, kv.priors.UniformCodes((1, 2), 3))
    with pytest.raises(ValueError, match="Argument `epochs` must be an integer >= 1"):
        kv.evaluation.fit_prior(model, X, pixel_cnn(), epochs=0)


@pytest.mark.full
def test_a_model_of_two_maps_has_a_prior_of_two_maps_and_is_saved_with_it(tmp_path):
    model = vqvae(kv.posteriors.ResidualQuantizer((1, 2), 2, 3, 2))
    prior = kv.priors.Hierarchy(pixel_cnn(), pixel_cnn(), filters=4)
    two = model.with_prior(prior)
    randomize(prior)
    assert dict(two.latents) == dict(prior.latents)
    terms = two.compute_terms(two.standardize(X)[0])
    assert terms.kl.shape == (24, 2)
    np.testing.assert_allclose(-terms.kl, prior().log_prob_by_group(two.codes(X)), rtol=1e-5)
    assert two.sample(5, seed=2, temperature={"z2": 0.5}).shape == (5, *PIXELS)
    two.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(copy.log_weights(X), two.log_weights(X))
    np.testing.assert_array_equal(copy.sample(4, seed=3), two.sample(4, seed=3))


@pytest.mark.full
def test_the_served_model_samples_from_its_prior(tmp_path):
    model = vqvae().with_prior(pixel_cnn())
    randomize(model.prior_head)
    path = kv.export_saved_model(model, tmp_path / "1")
    served = tf.saved_model.load(path).signatures["sample"]
    for count in (3, 5):
        found = served(count=tf.constant(count), seed=tf.constant(1))["mean"]
        np.testing.assert_allclose(found, model.sample(count, seed=1), rtol=1e-5, atol=1e-6)
