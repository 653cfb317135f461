"""Shows what a model of images has learned, epoch by epoch."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from keras_vae import plotting
from keras_vae.callbacks.monitors.base import Monitor, path_of
from keras_vae.callbacks.monitors.frames import Frames, pixels, png
from keras_vae.core import checks
from keras_vae.training.data import first_examples

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS, _ROWS = 10, 8
_NAMES = ("reconstructions", "samples", "traversals")


class ImageMonitor(Monitor):
    """Draws reconstructions, samples and latent traversals while a model of images is trained.

    reconstruction = E[p(x|E_q[z])],  sample = E[p(x|z)] with z ~ p(z)
    traversal_d(v) = E[p(x|z)] with z_d = v and the other z of the first image

    It draws after the first epoch of a training, after every n-th and after the last, always with
    the same held-out images and the same noise, and without changing the training. At the end it
    makes an animated GIF, `training.gif`, of the reconstructions and samples of all epochs in the
    folder, at most 60 of them.

    A training that begins at epoch n, by `initial_epoch` or `BackupAndRestore`, keeps the pictures
    of the epochs before n and replaces the others; one that begins at 0 replaces them all.

    Args:
        data: Held-out images: array `[N, H, W, C]`, pair of arrays `(x, y)`, or dataset of batches
            as `fit` takes it. The first images are drawn; a conditional model also uses their
            labels for its samples.
        every: Number n of epochs.
        num_images: Number of images, and of samples, ten in a row; reconstructions are drawn only
            for full rows.
        dimensions: The latent dimensions to traverse, one row for each; None for those (at most 8)
            whose posterior mean currently varies most over the images.
        white: The value drawn as white; None for the largest that the likelihood allows, or 1.
        directory: Folder for PNG files `reconstructions/epoch_0001.png`, ..., `samples/` and
            `traversals/`, and for the GIF; or None.
        gif: Whether to make the GIF.
        log_dir: TensorBoard folder for the same pictures, or None. It needs the extra
            `keras_vae[tensorboard]`.
        seed: Seed of the samples, an integer >= 0.

    Raises:
        ValueError: If an argument is not as above; at the start of `fit`, if a file cannot be
            written, or the model is not a model of images `[H, W, 1 or 3]`.
        ImportError: If `log_dir` is given, but TensorBoard is not installed.

    Example:
        >>> import pathlib, tempfile, keras_vae as kv
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> model.compile("adam")
        >>> folder = tempfile.mkdtemp()
        >>> monitor = ImageMonitor(tf.zeros([10, 8, 8, 1]), directory=folder)
        >>> history = model.fit(tf.zeros([64, 8, 8, 1]), epochs=1, verbose=0, callbacks=[monitor])
        >>> pathlib.Path(folder, "samples", "epoch_0001.png").is_file()
        True
    """

    def __init__(
        self,
        data: Any,
        every: int = 1,
        *,
        num_images: int = 30,
        dimensions: Sequence[int] | None = None,
        white: float | None = None,
        directory: str | os.PathLike[str] | None = None,
        gif: bool = True,
        log_dir: str | os.PathLike[str] | None = None,
        seed: int = 0,
    ):
        self.num_images = checks.integer("num_images", num_images)
        super().__init__(data, every, log_dir, self.num_images)
        self.dimensions = None if dimensions is None else _checked_dimensions(dimensions)
        self.white = None if white is None else checks.number("white", white, 0.0, exclusive=True)
        self.directory = path_of("directory", directory)
        self.gif = checks.flag("gif", gif)
        self.seed = checks.integer("seed", seed, minimum=0)
        if self.directory is None and log_dir is None:
            raise checks.invalid("directory", "must be given, or `log_dir`", None)
        self._x: Any = None
        self._y: Any = None
        self._frames: Frames | None = None

    def set_model(self, model: Any) -> None:
        """Reads the images, once."""
        super().set_model(model)
        likelihood, latent_dim = model.likelihood_head, model.posterior_head.latent_dim
        shape = likelihood.event_shape
        if len(shape) != 3 or shape[-1] not in (1, 3):
            rule = "must be of images [H, W, 1 or 3] for ImageMonitor"
            raise checks.invalid("model", f"{rule}, not of data of shape {shape}", model.name)
        for dimension in self.dimensions or ():
            checks.option("dimensions", dimension, range(latent_dim))
        if self._x is None:
            parts = zip(*first_examples(self._data, self.num_images), strict=True)
            self._x, self._y = ([tf.concat(part, axis=0) for part in parts] + [None, None])[:2]
        if self._x is None:
            raise checks.invalid("data", "must hold at least one image", self._given.x)

    def open(self) -> None:
        """Creates the folders."""
        if self.directory is not None:
            self._frames = Frames("directory", self.directory, _NAMES)

    def start(self, epoch: int) -> None:
        """Keeps the pictures of the epochs before this one."""
        if self._frames is not None:
            self._frames.start(epoch)

    def look(self, epoch: int) -> None:
        """Draws the pictures of an epoch."""
        for name, figure in self._figures().items():
            figure.get_axes()[0].set_title(f"{name}, epoch {epoch + 1}")
            picture = png(figure)
            if self._frames is not None:
                self._frames.add(name, epoch, picture)
            self._writer.image(f"images/{name}", pixels(picture), epoch)

    def finish(self) -> None:
        """Makes the GIF of all epochs."""
        if self._frames is not None and self.gif:
            self._frames.write_film(("reconstructions", "samples"))

    def _figures(self) -> dict[str, Figure]:
        model, high = self.model, self.model.likelihood_head.support.high
        white = self.white or (high if math.isfinite(high) else 1.0)
        x, y = model.standardize(self._x, self._y)
        means = model.posterior_head.mean(model.encode(x, y)).numpy()  # [N, D] or [N, D, K]
        dimensions = _most_varied(means) if self.dimensions is None else self.dimensions
        samples = model.sample(len(x), seed=self.seed, y=y)
        label = None if y is None else y[:1]
        reconstructed = model.reconstruct(x, y)
        return {
            "reconstructions": plotting.reconstructions(x, reconstructed, _COLUMNS, white=white),
            "samples": plotting.image_grid(samples, _COLUMNS, "samples", white=white),
            "traversals": plotting.latent_traversal(
                model, x[:1], dimensions, steps=_COLUMNS, y=label, white=white
            ),
        }


def _checked_dimensions(dimensions: Any) -> tuple[int, ...]:
    if not isinstance(dimensions, (Sequence, np.ndarray)) or not len(dimensions):
        raise checks.invalid("dimensions", "must be integers >= 0, or None", dimensions)
    return tuple(checks.integer("dimensions", dimension, minimum=0) for dimension in dimensions)


def _most_varied(means: np.ndarray) -> list[int]:
    """Returns the dimensions whose mean varies most over the images, in ascending order."""
    variances = means.var(axis=0).reshape(means.shape[1], -1).sum(axis=1)
    return sorted(np.argsort(-variances, kind="stable")[:_ROWS].tolist())
