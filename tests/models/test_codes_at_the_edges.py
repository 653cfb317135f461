"""Codes at the edges: vectors of zero, many levels, unlike maps, and trainings that do not help."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.distributions import codes
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


def test_a_prior_is_fitted_to_codes_alone():
    prior = kv.priors.PixelCNN((3,), 8, filters=8, num_layers=1)
    with pytest.raises(ValueError, match=r"`z` must hold codes, .* Received: z=2\.5$"):
        prior.fit(np.array([[0.0, 1.0, 2.5]]))
    with pytest.raises(ValueError, match=r"`z` must hold codes in 0 \.\. 7"):
        prior.fit(np.array([[0.0, 1.0, 8.0]]))


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
    for values, rule in [([[99, -5]], "codes in 0 .. 3"), ([[0.7, 2.9]], "codes, which are int")]:
        with pytest.raises(ValueError, match=f"`given` must hold {rule}"):
            model.sample(1, given={"z1": np.array(values)})
    assert model.sample(1, given={"z1": np.array([[3, 0]])})[0, :2].numpy().tolist() == [3, 0]


def test_a_prior_over_a_map_of_another_shape_is_refused():
    model = vq(codebook((2, 3)))
    with pytest.raises(ValueError, match="`prior` must be over maps of the same shape as the"):
        model.with_prior(kv.priors.PixelCNN((3, 2), 8, filters=4, num_layers=1))
    for maps in [(2, 3), (6,)]:  # A single row of all codes is a choice.
        assert model.with_prior(kv.priors.PixelCNN(maps, 8, filters=4, num_layers=1)).built


def test_a_prior_that_the_model_cannot_have_is_refused_before_it_is_fitted(monkeypatch, x):
    model = vq(codebook())
    monkeypatch.setattr(model, "encode", None)
    with pytest.raises(ValueError, match="`prior` must be over as many codes as the posterior"):
        kv.evaluation.fit_prior(model, x, kv.priors.PixelCNN((2, 2), 16, filters=4, num_layers=1))


# Numbers that are no codes.


def test_a_served_model_refuses_codes_that_do_not_exist(tmp_path):
    model = vq(kv.posteriors.FSQ((2, 2), (3, 2)))
    decode = tf.saved_model.load(kv.export_saved_model(model, tmp_path / "1")).signatures["decode"]
    good = tf.constant([[0, 1, 2, 5]], tf.int32)
    np.testing.assert_allclose(decode(z=good)["mean"], model.decode_codes(good), rtol=1e-5)
    for bad in (6, -1):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"`z` must hold codes in 0 .. 5"):
            decode(z=tf.constant([[0, 1, 2, bad]], tf.int32))


def test_fractions_and_unknown_codes_have_no_density_and_teach_nothing():
    uniform = kv.priors.UniformCodes((2,), 8)()
    learned = kv.priors.PixelCNN((1, 2), 8, filters=4, num_layers=1)
    for p in (uniform, learned()):
        found = p.log_prob(tf.constant([[1.0, 7.0], [0.7, 1.0], [-0.5, 1.0], [1.0, 8.0]]))
        assert np.isfinite(found[0]) and np.all(np.isneginf(found[1:]))
    for z, rule in (([[0.7, 1.0]], "codes, which are whole"), ([[1.0, 8.0]], r"codes in 0 .. 7")):
        with pytest.raises(ValueError, match=f"`z` must hold {rule}"):
            learned.fit(np.array(z), verbose=False)


def test_a_number_is_a_seed_of_uniform_codes_as_it_is_of_others():
    p = kv.priors.UniformCodes((2, 3), 50)()
    np.testing.assert_array_equal(p.sample(4, seed=1), p.sample(4, seed=1))
    assert np.any(p.sample(4, seed=1) != p.sample(4, seed=2))


# Evaluation.


def test_the_kl_to_a_learned_prior_takes_one_sample(monkeypatch, x):
    model = vq(codebook(), prior=kv.priors.PixelCNN((2, 2), 8, filters=4, num_layers=1))
    seen = []
    monkeypatch.setattr(
        codes.PointMass, "_sample_n", lambda q, n, seed=None: seen.append(n) or q.codes[tf.newaxis]
    )
    found = kv.evaluation.mean_kl(model, x, verbose=False)
    assert set(map(int, seen)) == {1}
    expected = -model.prior().log_prob(model.codes(x))
    np.testing.assert_allclose(found.per_example, expected, rtol=1e-5)


@pytest.mark.full
def test_the_entropy_of_choices_is_that_of_all_replicas_in_evaluation(x, replicas):
    def make():
        return vq(codebook(entropy_weight=0.5))

    one = make()
    with replicas.scope():
        two = make()
    found = []
    for model in (one, two):
        with model.distribute_strategy.scope():
            model.compile("sgd")
        found.append(model.evaluate(x, batch_size=16, verbose=0, return_dict=True))
    np.testing.assert_allclose(found[1]["loss"], found[0]["loss"], rtol=1e-5)


@pytest.mark.parametrize("shape", [(8, 8, 2), (8, 8, 1)])
def test_codes_of_images_that_cannot_be_drawn_are_counted(shape, tmp_path):
    model = kv.VQVAE(
        encoder=kv.networks.MLPEncoder((6,)),
        decoder=kv.networks.MLPDecoder(shape, (6,)),
        posterior=codebook(),
        likelihood=kv.likelihoods.Normal(shape),
    )
    model.compile("sgd", run_eagerly=True)
    data = np.zeros([4, *shape], "float32")
    monitor = kv.callbacks.CodebookMonitor(data, directory=tmp_path)
    model.fit(data, verbose=0, callbacks=[monitor])
    assert list((tmp_path / "histograms").iterdir())
    drawn = tmp_path / "codes"
    assert bool(drawn.is_dir() and list(drawn.iterdir())) == (shape[-1] == 1)


def test_a_monitor_refuses_data_without_an_end(x):
    endless = tf.data.Dataset.from_tensor_slices(x).batch(8).repeat()
    for monitor in (kv.callbacks.CodebookMonitor, kv.callbacks.LatentMonitor):
        with pytest.raises(ValueError, match="`num_examples` must be given, as the data never end"):
            monitor(endless, num_examples=None)
