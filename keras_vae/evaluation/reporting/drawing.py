"""The figures of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_vae import plotting
from keras_vae.evaluation.active_units import ActiveUnits
from keras_vae.evaluation.reading import is_image
from keras_vae.evaluation.reporting.examples import (
    Examples,
    Statistics,
    generate,
    white_of,
)
from keras_vae.evaluation.reporting.row import Row
from keras_vae.evaluation.reporting.sections import Sections
from keras_vae.models import VAE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Numbers of examples in a map, of images and of columns in a grid, and of rows of traversals.
_MAPPED, _IMAGES, _COLUMNS, _TRAVERSED = 2000, 40, 10, 8


def all_figures(
    compute: Sections,
    rows: Mapping[str, Sequence[Row]],
    count: int,
    history: Mapping[str, Sequence[float]] | None,
    latent_map: str,
) -> dict[str, Figure]:
    """Returns the figures of a report, from its rows and its first `count` examples."""
    said, units = compute.statistics(count), compute.units(count)
    examples, options = compute.examples.first(count), compute.options
    numbers = [row for section in rows.values() for row in section]
    return {
        **parts_of_the_elbo(numbers),
        **kl_of_latents(compute.model, said, units),
        **curves_of(history),
        **map_of(said, examples, latent_map, options["seed"]),
        **images_of(compute.model, examples, units, options["seed"], options["batch_size"]),
    }


def parts_of_the_elbo(rows: Sequence[Row]) -> dict[str, Figure]:
    """Returns the figure of the parts that add up to the ELBO, all for the same examples."""
    whole = {row.name: row.num_examples for row in rows}.get("distortion")
    values = {row.name: row.value for row in rows if row.num_examples == whole}
    if whole is None:
        return {}
    split = ("mutual information", "marginal KL")
    addends = ("distortion", *(split if split[0] in values else ("rate",)))
    lines = {"-log p(x)": -values["log p(x)"]} if "log p(x)" in values else {}
    figure = plotting.elbo_parts({name: values[name] for name in addends}, "-ELBO", lines)
    return {"The parts of the ELBO": figure}


def kl_of_latents(model: VAE, statistics: Statistics, units: ActiveUnits) -> dict[str, Figure]:
    """Returns the figure of the KL of each dimension or, if only that is known, of each group.

    There is no figure if only the KL of all dimensions together is known.
    """
    kl, names = statistics.mean_kl, list(model.latents)
    if len(kl) == len(units.variances):
        return {"KL of each latent dimension": plotting.kl_by_dimension(kl, units.active)}
    if 1 < len(kl) == len(names):
        return {"KL of each latent group": plotting.kl_by_group(dict(zip(names, kl, strict=True)))}
    return {}


def map_of(statistics: Statistics, examples: Examples, method: str, seed: int) -> dict[str, Figure]:
    """Returns the map of the posterior means, if they have two or more dimensions."""
    means = statistics.means[:_MAPPED].reshape(min(len(statistics.means), _MAPPED), -1)
    if means.shape[1] < 2 or len(means) < 2:
        return {}
    labels = None if examples.classes is None else examples.classes[:_MAPPED]
    return {"Posterior means": plotting.latent_map(means, labels, method, seed)}


def images_of(
    model: VAE, examples: Examples, units: ActiveUnits, seed: int, batch_size: int
) -> dict[str, Figure]:
    """Returns reconstructions, samples and traversals, if x is an image."""
    if not is_image(model):
        return {}
    first, white = examples.first(_IMAGES), white_of(model)
    x, y = first.x, first.condition
    made = generate(model, first, True, seed, batch_size)
    order = np.argsort(-units.variances.reshape(len(units.variances), -1).sum(axis=1))
    start = examples.first(1)
    return {
        "Reconstructions": plotting.reconstructions(
            x, model.reconstruct(x, y), _COLUMNS, white=white
        ),
        "Samples": plotting.image_grid(made, _COLUMNS, "means of p(x|z), z ~ p(z)", white=white),
        "Traversals": plotting.latent_traversal(
            model, start.x, order[:_TRAVERSED].tolist(), y=start.condition, white=white
        ),
    }


def curves_of(history: Mapping[str, Sequence[float]] | None) -> dict[str, Figure]:
    """Returns the learning curves, if the history of the training is known."""
    return {} if history is None else {"Learning curves": plotting.learning_curves(history)}
