"""Draws reconstructions and samples of the row `cifar_hierarchy` of `benchmarks/codes.py`.

python docs/figures/code_images.py --runs runs/codes

It needs what the row has trained: the VQ-VAE-2 and the prior over its codes. In the upper half of
`code_images.png` are held-out images, reconstructions, and reconstructions whose fine codes are
drawn given the coarse ones; in the lower half are samples at two temperatures.
"""

from __future__ import annotations

import argparse
import pathlib

from drawing import FOLDER, draw_cifar, load_trained
from matplotlib.figure import Figure

import keras_vae as kv


def load(folder: pathlib.Path) -> kv.VQVAE:
    """Returns the trained model with its prior."""
    return load_trained(folder).with_prior(load_trained(folder / "prior").prior_head)


def draw(model: kv.VQVAE) -> Figure:
    """Returns the figure."""
    return draw_cifar(
        model, {"all codes": None, "coarse codes": next(iter(model.latents))}, (1.0, 0.9)
    )


def main() -> None:
    """Draws and writes the figure beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/codes"))
    args = parser.parse_args()
    draw(load(args.runs / "cifar_hierarchy_seed_0")).savefig(
        FOLDER / "code_images.png", dpi=110, bbox_inches="tight"
    )


if __name__ == "__main__":
    main()
