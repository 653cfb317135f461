"""How every figure starts, and how line plots are framed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure with this size in inches.

    Example:
        >>> [float(inches) for inches in new_figure(7.0, 4.0).get_size_inches()]
        [7.0, 4.0]
    """
    # Without pyplot, there is no backend to choose and no figure to close.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=120)


def frame_lightly(axes: Axes) -> None:
    """Frames a line plot with two axes and a light grid behind the lines."""
    axes.margins(x=0.01, y=0.06)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
