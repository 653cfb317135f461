"""Draws the tables of NLL beside the published numbers, and how the trainings went.

python docs/figures/likelihoods.py iwae_table priors_table baselines
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from drawing import save_results
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from keras_vae.core.figures import frame_lightly, new_figure

TABLES = ("iwae_table", "priors_table", "baselines")


def draw(known: Mapping[str, Any], results: Mapping[str, Any]) -> Figure:
    """Returns a figure of NLL published and here, and of the test ELBO by passes.

    Data sets have a line of panels each, as their numbers are far from each other.

    Args:
        known: Rows of a table, by name.
        results: Of some of them, by name and seed.
    """
    found = {name: row for name, row in known.items() if name in results}
    data = list(dict.fromkeys(row.data.name for row in found.values()))
    groups = [[name for name in found if found[name].data.name == one] for one in data]
    heights = [1.4 + 0.42 * max(4, len(group)) for group in groups]
    figure = new_figure(9.6, sum(heights))
    panels = figure.subplots(
        len(data), 2, squeeze=False, height_ratios=heights, width_ratios=(1.0, 1.1)
    )
    for group, (left, right) in zip(groups, panels, strict=True):
        _draw_group({name: found[name] for name in group}, results, left, right)
    return figure


def _draw_group(
    rows: Mapping[str, Any], results: Mapping[str, Any], left: Axes, right: Axes
) -> None:
    for place, (name, row) in enumerate(rows.items()):
        color, seeds = f"C{place}", list(results[name].values())
        nll = np.array([seed["nll"] for seed in seeds])
        error = np.mean([seed["nll_standard_error"] for seed in seeds])
        at = np.full(len(nll), -place)
        left.errorbar(nll.mean(), -place, xerr=error, color=color, capsize=3.0, linewidth=1.2)
        left.plot(nll, at, "o", color=color, markersize=5.0)
        if row.comparable:
            left.plot(row.published["nll"], -place, "|", color="black", markersize=15.0)
        for seed in seeds:
            curve = seed["curve"]
            right.plot(curve["passes"], curve["test_elbo"], color=color, linewidth=1.2, alpha=0.8)
    left.set_yticks(-np.arange(len(rows)), [row.label for row in rows.values()])
    left.set_ylim(0.6 - len(rows), 0.6)
    ticks = "; black ticks: published" if any(row.comparable for row in rows.values()) else ""
    left.set_title(f"test NLL, nats{ticks}", fontsize=10)
    right.set_title("test ELBO in training, nats", fontsize=10)
    right.set_xlabel("passes over the training data")
    best = max(max(seed["curve"]["test_elbo"]) for name in rows for seed in results[name].values())
    right.set_ylim(best - 22.0, best + 1.0)
    for axes in (left, right):
        frame_lightly(axes)


def main() -> None:
    """Writes the figures beside this file, for the tables that are named or all."""
    for table in sys.argv[1:] or TABLES:
        save_results(draw, table)


if __name__ == "__main__":
    main()
