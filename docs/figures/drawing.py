"""What several figures share: rows of images, and files that are the same for the same figure."""

from __future__ import annotations

import importlib
import json
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import matplotlib
import numpy as np
from matplotlib.figure import Figure

import keras_vae as kv
from keras_vae.core.figures import new_figure

FOLDER = pathlib.Path(__file__).parent
ROOT = FOLDER.parents[1]

CELL = 0.62  # inches


def draw_images(rows: Mapping[str, np.ndarray], columns: int) -> Figure:
    """Returns a figure of images in [0, 1], `[N, H, W, C]`, in lines of so many, by label."""
    counts = [len(images) // columns for images in rows.values()]
    figure = new_figure(columns * CELL, sum(counts) * CELL)
    panels = figure.subplots(len(rows), 1, height_ratios=counts)
    for axes, (label, images), count in zip(panels, rows.items(), counts, strict=True):
        lines = np.split(images, count)
        whole = np.concatenate([np.concatenate(line, axis=1) for line in lines])
        axes.imshow(whole, cmap="gray", vmin=0.0, vmax=1.0)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    return figure


def draw_cifar(
    model: kv.VAE, kept: Mapping[str, Any], temperatures: Sequence[float], columns: int = 14
) -> Figure:
    """Returns a figure of what a model makes of held-out images of CIFAR-10, and of its samples.

    Args:
        model: Trained on pixels in [0, 255].
        kept: Which groups of z each line of reconstructions keeps, by label; None for all.
        temperatures: Of the samples.
        columns: Images in a line.
    """
    images = next(iter(kv.data.load("cifar10", "test", columns, dtype="uint8")))
    rows = {"data": images}
    rows |= {label: model.reconstruct(images, keep=keep, seed=1) for label, keep in kept.items()}
    for temperature in temperatures:
        drawn = model.sample(2 * columns, temperature=temperature, seed=1)
        rows[f"samples,\ntemperature\n{temperature}"] = drawn
    shown = {label: np.asarray(row, "float32").clip(0, 255) / 255 for label, row in rows.items()}
    return draw_images(shown, columns)


def load_trained(folder: pathlib.Path) -> Any:
    """Returns the model that a training of `benchmarks/` has left in a folder."""
    return keras.saving.load_model(sorted(folder.glob("after_*.keras"))[-1])


def save_svg(figure: Figure, name: str, **metadata: str) -> None:
    """Writes a figure as `<name>.svg`, without a date and with the same names of its elements."""
    path = FOLDER / f"{name}.svg"
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(path, metadata={"Date": None, **metadata})
    print(path)


def save_results(
    draw: Callable[[Mapping[str, Any], Mapping[str, Any]], Figure],
    table: str,
    name: str | None = None,
) -> None:
    """Draws a table of `benchmarks/`, and writes the figure with the digest of its results.

    Args:
        draw: Returns the figure, given the rows that the table knows and the results of some of
            them, both by name.
        table: Name of the table.
        name: Name of the figure, if it is another.
    """
    sys.path.insert(0, str(ROOT))  # Benchmarks are not installed.
    rows = importlib.import_module(f"benchmarks.{table}").ROWS
    digest = importlib.import_module("benchmarks.records").digest
    path = ROOT / "benchmarks" / "results" / f"{table}.json"
    results = json.loads(path.read_text())["rows"]
    save_svg(draw(rows, results), name or table, Identifier=digest(results))
