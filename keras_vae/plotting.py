"""Figures of a training, and of what a model has learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_vae.core import checks
from keras_vae.core.figures import frame_lightly, new_figure
from keras_vae.distributions import discrete

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "code_histogram",
    "elbo_parts",
    "image_grid",
    "kl_by_dimension",
    "kl_by_group",
    "latent_map",
    "latent_traversal",
    "learning_curves",
    "reconstructions",
]

# How `latent_map` maps D dimensions to the plane.
MAPS = ("pca", "tsne")

_CELL = 0.7  # Width of an image in a grid, in inches.
_MOST_NAMES = 32  # Number of dimensions that can be named below their bars.


def learning_curves(
    history: Mapping[str, Sequence[float]], driven: str = "beta", *, validation_freq: int = 1
) -> Figure:
    """Draws the negative ELBO and its two parts over the epochs, above a driven hyperparameter.

    Args:
        history: `History.history` of a training.
        driven: Name of the hyperparameter in the lower panel, which is omitted if it was not
            driven.
        validation_freq: The validation data were evaluated every so many epochs. Held-out lines of
            another length are left out, because nothing says where their values belong.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: If there is nothing to draw, or an argument is not as above.

    Example:
        >>> logs = {"elbo": [-9.0, -5.0], "kl": [0.1, 1.0], "reconstruction": [8.9, 4.0]}
        >>> learning_curves(logs).get_axes()[0].get_ylabel()
        'nats per example'
    """
    checks.instance("history", history, Mapping)
    checks.instance("driven", driven, str)
    every = checks.integer("validation_freq", validation_freq)
    if not history.get("elbo"):
        raise checks.invalid("history", "must hold the logs of at least one epoch", dict(history))
    panels = 1 + (driven in history)
    figure = new_figure(7.0, 4.0 if panels == 1 else 5.0)
    axes = figure.subplots(panels, 1, sharex=True, height_ratios=[3, 1][:panels], squeeze=False)
    epochs = np.arange(1, len(history["elbo"]) + 1)
    labels = {"elbo": "-ELBO", "reconstruction": "reconstruction", "kl": "KL"}
    for color, (name, label) in enumerate(labels.items()):
        sign = -1.0 if name == "elbo" else 1.0
        for prefix, step, style, suffix in (
            ("", 1, "-", "training"),
            ("val_", every, "--", "held out"),
        ):
            values = history.get(prefix + name)
            places = epochs[step - 1 :: step]
            if values and len(values) == len(places):
                line = {"color": f"C{color}", "linestyle": style, "label": f"{label}, {suffix}"}
                axes[0, 0].plot(places, sign * np.asarray(values), **line)
    axes[0, 0].set_ylabel("nats per example")
    # The first epochs would flatten everything that follows.
    lines = [np.asarray(line.get_ydata()) for line in axes[0, 0].get_lines()]
    settled = np.concatenate([line[len(line) // 20 :] for line in lines])
    settled = settled[np.isfinite(settled)]  # An epoch whose steps were all skipped has none.
    low, high = np.min(settled, initial=0.0), np.max(settled, initial=0.0)
    margin = 0.05 * (high - low) + 1e-6
    axes[0, 0].set_ylim(low - margin, high + margin)
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
        white: The value drawn as white, such as 255 for 8-bit images; 0 is black.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: If `images` does not have this shape.

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
    checks.instance("title", title, str)
    figure = new_figure(_CELL * columns, _CELL * rows * height / width + 0.3 * bool(title))
    axes = figure.subplots()
    # Enlarged pixels stay sharp, as they are what the model has made.
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
        columns: Number of columns. If the last row is not full, it is left out.
        white: The value drawn as white, such as 255 for 8-bit images; 0 is black.

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
    """Draws what the decoder makes of one x when single latent dimensions are varied.

    Discrete variables take each of their values, whatever `span` and `steps` are. Codes, which have
    no scale either, take `steps` of their values.

    Args:
        model: A `VAE` of images.
        x: Array `[1, H, W, C]`, where the traversals start.
        dimensions: The dimensions to vary, one row for each.
        span: A dimension varies from `-span` to `span`.
        steps: Number of values, which is the number of columns.
        y: The label of x, `[1, ...]`, for conditional models.
        white: The value drawn as white, such as 255 for 8-bit images; 0 is black.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: If the model has no such dimension.

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
    start = model.posterior_head.mean(q)[0].numpy()  # [D], or [D, K] for categorical variables
    dimensions = _check_dimensions(dimensions, len(start))
    steps = checks.integer("steps", steps)
    title = "one latent variable a row, one of its values a column"
    if model.posterior_head.is_point_mass:
        counts = model.posterior_head.groups.counts
        values = [np.linspace(0, counts[d] - 1, steps).round() for d in dimensions]
    elif model.posterior_head.discrete:
        values = [discrete.values(q).numpy()] * len(dimensions)  # [K, K] or [2]
    else:
        values = [np.linspace(-span, span, steps)] * len(dimensions)
        title = f"one latent dimension a row, from {-span:g} to {span:g}"
    columns = len(values[0])
    z = np.repeat(start[np.newaxis], len(dimensions) * columns, axis=0)
    for row, dimension in enumerate(dimensions):
        z[row * columns : (row + 1) * columns, dimension] = values[row]
    labels = None if y is None else np.repeat(y, len(z), axis=0)
    figure = image_grid(model.decode(z, labels).mean(), columns, title, white=white)
    _name_rows(figure, [f"$z_{{{dimension}}}$" for dimension in dimensions])
    return figure


def _check_dimensions(dimensions: Any, count: int) -> list[int]:
    """Returns dimensions as integers, or raises unless all of them are below `count`."""
    given = checks.array("dimensions", dimensions, "[N]")
    if given.ndim != 1 or not given.size:
        raise checks.invalid("dimensions", "must be a vector of at least one", dimensions)
    return [int(checks.option("dimensions", one, range(count))) for one in given.tolist()]


def latent_map(means: Any, labels: Any = None, method: str = "pca", seed: int = 0) -> Figure:
    """Draws posterior means in the plane, coloured by label.

    `"pca"` uses the first two principal components; `"tsne"` keeps neighbours together (van der
    Maaten and Hinton, 2008), using scikit-learn, and its distances and cluster sizes mean little.

    Args:
        means: Posterior means `[N, D]`, D >= 2.
        labels: Class labels `[N]`, or None.
        method: `"pca"` or `"tsne"`.
        seed: Integer >= 0, for `"tsne"`.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: If the method is unknown, or the shapes are not as above.

    Example:
        >>> latent_map(np.eye(4), np.arange(4)).get_axes()[0].get_xlabel()
        'first principal component'
    """
    means = checks.array("means", means)
    if means.ndim != 2 or min(means.shape) < 2:
        raise checks.invalid("means", "must have shape [N, D] with N >= 2 and D >= 2", means.shape)
    labels = np.zeros(len(means)) if labels is None else np.asarray(labels)
    if labels.shape != means.shape[:1]:
        raise checks.invalid("labels", f"must have shape [{len(means)}]", labels.shape)
    places, names = _plane(means, checks.option("method", method, MAPS), seed)
    figure = new_figure(6.0, 5.0)
    axes = figure.subplots()
    classes = np.unique(labels)
    for number, label in enumerate(classes):
        chosen = labels == label
        across, up = places[chosen].T
        axes.scatter(across, up, s=8, color=f"C{number % 10}", label=str(label))
    axes.set(xlabel=names[0], ylabel=names[1])
    if len(classes) > 1:
        beside = (1.0, 0.5)
        axes.legend(loc="center left", bbox_to_anchor=beside, frameon=False, fontsize="small")
    return figure


def kl_by_dimension(kl: Any, active: Any = None) -> Figure:
    """Draws the KL of every latent dimension, with the largest first.

    Args:
        kl: Mean KL of each dimension, `[D]`, in nats.
        active: Whether each dimension is active, bool `[D]`; the others are drawn pale.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: If the shapes are not as above.

    Example:
        >>> kl_by_dimension([0.1, 2.0], [False, True]).get_axes()[0].get_ylabel()
        'mean KL, nats'
    """
    kl = checks.array("kl", kl).astype(np.float64)
    if kl.ndim != 1 or not len(kl):
        raise checks.invalid("kl", "must have shape [D] with D >= 1", kl.shape)
    active = np.ones(len(kl), bool) if active is None else checks.array("active", active)
    active = active.astype(bool)
    if active.shape != kl.shape:
        raise checks.invalid("active", f"must have shape {kl.shape}", active.shape)
    order = np.argsort(-kl, kind="stable")
    figure = new_figure(7.0, 3.0)
    axes = figure.subplots()
    for chosen, color, label in ((active, "C0", "active"), (~active, "0.75", "not active")):
        places = np.flatnonzero(chosen[order])
        if len(places):
            axes.bar(places, kl[order][places], color=color, label=label)
    frame_lightly(axes)
    axes.set(xlabel="latent dimension, the largest KL first", ylabel="mean KL, nats")
    if len(kl) <= _MOST_NAMES:
        axes.set_xticks(range(len(kl)), [str(dimension) for dimension in order], fontsize="x-small")
    axes.legend(frameon=False, fontsize="small")
    return figure


def kl_by_group(kl: Mapping[str, float]) -> Figure:
    """Draws the KL of every group of latent variables, in their order in z.

    Args:
        kl: Mean KL of each group, in nats, by name.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: If there are no groups, or a KL is not a number.

    Example:
        >>> figure = kl_by_group({"z1": 2.0, "z2": 0.5})
        >>> [label.get_text() for label in figure.get_axes()[0].get_xticklabels()]
        ['z1', 'z2']
    """
    checks.instance("kl", kl, Mapping)
    heights = [checks.number("kl", value) for value in kl.values()]
    if not heights:
        raise checks.invalid("kl", "must hold a number for each group, by its name", kl)
    figure = new_figure(7.0, 3.0)
    axes = figure.subplots()
    axes.bar(range(len(heights)), heights, color="C0")
    frame_lightly(axes)
    axes.set(xlabel="group of latent variables", ylabel="mean KL, nats")
    axes.set_xticks(range(len(heights)), list(kl), fontsize="x-small")
    return figure


def code_histogram(counts: Mapping[str, Any]) -> Figure:
    """Draws how often each code of a codebook occurs, with the most frequent first.

    Args:
        counts: How often each code of a group occurs, `[K]`, by the name of the group.

    Returns:
        A matplotlib `Figure`, with one row for each group.

    Raises:
        ValueError: If there are no groups, or the counts are not vectors.

    Example:
        >>> code_histogram({"z": [3, 0, 5]}).get_axes()[0].get_title()
        'z: 2 of 3 codes are in use'
    """
    checks.instance("counts", counts, Mapping)
    vectors = {name: checks.array("counts", of, "[K]") for name, of in counts.items()}
    if not vectors or any(of.ndim != 1 for of in vectors.values()):
        rule = "must hold vectors [K] by the names of groups"
        raise checks.invalid("counts", rule, counts)
    figure = new_figure(7.0, 2.4 * len(vectors))
    rows = figure.subplots(len(vectors), squeeze=False)[:, 0]
    for axes, (name, of) in zip(rows, vectors.items(), strict=True):
        axes.fill_between(np.arange(len(of)), np.sort(of)[::-1], step="mid", color="C0")
        frame_lightly(axes)
        used = np.count_nonzero(of)
        axes.set_title(f"{name}: {used} of {len(of)} codes are in use", fontsize="medium")
        axes.set(xlabel="code, the most frequent first", ylabel="occurrences", ylim=(0, None))
    return figure


def elbo_parts(parts: Mapping[str, float], total: str, beside: Mapping[str, float]) -> Figure:
    """Draws how parts add up to a whole in steps, with other values beside it for comparison.

    Args:
        parts: The addends by name, in nats.
        total: Name of their sum.
        beside: Other values by name, in nats, such as -log p(x).

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: If there are no parts.

    Example:
        >>> figure = elbo_parts({"distortion": 75.0, "rate": 25.0}, "-ELBO", {"-log p(x)": 95.0})
        >>> [label.get_text() for label in figure.get_axes()[0].get_yticklabels()]
        ['distortion', 'rate', '-ELBO', '-log p(x)']
    """
    for argument, given in (("parts", parts), ("beside", beside)):
        checks.instance(argument, given, Mapping)
        for name, value in given.items():
            checks.number(f"{argument}[{name!r}]", value)
    checks.instance("total", total, str)
    if not parts:
        raise checks.invalid("parts", "must hold at least one addend", dict(parts))
    ends = np.cumsum(list(parts.values()))
    whole = {total: float(ends[-1]), **beside}
    names = [*parts, *whole]
    starts = [0.0, *ends[:-1], *[0.0] * len(whole)]
    widths = [*parts.values(), *whole.values()]
    colors = ["C0"] * len(parts) + ["C1"] + ["0.6"] * len(beside)
    figure = new_figure(7.0, 0.6 + 0.42 * len(names))
    axes = figure.subplots()
    bars = axes.barh(names, widths, left=starts, color=colors)
    axes.bar_label(bars, [f"{width:.2f}" for width in widths], padding=4, fontsize="small")
    frame_lightly(axes)
    axes.margins(x=0.12)
    axes.invert_yaxis()
    axes.set_xlabel("nats per example")
    return figure


def _plane(means: np.ndarray, method: str, seed: int) -> tuple[np.ndarray, tuple[str, str]]:
    """Returns positions `[N, 2]` in the plane, and the names of its axes."""
    centred = means - means.mean(axis=0)
    if method == "pca":
        _, _, directions = np.linalg.svd(centred, full_matrices=False)
        names = ("first principal component", "second principal component")
        return centred @ directions[:2].T, names
    from sklearn.manifold import TSNE

    # The perplexity must be below the number of points.
    perplexity = min(30.0, (len(means) - 1) / 3.0)
    seed = checks.integer("seed", seed, minimum=0)
    places = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(centred)
    return places, ("t-SNE, first", "t-SNE, second")


def _name_rows(figure: Figure, names: Sequence[str]) -> None:
    """Writes names next to the rows of an image grid."""
    (axes,) = figure.get_axes()
    for row, name in enumerate(names):
        height = 1.0 - (row + 0.5) / len(names)
        axes.text(-0.01, height, name, transform=axes.transAxes, ha="right", va="center")


def _pixels(images: Any, white: float) -> np.ndarray:
    images = checks.array("images", images).astype(np.float64)
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise checks.invalid("images", "must have shape [N, H, W, 1 or 3]", images.shape)
    return np.clip(images / checks.number("white", white, 0.0, exclusive=True), 0.0, 1.0)
