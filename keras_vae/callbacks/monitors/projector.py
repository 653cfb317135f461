"""Writes latent variables for TensorBoard's projector."""

from __future__ import annotations

import io
import math
import os
import re
from typing import Any

import numpy as np

from keras_vae.callbacks.monitors.base import make_folder
from keras_vae.core import checks
from keras_vae.core.files import write_whole

_SPRITE = 8192  # The largest side of a sprite that browsers show.


def write_projector(
    log_dir: str | os.PathLike[str],
    z: Any,
    labels: Any = None,
    images: Any = None,
    *,
    name: str = "latent",
    white: float = 1.0,
) -> None:
    """Writes latent variables for the projector of TensorBoard, with their labels and images.

    The projector shows them in three dimensions, using PCA, t-SNE or UMAP. The files are text and a
    PNG file, so TensorBoard is not needed to write them. What the folder showed before is replaced.
    If TensorBoard was already running before the files were there, restart it to see them.

    Args:
        log_dir: TensorBoard folder.
        z: Latent variables `[N, D]`, such as the means of q(z|x).
        labels: The label of each of them, `[N]`, or None.
        images: The image that each of them stands for, `[N, H, W, 1 or 3]`, or None.
        name: The name to show, made of letters, digits, `-` and `_`.
        white: The value drawn as white, such as 255 for 8-bit images; 0 is black.

    Raises:
        ValueError: If an array has the wrong shape, or the folder cannot be written to.

    Example:
        >>> import pathlib, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> write_projector(folder, np.eye(3), labels=[0, 1, 1])
        >>> sorted(path.name for path in pathlib.Path(folder).iterdir())
        ['latent_labels.tsv', 'latent_values.tsv', 'projector_config.pbtxt']

    References:
        Smilkov et al., 2016, arXiv:1611.05469.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name, re.ASCII):
        raise checks.invalid("name", "must be letters, digits, - and _", name)
    checks.number("white", white, 0.0, exclusive=True)
    z = checks.array("z", z, "[N, D]")
    if z.ndim != 2 or not z.size or not np.isfinite(z).all():
        raise checks.invalid("z", "must be finite numbers of shape [N, D]", z.shape)
    files = {f"{name}_values.tsv": _lines("\t".join(map(str, row)) for row in z.tolist())}
    settings = [f'tensor_name: "{name}"', f'tensor_path: "{name}_values.tsv"']
    if labels is not None:
        files[f"{name}_labels.tsv"] = _labels(labels, len(z))
        settings.append(f'metadata_path: "{name}_labels.tsv"')
    if images is not None:
        files[f"{name}_sprite.png"], height, width = _sprite(images, len(z), white)
        size = f"single_image_dim: {width} single_image_dim: {height}"
        settings.append(f'sprite {{ image_path: "{name}_sprite.png" {size} }}')
    files["projector_config.pbtxt"] = _lines(
        ["embeddings {", *(f"  {line}" for line in settings), "}"]
    )
    folder = checks.path("log_dir", log_dir)
    make_folder("log_dir", folder)
    for file, content in files.items():
        write_whole(folder / file, content)


def _labels(labels: Any, count: int) -> bytes:
    labels = np.asarray(labels)
    if labels.shape != (count,):
        raise checks.invalid("labels", f"must have shape [{count}], one for each z", labels.shape)
    return _lines(" ".join(str(label).split()) for label in labels.tolist())


def _sprite(images: Any, count: int, white: float) -> tuple[bytes, int, int]:
    """Returns a PNG file with all images in a square, and the height and width of one image."""
    from PIL import Image

    white = checks.number("white", white, 0.0, exclusive=True)
    images = np.asarray(images, np.float64)
    if images.ndim != 4 or len(images) != count or images.shape[-1] not in (1, 3):
        rule = f"must have shape [{count}, H, W, 1 or 3], one for each z"
        raise checks.invalid("images", rule, images.shape)
    height, width, channels = images.shape[1:]
    side = math.ceil(math.sqrt(count))
    if side * max(height, width) > _SPRITE:
        rule = f"must fit into a square of {_SPRITE} pixels: take fewer, or smaller ones"
        raise checks.invalid("images", rule, images.shape)
    grid = np.zeros((side * side, height, width, channels))
    grid[:count] = np.clip(images / white, 0.0, 1.0)
    grid = grid.reshape(side, side, height, width, channels).transpose(0, 2, 1, 3, 4)
    pixels = (255.0 * grid.reshape(side * height, side * width, channels)).round().astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels).save(file, "png")
    return file.getvalue(), height, width


def _lines(lines: Any) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
