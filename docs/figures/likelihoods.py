"""Draws the tables of NLL beside the published numbers, and how the trainings went.

python docs/figures/likelihoods.py iwae_table priors_table baselines
"""

from __future__ import annotations

import importlib
import json
import pathlib
import sys

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from keras_vae.core.figures import frame_lightly, new_figure

ROOT = pathlib.Path(__file__).parents[2]
TABLES = ("iwae_table", "priors_table", "baselines")


def draw(table: str) -> Figure:
    """Returns a figure of NLL published and here, and of the test ELBO by passes."""
    results = json.loads((ROOT / "benchmarks" / "results" / f"{table}.json").read_text())["rows"]
    known = importlib.import_module(f"benchmarks.{table}").ROWS
    rows = {name: row for name, row in known.items() if name in results}
    figure = new_figure(9.6, 1.4 + 0.42 * max(4, len(rows)))
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.1))
    for place, (name, row) in enumerate(rows.items()):
        color, seeds = f"C{place}", list(results[name].values())
        nll = np.array([seed["nll"] for seed in seeds])
        error = np.mean([seed["nll_standard_error"] for seed in seeds])
        at = np.full(len(nll), -place)
        left.errorbar(nll.mean(), -place, xerr=error, color=color, capsize=3.0, linewidth=1.2)
        left.plot(nll, at, "o", color=color, markersize=5.0)
        if "nll" in row.published:
            left.plot(row.published["nll"], -place, "|", color="black", markersize=15.0)
        for seed in seeds:
            curve = seed["curve"]
            right.plot(curve["passes"], curve["test_elbo"], color=color, linewidth=1.2, alpha=0.8)
    left.set_yticks(-np.arange(len(rows)), [row.label for row in rows.values()])
    left.set_ylim(0.6 - len(rows), 0.6)
    left.set_title("test NLL, nats; bars are the published numbers", fontsize=10)
    right.set_title("test ELBO in training, nats", fontsize=10)
    right.set_xlabel("passes over the training data")
    best = max(max(s["curve"]["test_elbo"]) for seeds in results.values() for s in seeds.values())
    right.set_ylim(best - 22.0, best + 1.0)
    for axes in (left, right):
        frame_lightly(axes)
    return figure


def main() -> None:
    """Writes the figures beside this file, for the tables that are named or all there are."""
    sys.path.insert(0, str(ROOT))  # Benchmarks are not installed.
    for table in sys.argv[1:] or TABLES:
        path = pathlib.Path(__file__).with_name(f"{table}.svg")
        # The same figure is the same file.
        with matplotlib.rc_context({"svg.hashsalt": table}):
            draw(table).savefig(path, metadata={"Date": None})
        print(path)


if __name__ == "__main__":
    main()
