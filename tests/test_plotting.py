"""The figures show what they are given."""

from __future__ import annotations

import numpy as np
import pytest

import keras_vae as kv
from tests.small_models import make_vae


def _canvas(figure) -> np.ndarray:
    return np.asarray(figure.get_axes()[0].get_images()[0].get_array())


def test_learning_curves_show_beta_on_the_epochs_of_the_elbo():
    history = {
        "elbo": [-9.0, -5.0, -4.0],
        "val_elbo": [-9.5, -6.0, -5.0],
        "kl": [0.1, 1.0, 1.5],
        "reconstruction": [8.9, 4.0, 2.5],
        "beta": [0.0, 0.5, 1.0],
    }
    upper, lower = kv.plotting.learning_curves(history).get_axes()
    lines = {line.get_label(): line for line in upper.get_lines()}
    np.testing.assert_array_equal(lines["-ELBO, held out"].get_ydata(), [9.5, 6.0, 5.0])
    beta = lower.get_lines()[0]
    np.testing.assert_array_equal(beta.get_ydata(), history["beta"])
    np.testing.assert_array_equal(beta.get_xdata(), lines["-ELBO, training"].get_xdata())
    assert upper.get_shared_x_axes().joined(upper, lower)


def test_held_out_values_stand_at_the_epochs_they_are_of():
    history = {"elbo": [-9.0, -5.0, -4.0, -3.0, -2.0], "val_elbo": [-6.0, -5.0]}
    (upper,) = kv.plotting.learning_curves(history, validation_freq=2).get_axes()
    lines = {line.get_label(): line for line in upper.get_lines()}
    np.testing.assert_array_equal(lines["-ELBO, held out"].get_xdata(), [2, 4])
    (upper,) = kv.plotting.learning_curves(history).get_axes()
    assert [line.get_label() for line in upper.get_lines()] == ["-ELBO, training"]


@pytest.mark.parametrize("elbo", [[-9.0, np.nan, -4.0], [np.nan]])
def test_epochs_without_a_step_are_left_out(elbo):
    (upper,) = kv.plotting.learning_curves({"elbo": elbo}).get_axes()
    low, high = upper.get_ylim()
    assert low < 0.0 < high and (len(elbo) == 1 or high > 4.0)


def test_learning_curves_without_beta_have_one_panel():
    history = {"elbo": [-9.0], "kl": [0.1], "reconstruction": [8.9]}
    assert len(kv.plotting.learning_curves(history).get_axes()) == 1


def test_image_grid_places_images_row_by_row():
    images = np.zeros([3, 2, 2, 1])
    images[2] = 0.5
    canvas = _canvas(kv.plotting.image_grid(images, columns=2))
    assert canvas.shape == (5, 5)
    np.testing.assert_array_equal(canvas[3:, :2], np.full([2, 2], 0.5))
    np.testing.assert_array_equal(canvas[:2, 3:], np.zeros([2, 2]))
    np.testing.assert_array_equal(canvas[3:, 3:], np.ones([2, 2]))  # No fourth image: white.


def test_image_grid_takes_8_bit_images():
    canvas = _canvas(kv.plotting.image_grid(np.full([1, 2, 2, 3], 255, np.uint8), white=255.0))
    np.testing.assert_array_equal(canvas, np.ones([2, 2, 3]))


def test_reconstructions_stand_below_their_originals():
    originals = np.linspace(0, 0.4, 4).reshape(4, 1, 1, 1)
    canvas = _canvas(kv.plotting.reconstructions(originals, originals + 0.5, columns=2))
    np.testing.assert_allclose(canvas[::2, ::2] - canvas[::2, ::2][0, 0], [
        [0.0, 0.4 / 3],
        [0.5, 0.5 + 0.4 / 3],
        [0.8 / 3, 0.4],
        [0.5 + 0.8 / 3, 0.9],
    ])  # fmt: skip


def test_traversal_moves_one_dimension_a_row():
    model = make_vae(shape=(1, 1, 1), units=4)
    x = np.full([1, 1, 1, 1], 0.5, np.float32)
    start = model.encode(x).mean().numpy()[0]
    canvas = _canvas(kv.plotting.latent_traversal(model, x, [1], span=2.0, steps=3))
    z = np.array([[start[0], value] for value in (-2.0, 0.0, 2.0)], np.float32)
    np.testing.assert_allclose(canvas[0, ::2], model.decode(z).mean().numpy().ravel(), rtol=1e-6)


def test_latent_map_shows_the_direction_of_largest_variance_first():
    means = np.array([[0.0, -5.0, 0.1], [0.1, 5.0, 0.0], [0.3, 0.0, -0.1]])
    axes = kv.plotting.latent_map(means, np.array([0, 1, 1])).get_axes()[0]
    points = np.concatenate([scatter.get_offsets() for scatter in axes.collections])
    np.testing.assert_allclose(np.abs(points[:2, 0] - points[2, 0]), 5.0, atol=0.1)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["0", "1"]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: kv.plotting.image_grid(np.zeros([3, 2, 2])), "`images` must have shape"),
        (lambda: kv.plotting.learning_curves({}), "`history` must hold the logs"),
        (
            lambda: kv.plotting.reconstructions(np.zeros([1, 2, 2, 1]), np.zeros([2, 2, 2, 1])),
            "`reconstructed` must have the shape of `originals`",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_parts_add_up_step_by_step():
    figure = kv.plotting.elbo_parts({"a": 3.0, "b": -1.0}, "whole", {"other": 1.5})
    (axes,) = figure.get_axes()
    bars = [(bar.get_x(), bar.get_width()) for bar in axes.patches]
    np.testing.assert_allclose(bars, [(0.0, 3.0), (3.0, -1.0), (0.0, 2.0), (0.0, 1.5)])
    assert [text.get_text() for text in axes.texts] == ["3.00", "-1.00", "2.00", "1.50"]


def test_the_kl_of_dimensions_is_sorted_and_the_inactive_are_pale():
    figure = kv.plotting.kl_by_dimension([0.1, 3.0, 2.0], [False, True, True])
    (axes,) = figure.get_axes()
    heights = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in axes.patches}
    assert heights == {0: 3.0, 1: 2.0, 2: 0.1}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "0"]
    colors = {bar.get_height(): bar.get_facecolor() for bar in axes.patches}
    assert colors[3.0] == colors[2.0] != colors[0.1]


def test_tsne_keeps_clusters_apart():
    means = np.random.default_rng(0).normal(size=(60, 5))
    labels = np.arange(60) % 2
    means[labels == 1] += 50.0
    figure = kv.plotting.latent_map(means, labels, method="tsne", seed=1)
    (axes,) = figure.get_axes()
    first, second = (points.get_offsets().data for points in axes.collections)
    assert len(first) == len(second) == 30
    apart = np.linalg.norm(first.mean(axis=0) - second.mean(axis=0))
    assert apart > 3.0 * max(first.std(axis=0).max(), second.std(axis=0).max())


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: kv.plotting.elbo_parts({}, "whole", {}), "`parts` must hold at least one"),
        (lambda: kv.plotting.kl_by_dimension([]), "`kl` must have shape"),
        (lambda: kv.plotting.kl_by_dimension([1.0], [True, True]), "`active` must have shape"),
        (lambda: kv.plotting.kl_by_group({}), "`kl` must hold a number for each group"),
        (lambda: kv.plotting.kl_by_group({"z1": np.nan}), "`kl` must be a finite number"),
        (lambda: kv.plotting.latent_map(np.zeros([3, 1])), "`means` must have shape"),
        (lambda: kv.plotting.latent_map(np.zeros([1, 3])), "`means` must have shape"),
        (lambda: kv.plotting.latent_map(np.eye(3), [1]), "`labels` must have shape"),
        (lambda: kv.plotting.latent_map(np.eye(3), method="umap"), "`method` must be one of"),
    ],
)
def test_figures_refuse_what_they_cannot_draw(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
