"""Draws what the groups of a hierarchy hold, and how they come in, from trainings on 4,000 digits.

python docs/figures/hierarchies.py

It takes about ten minutes on two cores. `hierarchies_kl.svg` has the KL of each group in the course
of a training, by three ways of letting it come in; `hierarchies_groups.png` has held-out digits,
reconstructed with the first groups from the posterior and the rest drawn from the prior.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import keras
import numpy as np
from drawing import FOLDER, draw_images, save_svg
from matplotlib.figure import Figure

import keras_vae as kv
from keras_vae.core.figures import frame_lightly, new_figure

IMAGE = (28, 28, 1)
WAYS = {
    "warm-up alone": {},
    "balanced by size": {"kl_balancing": "size"},
    "free bits, 1 nat a group": {"free_bits": 1.0},
}
COLUMNS = 12


def train(epochs: int, **options: object) -> tuple[kv.HierarchicalVAE, np.ndarray]:
    """Trains on digits; returns the model, and the KL of the groups after each epoch, `[T, G]`."""
    keras.utils.set_random_seed(0)
    model = kv.HierarchicalVAE(
        bottom_up=kv.networks.BottomUp({14: 16, 7: 32, 1: 64}, blocks=1),
        top_down=kv.networks.TopDown({1: (2, 16), 7: (3, 4), 14: (2, 2)}),
        likelihood=kv.likelihoods.Bernoulli(IMAGE),
        objective=kv.objectives.ELBO(**options),
        seed=0,
    )
    data = kv.data.load("mnist_5k", "train", 100, binarize="dynamic")
    test = kv.data.load("mnist_5k", "test", 100, binarize="threshold")
    model.initialize_output_bias(kv.data.load("mnist_5k", "train", shuffle=False))
    steps = epochs * len(data)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    model.compile(keras.optimizers.Adamax(rate, global_clipnorm=500.0))
    warm_up = kv.callbacks.KLAnnealing(kv.schedules.Linear(0.0, 1.0, steps=steps // 2))
    monitor = kv.callbacks.LatentMonitor(test, num_examples=500)
    model.fit(data, epochs=epochs, callbacks=[warm_up, monitor], verbose=2)
    course = [[group.kl for group in found.groups] for found in monitor.history.values()]
    return model, np.array(course, "float64")


def draw_course(found: Mapping[str, np.ndarray], sizes: Mapping[str, tuple[int, ...]]) -> Figure:
    """Returns a figure of the KL of each group by epoch, a panel for each way."""
    figure = new_figure(9.6, 3.4)
    panels = figure.subplots(1, len(found), sharey=True)
    for axes, (way, course) in zip(panels, found.items(), strict=True):
        for place, (name, shape) in enumerate(sizes.items()):
            side = shape[0] if len(shape) > 1 else 1
            label = f"{name}, {side} x {side} x {shape[-1]}"
            axes.plot(1 + np.arange(len(course)), course[:, place], color=f"C{place}", label=label)
        axes.axvline(len(course) / 2, color="0.6", linewidth=0.9, linestyle=":")
        axes.set_title(way, fontsize=10)
        axes.set_xlabel("epoch")
        axes.set_yscale("symlog", linthresh=0.1)
        axes.set_ylim(0.0, 100.0)
        frame_lightly(axes)
    panels[0].set_ylabel("KL on held-out digits, nats")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right", frameon=False)
    return figure


def draw_groups(model: kv.HierarchicalVAE) -> Figure:
    """Returns a figure of digits whose first groups are kept, fewer and fewer from row to row."""
    digits = next(iter(kv.data.load("mnist_5k", "test", COLUMNS, binarize="threshold")))
    names = list(model.latents)
    rows = {"data": digits.numpy()}
    for kept in range(len(names), 0, -1):
        drawn = model.reconstruct(digits, keep=names[:kept], seed=1)
        rows[f"{kept} of {len(names)}"] = drawn.numpy()
    return draw_images(rows, COLUMNS)


def main() -> None:
    """Trains and writes both figures beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=14)
    args = parser.parse_args()
    trained = {way: train(args.epochs, **options) for way, options in WAYS.items()}
    model = trained["balanced by size"][0]
    courses = {way: course for way, (_, course) in trained.items()}
    save_svg(draw_course(courses, model.latents), "hierarchies_kl")
    draw_groups(model).savefig(FOLDER / "hierarchies_groups.png")


if __name__ == "__main__":
    main()
