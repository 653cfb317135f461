"""Priors over codes against the enumeration of all codes, and against one full pass a position."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vae.distributions.causal_network import CausalNetwork
from keras_vae.distributions.groups import tempered
from keras_vae.priors import Hierarchy, PixelCNN, PixelSNAIL
from tests.small_models import randomize

FEATURES = 2


@pytest.fixture(autouse=True)
def run_eagerly():
    """Draw eagerly: to trace the draws of each prior takes longer than a few positions do."""
    tf.config.run_functions_eagerly(True)


def pixel_cnn(maps=(2, 2), num_codes=3, **options):
    return PixelCNN(maps, num_codes, filters=4, num_layers=3, kernel_size=3, **options)


def pixel_snail(maps=(2, 2), num_codes=3, **options):
    return PixelSNAIL(maps, num_codes, 4, 1, 1, kernel_size=3, num_heads=2, head_dim=3, **options)


def hierarchy(maps=(2, 2), num_codes=2, **options):
    """Return a prior over two codes, each of three, and the map below them."""
    top, bottom = pixel_cnn((1, 2), 3, **options), pixel_snail(maps, num_codes, **options)
    return Hierarchy(top, bottom, filters=4, **options)


MAKERS = {"PixelCNN": pixel_cnn, "PixelSNAIL": pixel_snail, "Hierarchy": hierarchy}
every_prior = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def built(make, *args, condition=None, **options):
    """Return a prior of random weights in float64."""
    prior = make(*args, dtype="float64", **options)
    prior.build(condition_shape=condition)
    randomize(prior, scale=0.4)
    return prior


def labels(count=2):
    return tf.constant(np.random.default_rng(1).normal(size=(count, FEATURES)))


def all_codes(prior):
    return np.array(list(itertools.product(*map(range, prior.groups.counts))), "int32")


# Densities and draws.


def check_draws(p, codes, count=20_000):
    """Check that the probabilities of all codes add up to 1, and that draws have them."""
    probabilities = p.prob(codes).numpy()
    np.testing.assert_allclose(probabilities.sum(), 1.0, rtol=1e-12)
    numbers = {tuple(row): number for number, row in enumerate(codes.tolist())}
    draws = p.sample(count, seed=1).numpy().tolist()
    found = np.bincount([numbers[tuple(row)] for row in draws], minlength=len(codes)) / count
    error = np.sqrt(probabilities * (1.0 - probabilities) / count)
    common = probabilities * count > 20.0  # the counts of others are not normal
    assert probabilities[common].sum() > 0.9
    # Of 144 codes, one is beyond 4 standard errors for one seed in a hundred.
    assert np.max((np.abs(found - probabilities) / error)[common]) < 4.0


@pytest.mark.first_is_quick
@every_prior
def test_probabilities_add_up_to_one_and_draws_have_them(make):
    prior = built(make)
    check_draws(prior(), all_codes(prior))


@pytest.mark.first_is_quick
@pytest.mark.parametrize("make", [pixel_cnn, pixel_snail])
def test_temperatures_divide_the_logits(make):
    prior = built(make)
    codes = all_codes(prior)
    half = tempered(prior(), 0.5)
    check_draws(half, codes)
    np.testing.assert_allclose(half.logits(codes), 2.0 * prior().logits(codes), rtol=1e-12)
    np.testing.assert_allclose(tempered(half, 2.0).prob(codes), prior().prob(codes), rtol=1e-12)
    certain = tempered(prior(), 0.0)
    draws = certain.sample(9, seed=3)
    assert len(np.unique(draws, axis=0)) == 1
    np.testing.assert_array_equal(tf.argmax(prior().logits(draws), axis=-1), draws)
    np.testing.assert_allclose(certain.prob(draws), 1.0)


@pytest.mark.first_is_quick
@every_prior
def test_every_condition_has_a_distribution_of_its_own(make):
    prior, y = built(make, condition=(None, FEATURES)), labels()
    both, codes = prior(y), all_codes(prior)
    assert both.batch_shape == (2,) and both.sample(3, seed=0).shape == (3, 2, prior.latent_dim)
    probabilities = both.prob(codes[:, None]).numpy()  # [codes, 2]
    np.testing.assert_allclose(probabilities.sum(0), 1.0, rtol=1e-12)
    assert np.abs(probabilities[:, 0] - probabilities[:, 1]).max() > 1e-3
    for number in range(2):
        alone = prior(y[number : number + 1]).prob(codes[:, None])[:, 0]
        np.testing.assert_allclose(alone, probabilities[:, number], rtol=1e-12)
    np.testing.assert_allclose(both.prob(codes[5]), probabilities[5], rtol=1e-12)
    draws = both.sample(20_000, seed=2)  # each row of the batch, as that condition alone
    for number in range(2):
        mean = np.mean(draws[:, number], axis=0)
        expected = probabilities[:, number] @ codes
        spread = np.sqrt(probabilities[:, number] @ (codes - expected) ** 2 / 20_000)
        assert np.max(np.abs(mean - expected) / spread) < 4.0


@every_prior
def test_codes_that_do_not_exist_have_no_probability(make):
    prior = built(make)
    codes = np.array([[-1, *[0] * (prior.latent_dim - 1)], [*[0] * (prior.latent_dim - 1), 3]])
    np.testing.assert_array_equal(prior().log_prob(codes), -np.inf)


# Causality.


def dependence(prior, codes):
    """Return which logits change with which codes, `[N, N]`: row n, column of the changed code."""
    size, p = prior.latent_dim, prior()
    before, changed = p.logits(codes), np.zeros((size, size), bool)
    for number in range(size):
        other = np.array(codes)
        other[:, number] = (other[:, number] + 1) % prior.groups.num_codes[0]
        changed[:, number] = np.any(p.logits(other) != before, axis=(0, 2))
    return changed


@pytest.mark.parametrize("make", [pixel_cnn, pixel_snail])
def test_logits_depend_on_all_earlier_codes_and_on_no_others(make):
    maps = (4, 4)
    prior = built(make, maps, 5)
    codes = np.random.default_rng(0).integers(0, 5, (3, 16))
    np.testing.assert_array_equal(dependence(prior, codes), np.tri(16, k=-1, dtype=bool))


def test_the_jacobian_by_embedded_codes_is_strictly_triangular(monkeypatch):
    prior = built(pixel_snail, (3, 3), 4)
    embedded = tf.constant(np.random.default_rng(0).normal(size=(1, 3, 3, 4)))
    monkeypatch.setattr(prior.network, "_embedded", lambda codes: tf.reshape(embedded, [1, 9, 4]))
    with tf.GradientTape() as tape:
        tape.watch(embedded)
        logits = prior().logits(np.zeros(9, "int32"))
    jacobian = tape.jacobian(logits, embedded)  # [9, K, 1, 3, 3, C]
    size = tf.norm(tf.reshape(jacobian, [9, 4, 9, 4]), axis=(1, 3)).numpy()
    np.testing.assert_array_equal(size > 0.0, np.tri(9, k=-1, dtype=bool))


def test_a_map_below_depends_on_every_code_above():
    prior = built(hierarchy)
    codes = np.zeros(6, "int32")
    below = [prior().log_prob_by_group(np.where(np.eye(6)[n], 1, codes))[1] for n in range(2)]
    assert np.all(np.array(below) != prior().log_prob_by_group(codes)[1])


@every_prior
def test_maps_of_a_batch_do_not_see_each_other(make):
    # As they do through a batch normalization, which is another function in training, too.
    prior = built(make)
    codes = all_codes(prior)[::17]
    together = prior(training=True).log_prob(codes)
    np.testing.assert_array_equal(prior().log_prob(codes), together)
    alone = [prior(training=True).log_prob(codes[n : n + 1])[0] for n in range(3)]
    np.testing.assert_allclose(alone, together[:3], rtol=1e-12)
    assert not prior.non_trainable_weights


# Drawing.


def replayed(prior, codes, condition=None):
    """Return the logits `[R, N, K]` that drawing computes, if these codes are what it draws."""
    network, size = prior.network, codes.shape[1]
    progress, seen = network.begin(len(codes)), []
    for position in range(size):

        def choose(logits, position=position):
            seen.append(logits)
            return codes[:, position]

        shifts = network.shifts(condition)
        progress = network.advance(progress, tf.constant(position), shifts, choose)
    return np.stack(seen, axis=1)


@pytest.mark.parametrize("make", [pixel_cnn, pixel_snail])
@pytest.mark.parametrize("maps", [(3, 4), (4, 1), (5,)])
def test_drawing_step_by_step_computes_what_a_full_pass_does(make, maps):
    prior = built(make, maps, 5)
    codes = prior().sample(6, seed=4)
    np.testing.assert_allclose(replayed(prior, codes), prior().logits(codes), rtol=0, atol=1e-13)


@every_prior
def test_drawing_makes_no_full_pass(make, monkeypatch):
    prior = built(make)

    def passed(*args, **kwargs):
        raise AssertionError("a full pass")

    monkeypatch.setattr(CausalNetwork, "call", passed)
    assert prior().sample(3, seed=1).shape == (3, prior.latent_dim)
    with pytest.raises(AssertionError, match="a full pass"):
        prior().log_prob(np.zeros((1, prior.latent_dim), "int32"))


@pytest.mark.parametrize("make", [pixel_cnn, pixel_snail])
def test_drawing_heeds_a_map_as_a_condition(make):
    prior = built(make, (3, 4), 5, condition=(None, 3, 4, FEATURES))
    condition = tf.constant(np.random.default_rng(1).normal(size=(6, 3, 4, FEATURES)))
    codes = prior(condition).sample(seed=4)
    full = prior(condition).logits(codes)
    np.testing.assert_allclose(replayed(prior, codes, condition), full, rtol=0, atol=1e-13)
    moved = tf.roll(condition, 1, axis=2)
    assert np.abs(prior(moved).logits(codes) - full).max() > 1e-3


@pytest.mark.first_is_quick
@every_prior
def test_draws_repeat_with_their_seed(make):
    tf.config.run_functions_eagerly(False)
    prior = built(make)
    eager = prior().sample(50, seed=[7, 0])
    np.testing.assert_array_equal(prior().sample(50, seed=7), eager)
    assert np.any(prior().sample(50, seed=8) != eager)
    in_graph = tf.function(lambda n: prior().sample(n, seed=[7, 0]), autograph=False)
    np.testing.assert_array_equal(in_graph(tf.constant(50)), eager)
    assert prior().sample(seed=7).shape == (prior.latent_dim,)
    assert prior().sample([2, 3], seed=7).shape == (2, 3, prior.latent_dim)


@pytest.mark.full
def test_draws_are_of_the_weights_as_they_are():
    tf.config.run_functions_eagerly(False)
    prior = built(pixel_cnn)
    before = prior().sample(200, seed=1)
    randomize(prior, scale=2.0, seed=5)
    assert np.mean(np.any(prior().sample(200, seed=1) != before, axis=1)) > 0.5


# Groups.


def test_the_density_of_a_hierarchy_is_that_of_its_parts():
    prior = built(hierarchy)
    codes = all_codes(prior)
    by_group = prior().log_prob_by_group(codes)
    np.testing.assert_allclose(by_group[:, 0], prior.top().log_prob(codes[:, :2]), rtol=1e-12)
    below = prior.bottom(prior.features(codes[:, :2])).log_prob(codes[:, 2:])
    np.testing.assert_allclose(by_group[:, 1], below, rtol=1e-12)
    assert prior.latents == {"z1": (1, 2), "z2": (2, 2)}


@pytest.mark.full
def test_a_hierarchy_of_three_maps_draws_each_given_those_above():
    top = hierarchy((2, 2), 2, dtype="float64")
    prior = Hierarchy(top, pixel_cnn((2, 1), 2, dtype="float64"), filters=3, dtype="float64")
    prior.build()
    randomize(prior, scale=0.4)
    p = prior()
    assert prior.latents == {"z1": (1, 2), "z2": (2, 2), "z3": (2, 1)}
    np.testing.assert_allclose(tf.reduce_sum(p.prob(all_codes(prior))), 1.0, rtol=1e-12)
    given = tf.constant([[2, 0]] * 4)
    z = p.draw_groups([4], seed=[0, 1], given={0: given}, temperatures={1: 0.0, 2: 0.0})
    np.testing.assert_array_equal(z[:, :2], given)
    assert len(np.unique(z, axis=0)) == 1  # the most probable codes below


def test_densities_start_nearly_uniform():
    prior = PixelCNN((4, 4), 7)
    z = np.random.default_rng(0).integers(0, 7, (3, 16))
    np.testing.assert_allclose(prior().log_prob(z), -16 * np.log(7.0), rtol=0.01)


# Errors and files.


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: PixelCNN((2, 2, 2), 3), "Argument `maps` must be (H, W)"),
        (lambda: PixelCNN((2, 2), 1), "Argument `num_codes` must be an integer >= 2"),
        (lambda: PixelCNN((2, 2), 3, kernel_size=4), "Argument `kernel_size` must be odd"),
        (lambda: PixelSNAIL((2, 2), 3, num_heads=0), "Argument `num_heads` must be"),
        (lambda: Hierarchy(pixel_cnn(), hierarchy()), "Argument `bottom` must be a PixelCNN"),
        (lambda: Hierarchy(keras.layers.Dense(1), pixel_cnn()), "Argument `top` must be"),
        (lambda: pixel_cnn().build(condition_shape=(None, 3, 2, 5)), "must be (batch, C) or"),
        (lambda: built(pixel_cnn, condition=(None, 2))(), "Argument `condition` must be given"),
        (
            lambda: Hierarchy(pixel_cnn(), built(pixel_cnn)).build(),
            "Argument `bottom` must be new, or built for a condition of shape (None, 2, 2, 64)",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(make, told):
    with pytest.raises(ValueError) as raised:
        make()
    assert told in str(raised.value)


def test_a_prior_without_a_condition_does_not_heed_one():
    prior, codes = built(pixel_cnn), np.zeros(4, "int32")
    np.testing.assert_array_equal(prior(labels()).log_prob(codes), prior().log_prob(codes))
