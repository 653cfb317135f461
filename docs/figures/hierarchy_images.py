"""Draws reconstructions and samples of the row `cifar` of `benchmarks/hierarchies.py`.

python docs/figures/hierarchy_images.py --runs runs/hierarchies

It needs what the row has trained. In the upper half of `hierarchy_images.png` are held-out images,
reconstructions, and reconstructions of which the first groups are kept; in the lower half are
samples at three temperatures.
"""

from __future__ import annotations

import argparse
import pathlib

from drawing import FOLDER, draw_cifar, load_trained
from matplotlib.figure import Figure

import keras_vae as kv


def draw(model: kv.HierarchicalVAE) -> Figure:
    """Returns the figure."""
    names = list(model.latents)
    kept = {f"{count} of {len(names)}": names[:count] for count in (5, 1)}
    return draw_cifar(model, {"all groups": None, **kept}, (1.0, 0.85, 0.7))


def main() -> None:
    """Draws and writes the figure beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/hierarchies"))
    args = parser.parse_args()
    figure = draw(load_trained(args.runs / "cifar_seed_0"))
    figure.savefig(FOLDER / "hierarchy_images.png", dpi=90, bbox_inches="tight")


if __name__ == "__main__":
    main()
