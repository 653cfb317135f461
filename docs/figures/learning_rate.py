"""Draws the range test of the demo's digits, for `docs/learning_rate.md`.

python docs/figures/learning_rate.py
"""

from __future__ import annotations

import keras
from drawing import save_svg

import keras_vae as kv

IMAGE = (28, 28, 1)


def sweep() -> kv.LearningRateRange:
    """Returns the range of the learning rate of Adam for an MLP on 4,000 digits."""
    keras.utils.set_random_seed(0)
    model = kv.VAE(
        encoder=kv.networks.MLPEncoder((200,)),
        decoder=kv.networks.MLPDecoder(IMAGE, (200,)),
        posterior=kv.posteriors.DiagonalNormal(16),
        likelihood=kv.likelihoods.Bernoulli(IMAGE),
    )
    model.compile(keras.optimizers.Adam())
    data = kv.data.load("mnist_5k", split="train", batch_size=128, binarize="dynamic")
    return kv.find_learning_rate(model, data)


def main() -> None:
    """Writes the figure beside this file."""
    found = sweep()
    print(found)
    save_svg(found.plot(), "learning_rate")


if __name__ == "__main__":
    main()
