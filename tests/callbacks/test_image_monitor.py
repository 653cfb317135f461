"""The monitor of images leaves pictures of what the model makes, and a film of them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_vae as kv

KINDS = ("reconstructions", "samples", "traversals")


def _grid(image, rows, columns):
    """Return the mean brightness of each cell of a grid that fills the lower part of a picture."""
    values = np.asarray(image.convert("L"), float)
    # Below the title, the grid begins where half of a row of pixels is not white.
    top = np.flatnonzero((values < 250).mean(axis=1) > 0.5)[0]
    values = values[top:]
    cells = [np.array_split(row, columns, axis=1) for row in np.array_split(values, rows)]
    # The middles, without the white lines between them.
    return np.array([[_middle(cell).mean() for cell in row] for row in cells])


def _middle(cell):
    height, width = cell.shape
    return cell[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3]


def _epochs(folder, kind):
    return sorted(int(path.stem.removeprefix("epoch_")) for path in (folder / kind).iterdir())


class Steady(kv.VAE):
    """Reconstructs what it is given, half as bright, and draws images from dark to bright."""

    def reconstruct(self, x, y=None):
        return 0.5 * tf.convert_to_tensor(x)

    def sample(self, num_samples, seed=0, mean=True, y=None):
        return (
            tf.ones([num_samples, 8, 8, 1])
            * tf.linspace(0.0, 0.8, num_samples)[:, None, None, None]
        )


@pytest.mark.full
def test_the_pictures_show_inputs_reconstructions_and_samples(make_vae, fit, tmp_path):
    brightness = np.linspace(0.0, 0.9, 10)
    x = np.ones([10, 8, 8, 1], "float32") * brightness[:, None, None, None].astype("float32")
    fit(make_vae(Steady), [kv.callbacks.ImageMonitor(x, directory=tmp_path)], data=x)
    pictures = {kind: Image.open(tmp_path / kind / "epoch_0001.png") for kind in KINDS}
    for picture in pictures.values():
        assert picture.mode == "L"
        assert 800 < picture.width < 900
        picture.load()  # whole
    above, below = _grid(pictures["reconstructions"], 2, 10) / 255.0
    np.testing.assert_allclose(above, brightness, atol=0.01)
    np.testing.assert_allclose(below, 0.5 * brightness, atol=0.01)
    samples = _grid(pictures["samples"], 1, 10)[0] / 255.0
    np.testing.assert_allclose(samples, np.linspace(0.0, 0.8, 10), atol=0.01)


@pytest.mark.full
def test_pictures_of_one_epoch_differ_from_those_of_another_by_the_model_alone(
    make_vae, fit, x, tmp_path, events
):
    model = make_vae()
    model.optimizer.learning_rate = 0.0
    files = tmp_path / "files"
    monitor = kv.callbacks.ImageMonitor(x, directory=files, log_dir=tmp_path, num_images=10)
    fit(model, [monitor], epochs=2)
    found = events(tmp_path)
    assert found.keys() == {f"images/{kind}" for kind in KINDS}
    for kind in KINDS:
        one, two = (np.asarray(Image.open(files / kind / f"epoch_000{n}.png")) for n in (1, 2))
        # The same noise, the same images: only the number in the title is another.
        assert (one != two).any(axis=1).sum() < 40
        np.testing.assert_array_equal(one[40:], two[40:])
        width, height, picture = found[f"images/{kind}"][1]
        assert (int(height), int(width)) == two.shape, "not what TensorBoard shows"
        np.testing.assert_array_equal(tf.io.decode_png(picture, 1)[..., 0], two)


@pytest.mark.full
def test_the_film_has_a_frame_for_each_epoch(make_vae, fit, x, tmp_path):
    monitor = kv.callbacks.ImageMonitor(x, every=2, directory=tmp_path)
    fit(make_vae(), [monitor], epochs=3)
    assert [_epochs(tmp_path, kind) for kind in KINDS] == [[1, 2, 3]] * 3
    film = Image.open(tmp_path / "training.gif")
    assert (film.n_frames, film.info["loop"]) == (3, 0)
    heights = [Image.open(tmp_path / k / "epoch_0001.png").height for k in KINDS[:2]]
    assert film.size == (560, round(sum(heights) * 560 / 840))
    durations = []
    for frame in range(3):
        film.seek(frame)
        durations.append(film.info["duration"])
    assert durations == [150, 150, 2000]
    assert (tmp_path / "training.gif").stat().st_size < 3 * 100_000


def test_a_long_film_has_sixty_frames_with_the_first_and_the_last(tmp_path):
    from keras_vae.callbacks.monitors.frames import Frames

    frames = Frames("directory", tmp_path, ["samples"])
    for epoch in range(150):
        Image.new("L", (30, 20), epoch).save(tmp_path / "samples" / f"epoch_{epoch + 1:04d}.png")
    frames.write_film(["samples"])
    film = Image.open(tmp_path / "training.gif")
    shades = []
    for number in range(film.n_frames):
        film.seek(number)
        shades.append(film.convert("L").getpixel((5, 5)))
    # Of 32 grays, equal frames in succession become one longer one.
    assert shades == sorted(shades) and (shades[0], shades[-1]) == (0, pytest.approx(149, abs=5))


@pytest.mark.full
def test_a_resumed_training_keeps_earlier_pictures_and_replaces_later_ones(
    make_vae, fit, x, tmp_path
):
    model = make_vae()
    few = {"num_images": 10, "directory": tmp_path}
    fit(model, [kv.callbacks.ImageMonitor(x, gif=False, **few)], epochs=3)
    assert not (tmp_path / "training.gif").exists()
    other = tmp_path / "samples" / "notes.png"
    other.write_text("not a picture of an epoch")
    before = (tmp_path / "samples" / "epoch_0001.png").read_bytes()
    monitor = kv.callbacks.ImageMonitor(x, every=10, **few)
    fit(model, [monitor], epochs=2, initial_epoch=1)
    assert _epochs(tmp_path, "traversals") == [1, 2]
    assert (tmp_path / "samples" / "epoch_0001.png").read_bytes() == before
    assert other.is_file()
    assert Image.open(tmp_path / "training.gif").n_frames == 2


def test_a_conditional_model_draws_with_the_labels_of_the_images(
    make_vae, fit, x, tmp_path, monkeypatch
):
    y = np.arange(len(x)) % 3
    model = make_vae(kv.ConditionalVAE, condition=3)
    seen = []
    sample = model.sample
    monkeypatch.setattr(
        model, "sample", lambda *args, y, **kw: seen.append(y) or sample(*args, y=y, **kw)
    )
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    monitor = kv.callbacks.ImageMonitor(data, num_images=12, directory=tmp_path)
    fit(model, [monitor], data=data, batch_size=None)
    np.testing.assert_array_equal(seen[0], y[:12])
    assert [_epochs(tmp_path, kind) for kind in KINDS] == [[1]] * 3


@pytest.mark.parametrize("kind", ["Bernoulli", "Categorical"])
def test_discrete_latents_take_each_of_their_values(make_vae, fit, x, tmp_path, kind):
    sizes = (4,) if kind == "Bernoulli" else (4, 3)
    model = make_vae(
        posterior=getattr(kv.posteriors, kind)(*sizes, temperature=0.5),
        prior=getattr(kv.priors, kind)(*sizes),
    )
    fit(model, [kv.callbacks.ImageMonitor(x, directory=tmp_path)])
    values = 2 if kind == "Bernoulli" else 3
    picture = Image.open(tmp_path / "traversals" / "epoch_0001.png")
    assert picture.width == pytest.approx(0.7 * 120 * values, abs=1)


def test_coloured_images_of_8_bits_are_shown_in_their_colours(make_vae, fit, tmp_path):
    shape = (8, 8, 3)
    x = np.zeros([10, *shape], "uint8")
    x[..., 0] = 255
    likelihood = kv.likelihoods.DiscretizedLogisticMixture(shape, 1)
    model = make_vae(
        likelihood=likelihood, decoder=kv.networks.MLPDecoder(likelihood.params_shape, (4,))
    )
    fit(model, [kv.callbacks.ImageMonitor(x, directory=tmp_path)], data=x)
    picture = np.asarray(Image.open(tmp_path / "reconstructions" / "epoch_0001.png"))
    red = (picture == [255, 0, 0]).all(axis=-1)
    assert 0.3 < red.mean() < 0.5  # the upper row of two, without the title and the lines


def test_data_that_are_no_images_are_refused_before_the_first_step(make_vae, fit, tmp_path):
    x = np.zeros([28, 5], "float32")
    model = make_vae(
        likelihood=kv.likelihoods.Bernoulli((5,)), decoder=kv.networks.MLPDecoder((5,), (4,))
    )
    with pytest.raises(ValueError, match=r"of images \[H, W, 1 or 3\] .* of shape \(5,\)"):
        fit(model, [kv.callbacks.ImageMonitor(x, directory=tmp_path / "new")], data=x)
    assert int(model.optimizer.iterations) == 0
    assert not (tmp_path / "new").exists()


def test_a_dimension_that_the_model_lacks_is_refused_at_the_start(make_vae, fit, x, tmp_path):
    monitor = kv.callbacks.ImageMonitor(x, dimensions=[0, 2], directory=tmp_path / "new")
    with pytest.raises(ValueError, match=r"`dimensions` must be one of \[0, 1\]"):
        fit(make_vae(), [monitor])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_images": 0}, "`num_images` must be an integer >= 1"),
        ({"dimensions": []}, "`dimensions` must be integers >= 0, or None"),
        ({"dimensions": [-1]}, "`dimensions` must be an integer >= 0"),
        ({"white": 0.0}, "`white` must be a finite number > 0"),
        ({"directory": 7}, "`directory` must be a path, or None"),
        ({"directory": None}, "`directory` must be given, or `log_dir`"),
        ({"gif": "yes"}, "`gif` must be one of"),
        ({"seed": -1}, "`seed` must be an integer >= 0"),
    ],
)
def test_bad_arguments_are_refused(x, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        kv.callbacks.ImageMonitor(x, **{"directory": tmp_path / "new", **change})
    assert not (tmp_path / "new").exists()
