"""The files of TensorBoard's projector say what they were given."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

import keras_vae as kv


def test_tensorboard_reads_the_settings_and_finds_the_files(tmp_path):
    from google.protobuf import text_format
    from tensorboard.plugins.projector import ProjectorConfig

    z = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    images = np.zeros([5, 4, 6, 1])
    kv.callbacks.write_projector(tmp_path / "new", z, list("ab cd"), images, name="digits")
    text = (tmp_path / "new" / "projector_config.pbtxt").read_text()
    (embedding,) = text_format.Parse(text, ProjectorConfig()).embeddings
    assert embedding.tensor_name == "digits"
    assert list(embedding.sprite.single_image_dim) == [6, 4]  # width, height
    values = np.loadtxt(tmp_path / "new" / embedding.tensor_path, delimiter="\t")
    np.testing.assert_array_equal(values.astype("float32"), z)
    labels = (tmp_path / "new" / embedding.metadata_path).read_text()
    assert labels.splitlines() == ["a", "b", "", "c", "d"]
    assert (tmp_path / "new" / embedding.sprite.image_path).is_file()


def test_the_sprite_has_the_images_row_by_row_in_a_square(tmp_path):
    images = np.arange(1, 6)[:, None, None, None] * np.full([5, 2, 3, 3], 10)
    kv.callbacks.write_projector(tmp_path, np.zeros([5, 2]), images=images, white=255.0)
    sprite = np.asarray(Image.open(tmp_path / "latent_sprite.png"))
    assert sprite.shape == (6, 9, 3)
    np.testing.assert_array_equal(sprite[::2, ::3, 1], [[10, 20, 30], [40, 50, 0], [0, 0, 0]])


def test_a_second_call_replaces_the_first(tmp_path):
    kv.callbacks.write_projector(tmp_path, np.zeros([5, 2]), np.arange(5))
    kv.callbacks.write_projector(tmp_path, np.ones([3, 2]))
    assert len((tmp_path / "latent_values.tsv").read_text().splitlines()) == 3
    assert "metadata" not in (tmp_path / "projector_config.pbtxt").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"z": np.zeros(3)}, "`z` must be finite numbers of shape [N, D]"),
        ({"z": np.full([4, 2], np.nan)}, "`z` must be finite numbers"),
        ({"labels": np.arange(3)}, "`labels` must have shape [4]"),
        ({"images": np.zeros([4, 8, 8])}, "`images` must have shape [4, H, W, 1 or 3]"),
        ({"images": np.zeros([4, 1, 5000, 1])}, "`images` must fit into a square of 8192"),
        ({"name": 'a"b'}, "`name` must be letters, digits"),
        ({"white": 0}, "`white` must be a finite number > 0"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(tmp_path, change, message):
    arguments = {"z": np.zeros([4, 2]), "images": np.zeros([4, 2, 2, 1]), **change}
    with pytest.raises(ValueError, match=re.escape(message)):
        kv.callbacks.write_projector(tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()
