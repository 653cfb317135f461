"""Trains a small classifier of images, whose features distances are taken with.

Prints its accuracy on held-out images and saves it. Two minutes on two cores for MNIST:

    python examples/train_classifier.py --data mnist

The saved file is what `kv.evaluation.classifier_features` takes.
"""

from __future__ import annotations

import argparse
import pathlib

import keras

import keras_vae as kv


def build(image: tuple[int, ...], num_classes: int, num_features: int) -> keras.Model:
    """Makes a small convolutional network; what its last layer is given are the features."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(image),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.25),
            layers.Dense(num_features, activation="relu", name="features"),
            layers.Dropout(0.25),
            layers.Dense(num_classes, name="logits"),
        ]
    )


def train(model: keras.Model, name: str, epochs: int, seed: int) -> None:
    """Trains with a rate that falls to zero along a cosine."""
    data = kv.data.load(name, split="train", labels=True, seed=seed)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, epochs * len(data))
    model.compile(
        keras.optimizers.AdamW(rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(data, epochs=epochs, shuffle=False, verbose=2)  # the pipeline has shuffled


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Runs the example and returns the results on held-out images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", default="mnist_5k", help="mnist, fashion_mnist, mnist_5k, digits ..."
    )
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=pathlib.Path, default="runs/classifier")
    args = parser.parse_args(arguments)

    keras.utils.set_random_seed(args.seed)
    test = kv.data.load(args.data, split="test", labels=True)
    model = build(test.element_spec[0].shape[1:], args.classes, args.features)
    train(model, args.data, args.epochs, args.seed)
    results = model.evaluate(test, return_dict=True, verbose=0)
    args.runs.mkdir(parents=True, exist_ok=True)
    path = args.runs / f"{args.data.replace('/', '_')}.keras"
    model.save(path)
    print(f"Held out: {results['accuracy']:.2%} right. Classifier in {path}.")
    return results


if __name__ == "__main__":
    main()
