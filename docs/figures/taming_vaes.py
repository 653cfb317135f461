"""Draws the rows of `benchmarks/taming_vaes.py` in the plane of rate and distortion.

python docs/figures/taming_vaes.py
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from drawing import save_results
from matplotlib.figure import Figure

from keras_vae.core.figures import frame_lightly, new_figure


def draw(known: Mapping[str, Any], results: Mapping[str, Any]) -> Figure:
    """Returns a figure of the squared error by the rate, here (dots) and published (crosses).

    Rings are the error of draws of z, which is what GECO constrains.

    Args:
        known: Rows of the table, by name.
        results: Of some of them, by name and seed.
    """
    figure = new_figure(7.2, 4.6)
    axes = figure.subplots()
    for place, name in enumerate(name for name in known if name in results):
        row, seeds = known[name], list(results[name].values())
        rate, error = (np.array([seed[key] for seed in seeds]) for key in ("mean_kl", "sse"))
        color, given = f"C{place}", row.published
        axes.plot(rate, error, "o", color=color, label=row.label)
        if "GECO" in row.callbacks:
            of_draws = np.array([seed["sse_of_draws"] for seed in seeds])
            axes.plot(rate, of_draws, "o", color=color, fillstyle="none")
            axes.vlines(rate, error, of_draws, color=color, linewidth=0.8, alpha=0.5)
        if "_own" not in name:  # The report has one rule.
            axes.plot(given["mean_kl"], given["sse"], "x", color=color)
            start, end = (given["mean_kl"], given["sse"]), (rate.mean(), error.mean())
            axes.annotate("", end, start, arrowprops={"arrowstyle": "-", "color": "0.8"})
    axes.axhline(16.0, color="0.4", linewidth=0.9, linestyle=":")
    ticks = [12, 14, 16, 20, 30, 40, 60]
    axes.set_yscale("log", subs=[])  # One published row is far from all others.
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.set_xlabel("mean_kl on the test digits, nats")
    axes.set_ylabel("squared error of an image")
    title = "dots: here, crosses: published, at the posterior mean\n"
    axes.set_title(f"{title}rings: of draws of z; dotted: kappa^2 = 16", fontsize=10)
    axes.legend(frameon=False, fontsize=9)
    frame_lightly(axes)
    return figure


def main() -> None:
    """Writes the figure beside this file."""
    save_results(draw, "taming_vaes")


if __name__ == "__main__":
    main()
