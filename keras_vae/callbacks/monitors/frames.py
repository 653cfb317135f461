"""Stores the pictures of each epoch on disk, and makes a film of them."""

from __future__ import annotations

import io
import pathlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_vae.callbacks.monitors.base import make_folder
from keras_vae.core.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

# Limits of the film, which keep it to a few megabytes.
_MAX_FRAMES, _MAX_WIDTH, _GRAYS, _COLOURS = 60, 560, 32, 64
_MILLISECONDS, _LAST_MILLISECONDS = 150, 2000


class Frames:
    """A folder with a subfolder of PNG files for each kind of picture, one file per epoch.

    Files are named by the number of completed epochs, starting at 1, as `ModelCheckpoint` does.

    Args:
        argument: Name of the argument by which the user gave the folder.
        folder: Path of the folder.
        names: The kinds of pictures.

    Raises:
        ValueError: If the folder cannot be written to.
    """

    def __init__(self, argument: str, folder: pathlib.Path, names: Sequence[str]):
        self._folders = {name: folder / name for name in names}
        self._film = folder / "training.gif"
        for path in self._folders.values():
            make_folder(argument, path)

    def start(self, epoch: int) -> None:
        """Removes the pictures of this epoch and all later ones."""
        for name in self._folders:
            for number, path in self._of(name).items():
                if number > epoch:
                    path.unlink()

    def add(self, name: str, epoch: int, picture: bytes) -> None:
        """Writes a picture, given as the bytes of a PNG file."""
        write_whole(self._folders[name] / f"epoch_{epoch + 1:04d}.png", picture)

    def write_film(self, names: Sequence[str]) -> None:
        """Writes an animated GIF of all epochs, each frame showing the pictures of these kinds."""
        paths = [self._of(name) for name in names]
        epochs = sorted(set.intersection(*map(set, paths)))
        if len(epochs) > _MAX_FRAMES:
            chosen = np.linspace(0, len(epochs) - 1, _MAX_FRAMES).round().astype(int)
            epochs = [epochs[i] for i in chosen]
        durations = [_MILLISECONDS] * (len(epochs) - 1) + [_LAST_MILLISECONDS]
        frames = (_stacked([kind[epoch] for kind in paths]) for epoch in epochs)
        film, first = io.BytesIO(), next(frames)
        first.save(
            film, "gif", save_all=True, append_images=frames, duration=durations, loop=0, disposal=1
        )
        write_whole(self._film, film.getvalue())

    def _of(self, name: str) -> dict[int, pathlib.Path]:
        """Returns the pictures of a kind, keyed by the number of completed epochs."""
        found = {}
        for path in self._folders[name].iterdir():
            match = re.fullmatch(r"epoch_(\d{4,})\.png", path.name)
            if match:
                found[int(match[1])] = path
        return found


def png(figure: Figure) -> bytes:
    """Draws a figure as a PNG file, in grayscale if it has no colours."""
    from PIL import Image

    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    picture = Image.open(drawn).convert("RGB")
    small = io.BytesIO()
    _without_needless_colour(picture).save(small, "png", optimize=True)
    return small.getvalue()


def pixels(picture: bytes) -> np.ndarray:
    """Returns the pixels `[H, W, C]` of a PNG file, as integers 0 .. 255."""
    from PIL import Image

    values = np.asarray(Image.open(io.BytesIO(picture)))
    return values if values.ndim == 3 else values[..., np.newaxis]


def _stacked(paths: Sequence[pathlib.Path]) -> Image:
    """Returns the pictures in several files stacked vertically, in few colours."""
    from PIL import Image

    pictures = [Image.open(path) for path in paths]
    mode = "L" if all(picture.mode == "L" for picture in pictures) else "RGB"
    size = max(p.width for p in pictures), sum(p.height for p in pictures)
    whole, top = Image.new(mode, size, "white"), 0
    for picture in pictures:
        whole.paste(picture, ((size[0] - picture.width) // 2, top))
        top += picture.height
    whole.thumbnail((_MAX_WIDTH, whole.height))
    return whole.point(_few_grays) if mode == "L" else whole.quantize(_COLOURS)


def _few_grays(value: int) -> int:
    return round(value / 255 * (_GRAYS - 1)) * 255 // (_GRAYS - 1)


def _without_needless_colour(picture: Image) -> Image:
    red, green, blue = np.moveaxis(np.asarray(picture), -1, 0)
    gray = np.array_equal(red, green) and np.array_equal(red, blue)
    return picture.convert("L") if gray else picture
