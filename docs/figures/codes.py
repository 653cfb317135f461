"""Draws rows of `benchmarks/codes.py`: codes in use, and the plane of rate and distortion.

python docs/figures/codes.py
"""

from __future__ import annotations

import importlib
import json
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from keras_vae.core.figures import frame_lightly, new_figure

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "codes.json"
# Rows with restarts, and what there is besides the row without.
RESTARTS = {"cifar_vq": "512 codes", "cifar_vq_large": "8,192 codes"}
PLANE = ("taming_vae", "taming_half", "taming_58", "taming_11", "cifar_vq", "cifar_residual")
PLANE += ("cifar_fsq", "cifar_vq_large")


def draw_collapse(results: Mapping[str, Any]) -> Figure:
    """Returns a figure of the codes in use and the error, with restarts and without.

    Args:
        results: By row and seed.
    """
    figure = new_figure(7.2, 2.6)
    left, right = figure.subplots(1, 2, sharey=True)
    place, ticks = 0, {}
    for name, label in RESTARTS.items():
        for end, how, color in (("", "restarts", "C0"), ("_no_restarts", "none", "C1")):
            if name + end not in results:
                continue
            seeds = list(results[name + end].values())
            left.barh(place, np.mean([seed["usage"] for seed in seeds]), color=color)
            right.barh(
                place, np.mean([seed["test_mse_over_variance"] for seed in seeds]), color=color
            )
            ticks[place] = f"{label}, {how}"
            place += 1
    left.set_yticks(list(ticks), list(ticks.values()))
    left.invert_yaxis()
    left.set_title("codes in use on held-out images", fontsize=10)
    left.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
    left.set_xlim(0.0, 1.0)
    right.set_title("squared error / variance", fontsize=10)
    for axes in (left, right):
        frame_lightly(axes)
        axes.grid(axis="y", visible=False)
    return figure


def draw_plane(results: Mapping[str, Any]) -> Figure:
    """Returns a figure of the squared error by the rate: Gaussian codes, and codes of codebooks.

    Args:
        results: By row and seed.
    """
    codes = importlib.import_module("benchmarks.codes")
    figure = new_figure(7.2, 4.4)
    axes = figure.subplots()
    for name in (name for name in PLANE if name in results):
        seeds, row = list(results[name].values()), codes.ROWS[name]
        rate = np.mean([seed["test"]["kl"] for seed in seeds])
        error = np.mean([seed["test_sse"] for seed in seeds])
        marker = "o" if name.startswith("taming") else "s"
        (line,) = axes.plot(rate, error, marker, label=row.label.removeprefix("CIFAR-10, "))
        if "rate" in row.published:
            given = row.published["rate"], row.published["sse"]
            axes.plot(*given, "x", color=line.get_color())
            axes.annotate("", (rate, error), given, arrowprops={"arrowstyle": "-", "color": "0.8"})
    axes.set_yscale("log")
    ticks = [10, 20, 40, 80]
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("rate on held-out images, nats")
    axes.set_ylabel("squared error of an image")
    axes.set_title(
        "circles: normal z; squares: codes, uniform prior; crosses: published", fontsize=10
    )
    axes.legend(frameon=False, fontsize=9)
    frame_lightly(axes)
    return figure


def main() -> None:
    """Writes the figures beside this file."""
    sys.path.insert(0, str(ROOT))  # Benchmarks are not installed.
    results = json.loads(RESULTS.read_text())["rows"]
    digest = importlib.import_module("benchmarks.records").digest(results)
    metadata = {"Date": None, "Identifier": digest}
    # The same figure is the same file.
    with matplotlib.rc_context({"svg.hashsalt": "codes"}):
        for end, draw in (("collapse", draw_collapse), ("plane", draw_plane)):
            path = pathlib.Path(__file__).with_name(f"codes_{end}.svg")
            draw(results).savefig(path, metadata=metadata)
            print(path)


if __name__ == "__main__":
    main()
