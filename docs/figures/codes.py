"""Draws how codebooks collapse, and what helps, from trainings on 4,000 digits.

python docs/figures/codes.py

It takes about three minutes on two cores. `codes_collapse.svg` shows the share of 512 codes that
occur in held-out digits during training, and the error of the reconstructions at its end.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from drawing import save_svg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

import keras_vae as kv
from keras_vae.core.figures import frame_lightly, new_figure

IMAGE, CODES = (28, 28, 1), 512
NONE: dict[str, Any] = {"restart_below": 0.0}
WAYS: dict[str, dict[str, Any]] = {
    "gradients, nothing else": {"learning": "gradient", **NONE},
    "moving averages, nothing else": NONE,
    "k-means before the training": NONE,
    "k-means after the first epoch": NONE,
    "8 dimensions, cosine": {"code_dim": 8, "distance": "cosine", **NONE},
    "entropy penalty": {"entropy_weight": 0.1, **NONE},
    "restarts (the default)": {},
}


def train(way: str, epochs: int) -> tuple[list[float], float]:
    """Trains; returns the share of codes in use after each epoch, and MSE / variance at the end."""
    keras.utils.set_random_seed(0)
    options = {"codebook_size": CODES, "code_dim": 16, **WAYS[way]}
    model = kv.VQVAE(
        encoder=kv.networks.MapEncoder((16, 32), blocks=1),
        decoder=kv.networks.MapDecoder(IMAGE, (32, 16), blocks=1),
        posterior=kv.posteriors.VectorQuantizer((7, 7), **options),
        likelihood=kv.likelihoods.Normal(IMAGE, scale=0.3),
        commitment=0.1,
        seed=0,
    )
    data, test = (kv.data.load("mnist_5k", split, 100) for split in ("train", "test"))
    if "k-means before" in way:
        model.initialize_codebook(data)
    model.compile(keras.optimizers.Adam(1e-3))
    shares = []

    def measure(epoch: int, logs: Any) -> None:
        if epoch == 0 and "k-means after" in way:
            model.initialize_codebook(data)
        shares.append(kv.evaluation.code_usage(model, test, verbose=False).share_in_use["z"])

    after = keras.callbacks.LambdaCallback(on_epoch_end=measure)
    model.fit(data, epochs=epochs, callbacks=[after], verbose=2)
    digits = np.concatenate(list(test.as_numpy_iterator()))
    error = np.mean((digits - model.predict(digits, verbose=0)) ** 2) / np.var(digits)
    return shares, float(error)


def draw(found: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Returns a figure of the codes in use by epoch, a line for each way."""
    figure = new_figure(8.2, 3.6)
    axes = figure.subplots()
    for way, result in found.items():
        label = f"{way}: {result['error']:.3f}"
        axes.plot(1 + np.arange(len(result["shares"])), result["shares"], label=label)
    axes.set_ylim(0.0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"of {CODES} codes, in use on held-out digits")
    legend = figure.legend(loc="outside right", frameon=False)
    legend.set_title("squared error / variance at the end", {"size": 9})
    frame_lightly(axes)
    return figure


def main() -> None:
    """Trains, and writes the figure beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=8)
    args = parser.parse_args()
    found = {}
    for way in WAYS:
        shares, error = train(way, args.epochs)
        found[way] = {"shares": shares, "error": error}
        print(way, found[way], flush=True)
    save_svg(draw(found), "codes_collapse")


if __name__ == "__main__":
    main()
