"""Draws reconstructions and samples of the row `cifar` of `benchmarks/hierarchies.py`.

python docs/figures/hierarchy_images.py --runs runs/hierarchies

It needs what the row has trained. In the upper half of `hierarchy_images.png` are held-out images,
reconstructions, and reconstructions of which the first groups are kept; in the lower half are
samples at three temperatures.
"""

from __future__ import annotations

import argparse
import pathlib

from drawing import FOLDER, draw_pixels, load_trained
from matplotlib.figure import Figure

import keras_vae as kv

COLUMNS, TEMPERATURES = 14, (1.0, 0.85, 0.7)


def draw(model: kv.HierarchicalVAE) -> Figure:
    """Returns the figure."""
    images = next(iter(kv.data.load("cifar10", "test", COLUMNS, binarize=None, dtype="uint8")))
    names = list(model.latents)
    rows = {"data": images, "all groups": model.reconstruct(images)}
    for kept in (5, 1):
        rows[f"{kept} of {len(names)}"] = model.reconstruct(images, keep=names[:kept], seed=1)
    for temperature in TEMPERATURES:
        drawn = model.sample(2 * COLUMNS, temperature=temperature, seed=1)
        rows[f"samples,\ntemperature\n{temperature}"] = drawn
    return draw_pixels(rows, COLUMNS)


def main() -> None:
    """Draws and writes the figure beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/hierarchies"))
    args = parser.parse_args()
    figure = draw(load_trained(args.runs / "cifar_seed_0"))
    figure.savefig(FOLDER / "hierarchy_images.png", dpi=90, bbox_inches="tight")


if __name__ == "__main__":
    main()
