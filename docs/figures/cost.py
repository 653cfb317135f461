"""Draws how the cost of training grows, as `benchmarks/cost.py` measures it.

python docs/figures/cost.py
"""

from __future__ import annotations

import json
import pathlib
import sys

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_vae.core.figures import frame_lightly, new_figure

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # Benchmarks are not installed.
from benchmarks import cost_report  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
MARKS = {"linestyle": "none", "marker": "o", "markersize": 4.5}


def draw(rows: dict, evaluation: dict) -> Figure:
    """Returns a figure of six panels.

    Args:
        rows: Of `benchmarks/results/cost.json`.
        evaluation: Rows of `benchmarks/results/log_likelihood.json`.
    """
    figure = new_figure(10.4, 5.8)
    panels = figure.subplots(2, 3).ravel()
    _draw_samples(panels[0], rows["samples"])
    _draw_batch(panels[1], rows["batch"])
    _draw_leak(panels[2], rows["leak"])
    _draw_sizes(panels[3], rows["memory"])
    _draw_epochs(panels[4], rows["memory"])
    _draw_evaluation(panels[5], evaluation)
    for axes in panels:
        frame_lightly(axes)
    return figure


def _draw_samples(axes: Axes, rows: dict) -> None:
    lines = cost_report.growth_in_samples(rows, "processor")
    for (name, row), color in zip(rows.items(), ("C0", "C1"), strict=True):
        counts, times = cost_report.medians(row, "processor")
        found, widths = lines[name], "-".join(map(str, cost_report.ENCODERS[name]))
        label = f"encoder {widths}: {found['intercept']:.1f} + {found['slope']:.2f} K"
        axes.plot(counts, times, color=color, label=label, **MARKS)
        ends = np.array([0, counts[-1]])
        axes.plot(ends, found["intercept"] + found["slope"] * ends, color=color, linewidth=1.2)
        axes.plot(0, found["alone"], color=color, markerfacecolor="none", **MARKS)
    axes.set_title("a step: linear in K, in the decoder", fontsize=10)
    axes.set_xlabel("K (hollow at 0: the encoder alone)", fontsize=9)
    axes.set_ylabel("processor, ms/step", fontsize=9)
    axes.set_ylim(0.0, 1.3 * axes.get_ylim()[1])
    axes.legend(fontsize=8, frameon=False, loc="upper left")


def _draw_batch(axes: Axes, rows: dict) -> None:
    for clock, color in (("processor", "C0"), ("wall", "0.6")):
        sizes, times = cost_report.medians(rows, clock)
        axes.plot(sizes, times, color=color, label=clock, linewidth=1.2, marker="o", markersize=4.5)
    axes.set_xscale("log")
    axes.set_xticks([20, 100, 500, 2000])
    axes.xaxis.set_major_formatter(_thousands)
    axes.minorticks_off()
    axes.set_ylim(0.0, 1.15 * axes.get_ylim()[1])
    axes.set_title("an example: cheaper in large batches", fontsize=10)
    axes.set_xlabel("batch size, K = 1", fontsize=9)
    axes.set_ylabel("us/example", fontsize=9)
    axes.legend(fontsize=8, frameon=False)


def _draw_leak(axes: Axes, row: dict) -> None:
    steps = np.array(sorted(map(int, row)))
    axes.plot(steps, [row[str(step)] for step in steps], color="C0", linewidth=1.2)
    batch = cost_report.BATCH * cost_report.EXAMPLE_BYTES / 2**20
    start = row[str(steps[0])]
    leaking = start + batch * (steps - steps[0])
    axes.plot(steps, leaking, color="0.6", linestyle="--", linewidth=1.0)
    axes.text(0.4 * steps[-1], 1.75 * start, "if a batch leaked\nat each step", **_NOTE)
    axes.set_ylim(0.0, 2.0 * start)
    axes.set_title(f"memory: constant over {steps[-1]:,} steps", fontsize=10)
    axes.set_xlabel("steps", fontsize=9)
    axes.set_ylabel("memory, MiB", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.xaxis.set_major_formatter(_thousands)


def _draw_sizes(axes: Axes, rows: dict) -> None:
    for kind, color, label in (("array", "0.6", "an array"), ("stream", "C0", "made as needed")):
        sizes, found = cost_report.peaks(rows, kind, "sizes")
        axes.plot(sizes, found, color=color, label=label, linewidth=1.2, marker="o", markersize=4.5)
    _finish(axes, "peak memory: constant in the data", "examples")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.xaxis.set_major_formatter(_thousands)
    axes.legend(fontsize=8, frameon=False, loc="lower right")


def _draw_epochs(axes: Axes, rows: dict) -> None:
    epochs, found = cost_report.peaks(rows, "stream", "epochs")
    axes.plot(epochs, found, color="C0", linewidth=1.2, marker="o", markersize=4.5)
    _finish(axes, "... and in epochs", "epochs")
    axes.set_xticks(epochs)


def _draw_evaluation(axes: Axes, rows: dict) -> None:
    counts = sorted(int(name) for name in rows)
    found = [rows[str(count)]["peak_mebibytes"] for count in counts]
    axes.plot(counts[1:], found[1:], color="C0", linewidth=1.2, marker="o", markersize=4.5)
    axes.axhline(found[0], color="0.6", linestyle="--", linewidth=1.0)
    axes.text(counts[1], 0.98 * found[0], "model and data alone", va="top", **_NOTE)
    axes.set_xscale("log")
    axes.set_xticks(counts[1:])
    axes.xaxis.set_major_formatter(_thousands)
    axes.minorticks_off()
    _finish(axes, "... and bounded in evaluation", "samples of log p(x)")


def _finish(axes: Axes, title: str, over: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(over, fontsize=9)
    axes.set_ylabel("peak memory, MiB", fontsize=9)
    axes.set_ylim(0.0, 1.15 * axes.get_ylim()[1])


_NOTE = {"fontsize": 8, "color": "0.35"}


def _thousands(value: float, _: int) -> str:
    return f"{value:,.0f}"


def main() -> None:
    """Writes the figure beside this file."""
    path = pathlib.Path(__file__).with_suffix(".png")
    rows, evaluation = (
        json.loads((RESULTS / f"{name}.json").read_text())["rows"]
        for name in ("cost", "log_likelihood")
    )
    draw(rows, evaluation).savefig(path, metadata={"Software": None})
    print(path)


if __name__ == "__main__":
    main()
