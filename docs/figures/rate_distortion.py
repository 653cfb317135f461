"""Draws rows of `benchmarks/codes.py` on CIFAR-10 in the plane of rate and distortion.

python docs/figures/rate_distortion.py
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drawing import save_results
from matplotlib.figure import Figure

from keras_vae.core.figures import frame_lightly, new_figure


def draw(known: Mapping[str, Any], results: Mapping[str, Any]) -> Figure:
    """Returns a figure of the squared error by the rate, here (dots, squares) and published.

    Short trainings are left out.

    Args:
        known: Rows of the table, by name.
        results: Of some of them, by name and seed.
    """
    figure = new_figure(7.2, 4.6)
    axes = figure.subplots()
    shown = [name for name in known if name.startswith(("cifar", "taming")) and name in results]
    names = [name for name in shown if not name.endswith("_third")]
    for place, name in enumerate(names):
        row, found = known[name], next(iter(results[name].values()))
        color, label = f"C{place % 10}", row.label.removeprefix("CIFAR-10, ")
        kind = "o" if name.startswith("taming") else "s"
        here = found["test"]["kl"], found["test_sse"]
        axes.plot(*here, kind, color=color, label=label)
        if "sse" in row.published:
            given = row.published["rate"], row.published["sse"]
            axes.plot(*given, "x", color=color)
            axes.annotate("", here, given, arrowprops={"arrowstyle": "-", "color": "0.8"})
    rates = [10, 20, 50, 100, 200, 500]
    ticks = [8, 10, 12, 15, 20, 30, 40, 60, 80]
    axes.set_xscale("log", subs=[])
    axes.set_xlim(10.0, 600.0)
    axes.set_xticks(rates, [str(rate) for rate in rates])
    axes.set_yscale("log", subs=[])
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.set_ylim(8.0, 90.0)
    axes.set_xlabel("rate on held-out images: KL, or -log p(z) of codes; nats")
    axes.set_ylabel("squared error of an image")
    title = "dots: normal latent variables, squares: codes under the uniform prior"
    axes.set_title(f"{title}\ncrosses: published, of what was trained on", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    frame_lightly(axes)
    return figure


def main() -> None:
    """Writes the figure beside this file."""
    save_results(draw, "codes", "rate_distortion")


if __name__ == "__main__":
    main()
