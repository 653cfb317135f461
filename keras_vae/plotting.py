"""Figures of a training and of what a model has learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_vae.core import checks, discrete
from keras_vae.core.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["image_grid", "latent_map", "latent_traversal", "learning_curves", "reconstructions"]

_CELL = 0.7  # Inches, the width of an image in a grid.


def learning_curves(history: Mapping[str, Sequence[float]], driven: str = "beta") -> Figure:
    """Draws the negative ELBO and its two parts over the epochs, above a driven hyperparameter.

    Args:
        history: `History.history` of a training.
        driven: Name of the hyperparameter in the lower panel, left out if it was not driven.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: If there is nothing to draw.

    Example:
        >>> logs = {"elbo": [-9.0, -5.0], "kl": [0.1, 1.0], "reconstruction": [8.9, 4.0]}
        >>> learning_curves(logs).get_axes()[0].get_ylabel()
        'nats per example'
    """
    if not history.get("elbo"):
        raise checks.invalid("history", "must hold the logs of at least one epoch", dict(history))
    panels = 1 + (driven in history)
    figure = new_figure(7.0, 4.0 if panels == 1 else 5.0)
    axes = figure.subplots(panels, 1, sharex=True, height_ratios=[3, 1][:panels], squeeze=False)
    epochs = np.arange(1, len(history["elbo"]) + 1)
    labels = {"elbo": "-ELBO", "reconstruction": "reconstruction", "kl": "KL"}
    for color, (name, label) in enumerate(labels.items()):
        sign = -1.0 if name == "elbo" else 1.0
        for prefix, style, suffix in (("", "-", "training"), ("val_", "--", "held out")):
            values = history.get(prefix + name)
            if values:
                line = {"color": f"C{color}", "linestyle": style, "label": f"{label}, {suffix}"}
                axes[0, 0].plot(epochs[: len(values)], sign * np.asarray(values), **line)
    axes[0, 0].set_ylabel("nats per example")
    # The first epochs would flatten all that follows.
    lines = [np.asarray(line.get_ydata()) for line in axes[0, 0].get_lines()]
    settled = np.concatenate([line[len(line) // 20 :] for line in lines])
    margin = 0.05 * (np.max(settled) - min(0.0, np.min(settled))) + 1e-6
    axes[0, 0].set_ylim(min(0.0, np.min(settled)) - margin, np.max(settled) + margin)
    axes[0, 0].legend(frameon=False, ncols=3, fontsize="small")
    if driven in history:
        axes[1, 0].plot(epochs, history[driven], color="C3")
        axes[1, 0].set_ylabel({"beta": "β"}.get(driven, driven))
    axes[-1, 0].set_xlabel("epoch")
    return figure


def image_grid(images: Any, columns: int = 8, title: str = "", *, white: float = 1.0) -> Figure:
    """Draws images in rows.

    Args:
        images: Array `[N, H, W, C]` with C = 1 or 3.
        columns: Number of columns.
        title: Title of the figure.
        white: The value drawn white, such as 255 for 8-bit images; 0 is black.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: If `images` has another shape.

    Example:
        >>> len(image_grid(np.zeros([6, 8, 8, 1]), columns=3).get_axes())
        1
    """
    images = _pixels(images, white)
    columns = min(checks.integer("columns", columns), len(images))
    rows = -(-len(images) // columns)
    height, width, channels = images.shape[1:]
    # One white pixel between neighbours.
    canvas = np.ones((rows * (height + 1) - 1, columns * (width + 1) - 1, channels))
    for number, image in enumerate(images):
        top, left = (number // columns) * (height + 1), (number % columns) * (width + 1)
        canvas[top : top + height, left : left + width] = image
    figure = new_figure(_CELL * columns, _CELL * rows * height / width + 0.3 * bool(title))
    axes = figure.subplots()
    # Enlarged pixels stay sharp: they are what the model has made.
    sharp = "nearest" if width <= _CELL * figure.dpi else None
    pixels = canvas.squeeze(-1) if channels == 1 else canvas
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation=sharp)
    axes.set_axis_off()
    axes.set_title(title)
    return figure


def reconstructions(
    originals: Any, reconstructed: Any, columns: int = 10, *, white: float = 1.0
) -> Figure:
    """Draws originals with their reconstructions below them, row by row.

    Args:
        originals: Array `[N, H, W, C]`.
        reconstructed: Array of the same shape.
        columns: Number of columns. A last row that is not full is left out.
        white: The value drawn white, such as 255 for 8-bit images; 0 is black.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> reconstructions(np.zeros([4, 8, 8, 1]), np.ones([4, 8, 8, 1])).get_axes()[0].get_title()
        'originals, and below each its reconstruction'
    """
    originals, reconstructed = _pixels(originals, white), _pixels(reconstructed, white)
    if originals.shape != reconstructed.shape:
        rule = f"must have the shape of `originals`, {originals.shape}"
        raise checks.invalid("reconstructed", rule, reconstructed.shape)
    columns = min(checks.integer("columns", columns), len(originals))
    rows = []
    for start in range(0, len(originals) - columns + 1, columns):
        rows += [originals[start : start + columns], reconstructed[start : start + columns]]
    title = "originals, and below each its reconstruction"
    return image_grid(np.concatenate(rows), columns, title)


def latent_traversal(
    model: Any,
    x: Any,
    dimensions: Sequence[int],
    span: float = 2.5,
    steps: int = 9,
    *,
    y: Any = None,
    white: float = 1.0,
) -> Figure:
    """Draws what the decoder makes of one x when single latent dimensions are moved.

    Discrete variables take each of their values, whatever `span` and `steps`.

    Args:
        model: A `VAE` of images.
        x: Array `[1, H, W, C]`, where the traversals start.
        dimensions: The dimensions to move, a row for each.
        span: The largest value, and negated the smallest, that a dimension takes.
        steps: Number of values, the columns.
        y: The label of x, `[1, ...]`, for conditional models.
        white: The value drawn white, such as 255 for 8-bit images; 0 is black.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: If a dimension is none of the model's.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> figure = latent_traversal(model, np.zeros([1, 8, 8, 1]), dimensions=[0, 1])
        >>> figure.get_axes()[0].get_title()
        'one latent dimension a row, from -2.5 to 2.5'
    """
    q = model.encode(x, y)
    start = model.posterior_head.mean(q)[0].numpy()  # [D], or [D, K] of categorical variables
    for dimension in dimensions:
        checks.option("dimensions", dimension, range(len(start)))
    if model.posterior_head.discrete:
        values = discrete.values(q).numpy()  # [K, K] or [2]
        title = "one latent variable a row, one of its values a column"
    else:
        values = np.linspace(-span, span, checks.integer("steps", steps))
        title = f"one latent dimension a row, from {-span:g} to {span:g}"
    columns = len(values)
    z = np.repeat(start[np.newaxis], len(dimensions) * columns, axis=0)
    for row, dimension in enumerate(dimensions):
        z[row * columns : (row + 1) * columns, dimension] = values
    labels = None if y is None else np.repeat(y, len(z), axis=0)
    figure = image_grid(model.decode(z, labels).mean(), columns, title, white=white)
    _name_rows(figure, [f"$z_{{{dimension}}}$" for dimension in dimensions])
    return figure


def latent_map(means: Any, labels: Any) -> Figure:
    """Draws posterior means in their two first principal components, coloured by label.

    Args:
        means: Posterior means `[N, D]`, D >= 2.
        labels: Class labels `[N]`.

    Returns:
        A matplotlib `Figure`.

    Example:
        >>> latent_map(np.eye(4), np.arange(4)).get_axes()[0].get_xlabel()
        'first principal component'
    """
    means, labels = np.asarray(means), np.asarray(labels)
    centred = means - means.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    first, second = (centred @ directions[:2].T).T
    figure = new_figure(6.0, 5.0)
    axes = figure.subplots()
    for number, label in enumerate(np.unique(labels)):
        chosen = labels == label
        color = f"C{number % 10}"
        axes.scatter(first[chosen], second[chosen], s=8, color=color, label=str(label))
    axes.set(xlabel="first principal component", ylabel="second principal component")
    beside = (1.0, 0.5)
    axes.legend(loc="center left", bbox_to_anchor=beside, frameon=False, fontsize="small")
    return figure


def _name_rows(figure: Figure, names: Sequence[str]) -> None:
    """Writes names beside the rows of a grid of images."""
    (axes,) = figure.get_axes()
    for row, name in enumerate(names):
        height = 1.0 - (row + 0.5) / len(names)
        axes.text(-0.01, height, name, transform=axes.transAxes, ha="right", va="center")


def _pixels(images: Any, white: float) -> np.ndarray:
    images = np.asarray(images, np.float64)
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise checks.invalid("images", "must have shape [N, H, W, 1 or 3]", images.shape)
    return np.clip(images / checks.number("white", white, 0.0, exclusive=True), 0.0, 1.0)
