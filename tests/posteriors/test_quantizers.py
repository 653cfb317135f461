"""Quantizers against NumPy: codes, what the decoder gets, and the gradients of it."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.posteriors.codebook import Batch
from keras_vae.posteriors.straight_through import rotation, straight_through
from tests.small_models import normal_values

P = kv.posteriors
MAPS, DIM, SIZE = (2, 3), 4, 5


def made(head, channels=DIM):
    """Return a quantizer whose projection is the identity."""
    head.build((None, *MAPS, channels))
    if hasattr(head, "projection"):
        head.projection.set_weights([np.eye(channels), np.zeros(channels)])
    return head


def vector_quantizer(**kwargs):
    return made(P.VectorQuantizer(MAPS, SIZE, DIM, dtype="float64", **kwargs))


def gradients(head, z, value):
    """Return the gradients of a value of what is quantized, with respect to z and the codebook."""
    z, books = tf.Variable(z), [book.embeddings.value for book in head.codebooks]
    with tf.GradientTape() as tape:
        tape.watch(books)
        total = tf.reduce_sum(value(head.quantize_features(z)))
    return tape.gradient(total, [z, *books])


Z = normal_values(7, *MAPS, DIM)


def test_the_nearest_vector_is_what_the_decoder_gets():
    head = vector_quantizer()
    e = head.codebook.embeddings.numpy()
    codes = np.argmin(np.sum((Z.numpy()[..., None, :] - e) ** 2, axis=-1), axis=-1)
    found = head.quantize_features(Z)
    np.testing.assert_array_equal(found.codes, codes.reshape(7, -1))
    np.testing.assert_array_equal(found.embedded, e[codes])
    np.testing.assert_allclose(
        found.commitment, np.sum((Z.numpy() - e[codes]) ** 2, axis=(1, 2, 3)), rtol=1e-12
    )
    assert found.statistics == {} and not np.any(found.penalty)


def test_the_commitment_moves_the_encoder_and_nothing_else():
    # A loss taken after the straight-through identity would be zero, and one with β on the other
    # term would move the codebook.
    for learning in ("ema", "gradient"):
        head = vector_quantizer(learning=learning)
        of_z, of_e = gradients(head, Z, lambda found: found.commitment)
        expected = 2.0 * (Z - head.quantize_features(Z).embedded)
        np.testing.assert_allclose(of_z, expected, rtol=1e-12)
        assert of_e is None


def test_the_loss_of_the_codebook_moves_the_codebook_and_nothing_else():
    head = vector_quantizer(learning="gradient")
    of_z, of_e = gradients(head, Z, lambda found: found.penalty)
    found, rows = head.quantize_features(Z), Z.numpy().reshape(-1, DIM)
    chosen = np.eye(SIZE)[found.codes.numpy().reshape(-1)]
    e = head.codebook.embeddings.numpy()
    expected = 2.0 * (chosen.sum(0)[:, None] * e - chosen.T @ rows)
    np.testing.assert_allclose(of_e, expected, rtol=1e-9, atol=1e-9)
    assert of_z is None or not np.any(of_z)


@pytest.mark.parametrize("learning", ["ema", "gradient"])
def test_the_gradient_of_the_decoder_goes_straight_to_the_encoder(learning):
    head, weights = vector_quantizer(learning=learning), normal_values(7, *MAPS, DIM, seed=1)
    of_z, of_e = gradients(head, Z, lambda found: weights * found.embedded)
    np.testing.assert_array_equal(of_z, weights)
    assert of_e is None


def test_the_rotation_turns_gradients_as_it_turns_vectors():
    z, e = normal_values(4, 5), normal_values(4, 5, seed=1)
    upstream, variable = normal_values(4, 5, seed=2), tf.Variable(z)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(upstream * rotation(variable, e))
    found = tape.gradient(value, variable).numpy()
    for a, b, g, slope in zip(z.numpy(), e.numpy(), upstream.numpy(), found, strict=True):
        source, target = a / np.linalg.norm(a), b / np.linalg.norm(b)
        middle = (source + target) / np.linalg.norm(source + target)
        turn = np.eye(5) - 2.0 * np.outer(middle, middle) + 2.0 * np.outer(target, source)
        np.testing.assert_allclose(turn @ source, target, rtol=1e-10, atol=1e-12)
        scale = np.linalg.norm(b) / np.linalg.norm(a)
        np.testing.assert_allclose(slope, scale * turn.T @ g, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(rotation(z, e), e)


@pytest.mark.parametrize("function", [straight_through, rotation])
@pytest.mark.parametrize(("z", "e"), [(0.0, 0.0), (1.0, 1.0), (1.0, -1.0), (0.0, 1.0)])
def test_gradients_are_finite_everywhere(function, z, e):
    z, e = tf.Variable(tf.fill([2, 3], z)), tf.fill([2, 3], e)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(tf.range(3.0) * function(z, e))
    assert np.all(np.isfinite(tape.gradient(value, z)))


def test_vectors_of_length_zero_have_finite_cosines():
    head = vector_quantizer(distance="cosine")
    of_z, _ = gradients(head, tf.zeros_like(Z), lambda found: found.commitment + found.penalty)
    assert np.all(np.isfinite(of_z))


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_vectors_that_are_codes_have_finite_gradients(distance):
    # The root of a distance of zero has none.
    head = vector_quantizer(distance=distance, learning="gradient")
    z = tf.gather(head.codebook.vectors, np.arange(7 * 6).reshape(7, *MAPS) % SIZE)
    for found in gradients(head, z, lambda found: found.commitment + found.penalty):
        np.testing.assert_allclose(found, 0.0, atol=1e-12)


def test_features_whose_squares_overflow_in_half_precision_have_finite_distances():
    head = made(P.VectorQuantizer(MAPS, SIZE, DIM, dtype="mixed_float16"))
    z = tf.cast(400.0 * Z, "float16")  # the largest float16 is 65,504
    found, e = head.quantize_features(z), head.codebook.embeddings.numpy()
    exact = z.numpy().astype("float64")
    codes = np.argmin(np.sum((exact[..., None, :] - e) ** 2, axis=-1), axis=-1)
    np.testing.assert_array_equal(found.codes, codes.reshape(7, -1))
    expected = np.sum((exact - e[codes]) ** 2, axis=(1, 2, 3))
    assert expected.max() > 65_504.0
    np.testing.assert_allclose(found.commitment, expected, rtol=1e-5)
    of_z, _ = gradients(head, z, lambda found: found.commitment)
    np.testing.assert_allclose(of_z, 2.0 * (exact - e[codes]), rtol=1e-3, atol=1e-2)


def test_the_entropy_penalty():
    head = vector_quantizer(entropy_weight=0.5)
    e = head.codebook.embeddings.numpy()
    log_p = -np.sum((Z.numpy()[..., None, :] - e) ** 2, axis=-1)
    p = np.exp(log_p) / np.sum(np.exp(log_p), axis=-1, keepdims=True)
    each = -np.sum(p * np.log(p), axis=-1).mean(axis=(1, 2))
    mean = p.mean(axis=(0, 1, 2))
    expected = 0.5 * (each + np.sum(mean * np.log(mean)))
    np.testing.assert_allclose(head.quantize_features(Z).penalty, expected, rtol=1e-9)


# Several codebooks.


def residual_quantizer(**kwargs):
    return made(P.ResidualQuantizer(MAPS, 3, SIZE, DIM, dtype="float64", **kwargs))


def test_every_codebook_quantizes_what_is_left():
    head = residual_quantizer()
    left, total, commitment, codes = Z.numpy(), 0.0, 0.0, []
    for book in head.codebooks:
        e = book.embeddings.numpy()
        codes.append(np.argmin(np.sum((left[..., None, :] - e) ** 2, axis=-1), axis=-1))
        total, left = total + e[codes[-1]], left - e[codes[-1]]
        commitment = commitment + np.sum(left**2, axis=(1, 2, 3))
    found = head.quantize_features(Z)
    np.testing.assert_array_equal(found.codes, np.stack(codes, axis=1).reshape(7, -1))
    np.testing.assert_array_equal(found.embedded, head.embed(found.codes))
    np.testing.assert_allclose(found.embedded, total, rtol=1e-12)
    np.testing.assert_allclose(found.commitment, commitment, rtol=1e-12)


def test_a_residual_carries_no_gradient_to_the_codebooks_before_it():
    head = residual_quantizer(learning="gradient")
    of_z, *of_books = gradients(head, Z, lambda found: found.commitment + found.penalty)
    left, slope = Z.numpy(), 0.0
    for book, of_e in zip(head.codebooks, of_books, strict=True):
        e, rows = book.embeddings.numpy(), left.reshape(-1, DIM)
        chosen = np.eye(SIZE)[np.argmin(np.sum((rows[:, None] - e) ** 2, axis=-1), axis=-1)]
        expected = 2.0 * (chosen.sum(0)[:, None] * e - chosen.T @ rows)
        np.testing.assert_allclose(of_e, expected, rtol=1e-9, atol=1e-9)
        left = left - (chosen @ e).reshape(left.shape)
        slope = slope + 2.0 * left
    np.testing.assert_allclose(of_z, slope, rtol=1e-9)


def test_statistics_of_several_codebooks_lead_to_their_own():
    head = residual_quantizer()
    found = head.quantize_features(Z, Batch(tf.constant([0, 1])))
    for variable, value in head.state_updates(found.statistics):
        variable.assign(value)
    left = tf.reshape(Z, [-1, DIM])
    for level, book in enumerate(head.codebooks):
        np.testing.assert_allclose(
            found.statistics[f"{level}/counts"],
            np.bincount(head.groups.split(found.codes)[level].numpy().ravel(), minlength=SIZE),
        )
        assert abs(float(tf.reduce_sum(book.usage)) - (0.99 * SIZE + 0.01 * len(left))) < 1e-9
    candidates = [found.statistics[f"{level}/candidates"] for level in range(3)]
    assert not np.allclose(candidates[0], candidates[1])  # each level draws by itself


# Rounding.


@pytest.mark.parametrize("levels", [(2, 2), (3, 5), (8, 5, 5, 5), (7, 2, 4)])
def test_every_combination_of_levels_is_a_code(levels):
    head = P.FSQ(MAPS, levels, dtype="float64")
    made(head, len(levels))
    codes = np.arange(np.prod(levels))
    values = head._values(tf.constant(codes)).numpy()
    halves = np.array(levels) // 2
    grid = [(np.arange(n) - half) / half for n, half in zip(levels, halves, strict=True)]
    assert {tuple(v) for v in values} == set(itertools.product(*grid))
    # Far inputs reach every corner, and zero stays zero before it is rounded.
    corners = np.array(list(itertools.product((-50.0, 50.0), repeat=len(levels))))
    bounded = np.round(head.bound(tf.constant(corners)))
    ends = np.array([(-half, n - 1 - half) for n, half in zip(levels, halves, strict=True)])
    np.testing.assert_array_equal(bounded, np.where(corners < 0, ends[:, 0], ends[:, 1]))
    np.testing.assert_allclose(head.bound(tf.zeros([1, len(levels)], "float64")), 0.0, atol=1e-12)


@pytest.mark.parametrize("levels", [2, 3, 4, 8])
def test_every_level_occurs_near_zero(levels):
    head = P.FSQ(MAPS, (levels,), dtype="float64")
    bounded = head.bound(tf.constant(normal_values(4000, 1)))
    _, counts = np.unique(np.round(bounded), return_counts=True)
    assert len(counts) == levels and counts.min() > 4000 / (20 * levels)


def test_rounded_values_are_those_of_their_codes():
    head = P.FSQ(MAPS, (8, 5, 4), dtype="float64")
    made(head, 3)
    z = tf.Variable(2.0 * normal_values(50, *MAPS, 3))
    with tf.GradientTape() as tape:
        found = head.quantize_features(z)
    halves = np.array([4.0, 2.0, 2.0])
    bounded = head.bound(z)
    np.testing.assert_allclose(found.embedded, np.round(bounded) / halves, rtol=1e-12)
    np.testing.assert_array_equal(found.embedded, head.embed(found.codes))
    with tf.GradientTape() as smooth:
        expected = head.bound(z) / halves
    np.testing.assert_allclose(
        tape.gradient(found.embedded, z), smooth.gradient(expected, z), rtol=1e-12
    )


# Several maps.


def hierarchy():
    top = P.QuantizerHierarchy(P.VectorQuantizer((1, 1), 3, 2), P.FSQ((2, 2), (3, 2)), filters=3)
    head = P.QuantizerHierarchy(top, P.VectorQuantizer((3, 4), 5, 3), filters=4)
    head.build((None, 3, 4, 6))
    return head


def test_a_hierarchy_of_three_maps():
    head = hierarchy()
    h = normal_values(5, 3, 4, 6, dtype="float32")
    found = head.quantize_features(h)
    assert head.latents == {"z1": (1, 1), "z2": (2, 2), "z3": (3, 4)}
    assert head.num_codes == (3, 6, 5) and len(head.codebooks) == 2
    z1, z2, z3 = head.groups.split(found.codes)
    expected = head.embed(found.codes).numpy()
    np.testing.assert_array_equal(found.embedded, expected)
    assert expected.shape == (5, *head.decoder_input_shape) == (5, 3, 4, 2 + 2 + 3)
    one, two, three = head.top.top.embed(z1), head.top.bottom.embed(z2), head.bottom.embed(z3)
    np.testing.assert_array_equal(expected[..., 4:], three)
    np.testing.assert_array_equal(expected[..., :2], np.broadcast_to(one, (5, 3, 4, 2)))
    rows, columns = np.array([0, 0, 1]), np.array([0, 0, 1, 1])
    np.testing.assert_array_equal(expected[..., 2:4], two.numpy()[:, rows][:, :, columns])


def test_the_bottom_depends_on_the_top():
    head = hierarchy()
    h = normal_values(5, 3, 4, 6, dtype="float32")
    before = head._merge(h, head.top.quantize_features(head._reduce(h)).embedded)
    head.top.top.codebook.set_vectors(head.top.top.codebook.embeddings + 3.0)
    after = head._merge(h, head.top.quantize_features(head._reduce(h)).embedded)
    assert np.abs(before - after).max() > 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: made(P.VectorQuantizer((4, 4), SIZE, DIM)), "`maps` must be that of the features"),
        (lambda: P.VectorQuantizer((2, 2), 1), "`codebook_size` must be an integer >= 2"),
        (lambda: P.VectorQuantizer((2, 2), gradient="x"), "`gradient` must be one of"),
        (lambda: P.FSQ((2, 2), (8, 1)), "`levels` must be >= 2"),
        (lambda: P.FSQ((2, 2), (2,) * 31), "product below"),
        (
            lambda: P.QuantizerHierarchy(P.FSQ((3, 3), (2,)), P.FSQ((4, 4), (2,))),
            r"`bottom` must be the map \(3, 3\) of the top, doubled",
        ),
        (
            lambda: P.QuantizerHierarchy(P.DiagonalNormal(2), P.FSQ((4, 4), (2,))),
            "`top` must be a quantizer",
        ),
    ],
)
def test_arguments_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_features_that_are_no_map_are_projected_as_a_whole():
    head = P.VectorQuantizer(MAPS, SIZE, DIM)
    assert head(tf.zeros([7, 9])).event_shape == (6,)
    assert head.projection.kernel.shape == (9, 6 * DIM)
