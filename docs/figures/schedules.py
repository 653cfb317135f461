"""Draws every schedule, for `docs/schedules.md`.

python docs/figures/schedules.py
"""

from __future__ import annotations

import numpy as np
from drawing import save_svg
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import keras_vae as kv
from keras_vae.core.figures import frame_lightly, new_figure

S = kv.schedules
STEPS = 1000

# Titles are how the schedules are made.
ONE_CYCLE = S.OneCycle(2e-3, 900, momentum=(0.85, 0.95))
PANELS = {
    "Constant(0.5)": S.Constant(0.5),
    "Linear(0, 1, 800)": S.Linear(0, 1, 800),
    "Cosine(1e-3, 0, 800)": S.Cosine(1e-3, 0, 800),
    "Sigmoid(0, 1, 800)": S.Sigmoid(0, 1, 800),
    "Exponential(1, 0.1, 800)": S.Exponential(1, 0.1, 800),
    "Piecewise([300, 700], [1, 0.5, 0.25])": S.Piecewise([300, 700], [1, 0.5, 0.25]),
    'Cyclical(0, 1, 250, "ramp_and_hold",\ncycles=3)': S.Cyclical(
        0, 1, 250, "ramp_and_hold", cycles=3
    ),
    'Cyclical(0, 1, 250, "half_cosine",\ncycles=3)': S.Cyclical(0, 1, 250, "half_cosine", cycles=3),
    'Cyclical(0, 1, 250, "cosine")': S.Cyclical(0, 1, 250, "cosine"),
    'Cyclical(1e-3, 1e-2, 250,\namplitude="halving")': S.Cyclical(
        1e-3, 1e-2, 250, amplitude="halving"
    ),
    "WarmupThen(Cosine(1e-3, 0, 800), 100)": S.WarmupThen(S.Cosine(1e-3, 0, 800), 100),
    "OneCycle(2e-3, 900,\nmomentum=(0.85, 0.95))": ONE_CYCLE,
}


def draw() -> Figure:
    """Returns a figure with a panel for each schedule."""
    t = np.arange(STEPS + 1)
    figure = new_figure(10.0, 9.6)
    panels = figure.subplots(4, 3, sharex=True)
    for axes, (title, schedule) in zip(panels.flat, PANELS.items(), strict=True):
        axes.plot(t, schedule(t), linewidth=1.8)
        axes.set_title(title, fontsize="small", family="monospace")
        axes.ticklabel_format(axis="y", scilimits=(-4, 4))
        frame_lightly(axes)
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        if schedule is ONE_CYCLE:
            add_momentum(axes, t)
    figure.supxlabel("optimizer step", fontsize="medium")
    return figure


def add_momentum(axes: Axes, t: np.ndarray) -> None:
    """Draws the counter-cycle of the momentum, on an axis to the right."""
    right = axes.twinx()
    right.plot(t, ONE_CYCLE.momentum_schedule(t), color="C1", linewidth=1.8, linestyle="--")
    right.set_ylabel("momentum", color="C1")
    right.tick_params(axis="y", colors="C1")
    right.spines[["top", "left"]].set_visible(False)


def main() -> None:
    """Writes the figure beside this file."""
    save_svg(draw(), "schedules")


if __name__ == "__main__":
    main()
