"""Draws the test ELBO of the trainings of `benchmarks/one_cycle.py`.

python docs/figures/one_cycle.py
"""

from __future__ import annotations

import json
import pathlib

import numpy as np
from drawing import save_svg
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import keras_vae as kv
from keras_vae.core.figures import frame_lightly, new_figure

RESULTS = pathlib.Path(__file__).parents[2] / "benchmarks" / "results" / "one_cycle.json"
STEPS = 1000
GREYS = ("0.45", "0.7", "0.25")


def draw() -> Figure:
    """Returns a figure of learning rates and test ELBOs by epoch; thin lines are single seeds."""
    results = json.loads(RESULTS.read_text())
    rows, peak = results["rows"], results["configuration"]["peak"]
    constant = sorted((name for name in rows if name != "one_cycle"), key=_rate)
    best = max(constant, key=lambda name: _elbos(rows[name])[:, -1].mean())
    figure = new_figure(8.4, 3.8)
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.7))
    for name, color in zip(constant, GREYS, strict=False):
        epochs = _draw_elbo(right, rows[name], color, f"constant, {_rate(name):g}")
        left.plot([0, epochs], [1e3 * _rate(name)] * 2, color=color, linewidth=1.8)
    epochs = _draw_elbo(right, rows["one_cycle"], "C1", "one cycle")
    t = np.arange(STEPS + 1)
    cycle = kv.schedules.OneCycle(peak, STEPS, endpoint=False)(t)
    left.plot(epochs * t / STEPS, 1e3 * np.asarray(cycle), color="C1", linewidth=1.8)
    final = _elbos(rows[best])[:, -1].mean()
    right.axhline(final, color="0.25", linewidth=0.9, linestyle=":", zorder=0)
    left.set_title("learning rate, thousandths")
    right.set_title("test ELBO, nats")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        frame_lightly(axes)
    right.set_ylim(final - 12.0, final + 3.0)
    right.legend(frameon=False, loc="lower right")
    return figure


def _draw_elbo(axes: Axes, row: dict, color: str, label: str) -> int:
    """Draws the seeds and their mean, and returns the number of epochs."""
    elbos = _elbos(row)
    epochs = np.arange(1, elbos.shape[1] + 1)
    axes.plot(epochs, elbos.T, color=color, linewidth=0.8, alpha=0.45)
    axes.plot(epochs, elbos.mean(0), color=color, linewidth=2.0, label=label)
    return elbos.shape[1]


def _elbos(row: dict) -> np.ndarray:
    return np.array([seed["curves"]["elbo"] for seed in row.values()])


def _rate(name: str) -> float:
    return float(name.removeprefix("constant_"))


def main() -> None:
    """Writes the figure beside this file."""
    save_svg(draw(), "one_cycle")


if __name__ == "__main__":
    main()
