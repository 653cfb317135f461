"""Codes at the edges: vectors of zero, many levels, unlike maps, and trainings that do not help."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.posteriors import straight_through
from tests.small_models import SHAPE, parts


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).random((32, *SHAPE)).astype("float32")


def vq(posterior, **changes):
    keras.utils.set_random_seed(0)
    return kv.VQVAE(**parts(posterior=posterior), seed=0, **changes)


def codebook(maps=(2, 2), size=8, **options):
    return kv.posteriors.VectorQuantizer(maps, size, 4, **options)


@pytest.mark.parametrize("length", [0.0, 1e-9, 1e-4])
def test_a_vector_without_direction_is_not_rotated(length):
    z, code = tf.constant([[length, 0.0]]), tf.constant([[1.0, 0.5]])
    with tf.GradientTape() as tape:
        tape.watch(z)
        y = tf.reduce_sum(straight_through.rotation(z, code) * [[3.0, -2.0]])
    np.testing.assert_array_equal(tape.gradient(y, z), [[3.0, -2.0]])


def test_a_black_image_does_not_spoil_the_rotation_trick(x):
    model = vq(codebook(gradient="rotation"))
    model.compile(keras.optimizers.SGD(1e-3), run_eagerly=True)
    black = x.copy()
    black[5] = 0.0
    before = [weight.numpy().copy() for weight in model.encoder.weights]
    model.fit(black, batch_size=32, verbose=0)
    after = [weight.numpy() for weight in model.encoder.weights]
    assert max(np.abs(a - b).max() for a, b in zip(after, before, strict=True)) < 0.1


@pytest.mark.parametrize("levels", [(1024, 2), (4097, 3), (2,)])
def test_rounding_reaches_all_levels_and_no_others(levels):
    head = kv.posteriors.FSQ((1,), levels=levels)
    head.build((None, 1, len(levels)))
    head.projection.kernel.assign(tf.eye(len(levels)))
    for value, code in [(50.0, np.prod(levels) - 1), (-50.0, 0)]:
        found = head.quantize_features(tf.fill([1, 1, len(levels)], value))
        assert found.codes.numpy().tolist() == [[code]]
        np.testing.assert_array_equal(found.embedded, head.embed(found.codes))


def test_a_fit_that_does_not_help_leaves_the_prior_as_it_was(x):
    model = vq(codebook((3,)))
    prior = kv.priors.PixelCNN((3,), 8, filters=8, num_layers=1)
    kv.evaluation.fit_prior(model, x, prior, epochs=20, learning_rate=0.01, verbose=False)
    before = [weight.numpy().copy() for weight in prior.weights]
    kv.evaluation.fit_prior(model, x, prior, epochs=2, learning_rate=5.0, verbose=False)
    for weight, other in zip(prior.weights, before, strict=True):
        np.testing.assert_array_equal(weight, other)
    with pytest.raises(ValueError, match="Argument `options` must be one of .*'batch_size'"):
        kv.evaluation.fit_prior(model, x, prior, steps=3)


def test_small_integers_have_the_density_of_large_ones():
    p = kv.priors.UniformCodes((2, 2), 256)()
    codes = [0, 1, 2, 255]
    expected = -4.0 * np.log(256.0)
    for dtype in ("uint8", "int32", "int64"):
        np.testing.assert_allclose(p.log_prob(tf.constant(codes, dtype)), expected, rtol=1e-6)
    assert float(p.log_prob(tf.constant([0, 1, 2, 256]))) == -np.inf


def test_a_resumed_monitor_goes_on_with_its_last_numbers(x, tmp_path):
    def run(epochs):
        model = vq(codebook((3,)))
        model.compile("adam", run_eagerly=True)
        resume = kv.callbacks.Resume(tmp_path / "resume")
        monitor = kv.callbacks.CodebookMonitor(x, every=2)
        options = {"initial_epoch": resume.epoch, "callbacks": [monitor, resume], "verbose": 0}
        return model.fit(x, epochs=epochs, **options).history

    first, second = run(2), run(4)
    # The third epoch is not counted, and those of the first training are part of the history.
    assert second["code_perplexity"][2] == first["code_perplexity"][1]


# Codebooks that k-means can set, and data for them.


def test_only_groups_with_a_codebook_need_vectors(x):
    quantizer = kv.posteriors.QuantizerHierarchy(
        top=codebook((2, 2), 8), bottom=kv.posteriors.FSQ((4, 4), (8, 8, 8)), filters=4
    )
    encoder = keras.Sequential([kv.networks.MapEncoder((4,), blocks=0)])
    decoder = kv.networks.MapDecoder(SHAPE, (4,), blocks=0)
    model = kv.VQVAE(**parts(posterior=quantizer, encoder=encoder, decoder=decoder))
    model.initialize_codebook(x)
    assert quantizer.sizes_of_codebooks == [(4, 8)]


def test_each_group_needs_vectors_for_its_own_codes(x):
    quantizer = kv.posteriors.QuantizerHierarchy(
        top=codebook((1, 1), 4), bottom=codebook((4, 4), 256), filters=4
    )
    encoder = keras.Sequential([kv.networks.MapEncoder((4,), blocks=0)])
    decoder = kv.networks.MapDecoder(SHAPE, (4,), blocks=0)
    model = kv.VQVAE(**parts(posterior=quantizer, encoder=encoder, decoder=decoder))
    model.initialize_codebook(x)  # 512 vectors for the 256 codes of the bottom
    with pytest.raises(ValueError, match="`data` must give a vector for each of 256 codes"):
        model.initialize_codebook(x[:15])
    with pytest.raises(ValueError, match="`posterior` must have a codebook that can be"):
        vq(kv.posteriors.FSQ((2,), (4, 4))).initialize_codebook(x)


# Priors over other codes.


def test_given_codes_of_a_hierarchy_are_checked():
    prior = kv.priors.Hierarchy(
        top=kv.priors.PixelCNN((1, 2), 4, filters=4, num_layers=1),
        bottom=kv.priors.PixelCNN((2, 3), 4, filters=4, num_layers=1),
        filters=3,
    )
    model = kv.PriorModel(prior)
    for codes, rule in [([[99, -5]], "codes in 0 .. 3"), ([[0.7, 2.9]], "codes, which are int")]:
        with pytest.raises(ValueError, match=f"`given` must hold {rule}"):
            model.sample(1, given={"z1": np.array(codes)})
    assert model.sample(1, given={"z1": np.array([[3, 0]])})[0, :2].numpy().tolist() == [3, 0]


def test_a_prior_over_a_map_of_another_shape_is_refused():
    model = vq(codebook((2, 3)))
    with pytest.raises(ValueError, match="`prior` must be over maps of the same shape as the"):
        model.with_prior(kv.priors.PixelCNN((3, 2), 8, filters=4, num_layers=1))
    for maps in [(2, 3), (6,)]:  # A single row of all codes is a choice.
        assert model.with_prior(kv.priors.PixelCNN(maps, 8, filters=4, num_layers=1)).built
