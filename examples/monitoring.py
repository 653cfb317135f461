"""Trains a VAE on 4,000 real MNIST digits, and leaves all there is to see of it to TensorBoard.

Scalars, images, histograms over the latent dimensions, and the projector of the latent space;
beside them a table of the latent dimensions and an animated GIF. A minute on two cores:

    pip install 'keras_vae[tensorboard]'
    python examples/monitoring.py
    tensorboard --logdir runs/monitoring
"""

from __future__ import annotations

import argparse
import pathlib

import keras
import numpy as np

import keras_vae as kv

LATENT_DIM = 32
IMAGE = (28, 28, 1)


def build(seed: int) -> kv.VAE:
    """Makes a VAE of binary 28x28 images."""
    keras.utils.set_random_seed(seed)
    return kv.VAE(
        encoder=kv.networks.MLPEncoder((200, 200)),
        decoder=kv.networks.MLPDecoder(IMAGE, (200, 200)),
        posterior=kv.posteriors.DiagonalNormal(LATENT_DIM),
        likelihood=kv.likelihoods.Bernoulli(IMAGE),
        seed=seed,
    )


def watch(folder: pathlib.Path, every: int) -> list[keras.callbacks.Callback]:
    """Makes the callbacks that watch a training, each of which writes into the folder."""
    held_out = kv.data.load("mnist_5k", split="test", binarize="threshold")
    return [
        keras.callbacks.TensorBoard(str(folder), write_graph=False),
        kv.callbacks.LatentMonitor(
            held_out, csv=folder / "latent.csv", log_dir=folder / "monitors"
        ),
        kv.callbacks.ImageMonitor(
            held_out, every, directory=folder / "pictures", log_dir=folder / "monitors"
        ),
        keras.callbacks.CSVLogger(str(folder / "logs.csv")),
    ]


def train(model: kv.VAE, epochs: int, every: int, folder: pathlib.Path) -> dict[str, list[float]]:
    """Trains with β warm-up over the first half, and returns the logs of the epochs."""
    options = {"binarize": "dynamic", "batch_size": 100}
    data = kv.data.load("mnist_5k", split="train", **options)
    held_out = kv.data.load("mnist_5k", split="test", **options)
    model.initialize_output_bias(kv.data.load("mnist_5k", split="train", shuffle=False))
    steps = max(1, epochs * len(data) // 2)
    warm_up = kv.callbacks.KLAnnealing(kv.schedules.Linear(0.0, 1.0, steps=steps))
    model.compile(keras.optimizers.AdamW(1e-3))
    callbacks = [warm_up, *watch(folder, every)]
    return model.fit(data, validation_data=held_out, epochs=epochs, callbacks=callbacks).history


def project(model: kv.VAE, folder: pathlib.Path) -> None:
    """Writes the posterior means of the held-out digits for the projector."""
    batches = kv.data.load("mnist_5k", split="test", labels=True).as_numpy_iterator()
    images, labels = (np.concatenate(part) for part in zip(*batches, strict=True))
    means = model.encode(images).mean()
    kv.callbacks.write_projector(folder, means, labels, images, name="digits")


def main(arguments: list[str] | None = None) -> dict[str, list[float]]:
    """Runs the example and returns the logs of the epochs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--every", type=int, default=2, help="epochs from picture to picture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=pathlib.Path, default="runs/monitoring")
    args = parser.parse_args(arguments)

    args.runs.mkdir(parents=True, exist_ok=True)
    model = build(args.seed)
    history = train(model, args.epochs, args.every, args.runs)
    project(model, args.runs)
    active = int(history["active_units"][-1])
    print(f"\n{active} of {LATENT_DIM} latent dimensions are active.", end=" ")
    print(f"See all: tensorboard --logdir {args.runs}")
    return history


if __name__ == "__main__":
    main()
