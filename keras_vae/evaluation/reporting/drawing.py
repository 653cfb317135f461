"""The figures of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_vae import plotting
from keras_vae.evaluation.active_units import ActiveUnits
from keras_vae.evaluation.reporting.examples import (
    Examples,
    Statistics,
    generate,
    is_image,
    white_of,
)
from keras_vae.evaluation.reporting.result import Row
from keras_vae.models import VAE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Examples in a map, images in a grid, rows of traversals.
_MAPPED, _IMAGES, _COLUMNS, _TRAVERSED = 2000, 40, 10, 8


def figures_of_numbers(
    rows: Sequence[Row], statistics: Statistics, units: ActiveUnits
) -> dict[str, Figure]:
    """Returns the figures of what adds up to the ELBO, and of the KL of each dimension."""
    values = {row.name: row.value for row in rows}
    split = ("mutual information", "marginal KL")
    addends = ("distortion", *(split if split[0] in values else ("rate",)))
    parts = {name: values[name] for name in addends}
    figure = plotting.elbo_parts(parts, "-ELBO", {"-log p(x)": -values["log p(x)"]})
    figures = {"The parts of the ELBO": figure}
    kl = statistics.mean_kl
    if len(kl) == len(units.variances):  # Else the KL is that of all dimensions together.
        active = np.any(units.variances.reshape(len(kl), -1) > units.threshold, axis=1)
        figures["KL of each latent dimension"] = plotting.kl_by_dimension(kl, active)
    return figures


def map_of(statistics: Statistics, examples: Examples, method: str, seed: int) -> dict[str, Figure]:
    """Returns the map of the posterior means, where they have two dimensions or more."""
    means = statistics.means[:_MAPPED].reshape(min(len(statistics.means), _MAPPED), -1)
    if means.shape[1] < 2 or len(means) < 2:
        return {}
    labels = None if examples.classes is None else examples.classes[:_MAPPED]
    return {"Posterior means": plotting.latent_map(means, labels, method, seed)}


def images_of(
    model: VAE, examples: Examples, units: ActiveUnits, seed: int, batch_size: int
) -> dict[str, Figure]:
    """Returns reconstructions, samples and traversals, where x is an image."""
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
    """Returns the learning curves, where the history of the training is known."""
    return {} if history is None else {"Learning curves": plotting.learning_curves(history)}
