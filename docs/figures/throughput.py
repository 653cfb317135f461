"""Draws the speeds of `benchmarks/throughput.py` as bars.

python docs/figures/throughput.py
"""

from __future__ import annotations

import json
import pathlib
import sys

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_vae.core.figures import frame_lightly, new_figure

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "throughput.json"
COLORS = {
    "fit": "C0",
    "fit_50": "#7fb3dd",
    "hand_written": "0.35",
    "graph": "0.7",
    "jax": "C2",
    "torch_compile": "C4",
    "torch": "#cdb8e0",
    "pythae": "C1",
    "gathered": "#f7bb85",
}
# Bars on which the ratio is written in white.
DARK = ("C0", "0.35", "C1", "C2", "C4")


def draw(results: dict) -> Figure:
    """Returns a figure with a panel for each row, ratios to the hand-written step in the bars."""
    sys.path.insert(0, str(ROOT))  # Benchmarks are not installed.
    from benchmarks import throughput

    rows = {name: row for name, row in throughput.ROWS.items() if name in results["rows"]}
    columns = max(1, -(-len(rows) // 2))
    figure = new_figure(1.2 + 2.9 * columns, 5.6 if len(rows) > 1 else 3.3)
    panels = figure.subplots(min(2, len(rows)), columns, squeeze=False).T.ravel()
    for axes in panels[len(rows) :]:
        axes.set_visible(False)
    for axes, (name, row) in zip(panels, rows.items(), strict=False):
        found = throughput.summary(results["rows"][name])
        names = [contender for contender in COLORS if contender in found]
        low, speed, high = np.array([found[one]["examples_per_second"] for one in names]).T
        at = np.arange(len(names))[::-1]
        axes.barh(at, speed, color=[COLORS[one] for one in names], height=0.78)
        axes.hlines(at, low, high, color="black", linewidth=1.0)
        for y, one in zip(at, names, strict=True):
            ratio = found[one]["to_hand_written"][1]
            axes.text(0.03 * speed.max(), y, f"{ratio:.2f}", va="center", **_ink(one))
        axes.set_title(_title(row), fontsize=10)
        left = axes in panels[:2]
        axes.set_yticks(at, [throughput.LABELS[one] for one in names] if left else [""] * len(at))
        frame_lightly(axes)
        axes.grid(visible=False, axis="y")
        axes.set_xlim(0.0, 1.08 * high.max())
        axes.xaxis.set_major_locator(_few_ticks())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    figure.supxlabel("examples/s; in the bars the ratio to the hand-written XLA step", fontsize=9)
    return figure


def _title(row: object) -> str:
    network = {"mlp": "MLP", "conv": "convolutional"}[row.network]
    return f"{network}, K = {row.num_samples}, batch {row.batch_size:,}"


def _ink(contender: str) -> dict:
    return {"color": "white" if COLORS[contender] in DARK else "black", "size": 9}


def _few_ticks() -> MaxNLocator:
    return MaxNLocator(nbins=4, steps=[1, 2, 5, 10])


def main() -> None:
    """Writes the figure beside this file."""
    path = pathlib.Path(__file__).with_suffix(".png")
    draw(json.loads(RESULTS.read_text())).savefig(path, metadata={"Software": None})
    print(path)


if __name__ == "__main__":
    main()
