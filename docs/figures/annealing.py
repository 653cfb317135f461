"""Draws β and the active units of the trainings of `benchmarks/annealing.py`.

python docs/figures/annealing.py
"""

from __future__ import annotations

import json
import pathlib

import numpy as np
from drawing import save_svg
from matplotlib.figure import Figure

import keras_vae as kv
from keras_vae.core.figures import frame_lightly, new_figure

RESULTS = pathlib.Path(__file__).parents[2] / "benchmarks" / "results" / "annealing.json"
S, STEPS = kv.schedules, 1000
ROWS = {
    "constant": ("β = 1 from the start", "0.45", S.Constant(1.0)),
    "warm_up": ("linear warm-up", "C0", S.Linear(0.0, 1.0, STEPS // 2)),
    "cyclical": (
        "cyclical",
        "C1",
        S.Cyclical(0.0, 1.0, STEPS // 4, shape="ramp_and_hold", ramp=0.5, cycles=4),
    ),
}


def draw() -> Figure:
    """Returns a figure of β and of the active units by epoch; thin lines are single seeds."""
    rows = json.loads(RESULTS.read_text())["rows"]
    figure = new_figure(8.4, 3.6)
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.5))
    t = np.arange(STEPS)
    for name, (label, color, schedule) in ROWS.items():
        units = np.array([seed["curves"]["active_units"] for seed in rows[name].values()])
        epochs = np.arange(1, units.shape[1] + 1)
        left.plot(t / STEPS * epochs[-1], schedule(t), color=color, linewidth=1.8)
        right.plot(epochs, units.T, color=color, linewidth=0.9, alpha=0.45)
        right.plot(epochs, units.mean(0), color=color, linewidth=2.2, label=label)
    left.set_title("β")
    right.set_title("active units, of 50")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        frame_lightly(axes)
    right.set_ylim(0.0, 52.0)
    right.legend(frameon=False)
    return figure


def main() -> None:
    """Writes the figure beside this file."""
    save_svg(draw(), "annealing")


if __name__ == "__main__":
    main()
