"""Trains a VAE and a VAE-GAN with the same networks on 4,000 real MNIST digits, and compares them.

Prints a table of held-out results and draws samples and reconstructions of both, and how the
discriminator fared. Some minutes on two cores:

    python examples/vae_gan.py

Distances are taken with the features of a small classifier, which is trained first unless
`--classifier` names the file of one, such as `examples/train_classifier.py` writes.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import pathlib
from typing import Any

import keras
import numpy as np

import keras_vae as kv

LATENT_DIM = 16
IMAGE = (28, 28, 1)
WATCHED = ("discriminator_real", "discriminator_fake", "discriminator_accuracy")


def parts() -> dict[str, Any]:
    """Makes what the two models have in common; the mean of p(x|z) is the image."""
    return {
        "encoder": kv.networks.ConvEncoder(),
        "decoder": kv.networks.ConvDecoder(IMAGE),
        "posterior": kv.posteriors.DiagonalNormal(LATENT_DIM),
        "likelihood": kv.likelihoods.Bernoulli(IMAGE),
    }


def build_vae(seed: int) -> kv.VAE:
    """Makes the VAE."""
    keras.utils.set_random_seed(seed)
    model = kv.VAE(**parts(), seed=seed)
    model.compile(keras.optimizers.Adam(1e-3))
    return model


def build_vae_gan(gamma: float, seed: int) -> kv.VAEGAN:
    """Makes the VAE-GAN: three parts, each with an optimizer of its own."""
    keras.utils.set_random_seed(seed)
    discriminator = kv.networks.ConvDiscriminator()
    model = kv.VAEGAN(**parts(), discriminator=discriminator, gamma=gamma, seed=seed)
    optimizer = kv.optimizers.by_part(
        model,
        encoder=keras.optimizers.Adam(1e-3),
        decoder=keras.optimizers.Adam(1e-3, beta_1=0.5),
        discriminator=keras.optimizers.Adam(3e-4, beta_1=0.5),
    )
    model.compile(optimizer)
    return model


def train(
    model: kv.VAE, epochs: int, batch_size: int, seed: int, callbacks: list[Any]
) -> dict[str, list[float]]:
    """Trains on grey digits, and returns the logs of the epochs."""
    data = kv.data.load("mnist_5k", split="train", batch_size=batch_size, seed=seed)
    model.initialize_output_bias(kv.data.load("mnist_5k", split="train", shuffle=False))
    return model.fit(data, epochs=epochs, callbacks=callbacks, verbose=2).history


def judge(model: kv.VAE, digits: np.ndarray, extract: keras.Model) -> dict[str, float]:
    """Measures reconstructions and samples of the prior against held-out digits."""
    samples, reconstructions = model.sample(len(digits), seed=1), model.reconstruct(digits)
    errors = np.sum((digits - reconstructions.numpy()) ** 2, axis=(1, 2, 3))

    def distance(images: Any) -> float:
        return kv.evaluation.frechet_distance(digits, images, extract, verbose=False).distance

    return {
        "frechet_distance_of_samples": distance(samples.numpy()),
        "frechet_distance_of_reconstructions": distance(reconstructions.numpy()),
        "squared_error": float(np.mean(errors)),
        "elbo_of_the_pixel_model": model.evaluate(digits, return_dict=True, verbose=0)["elbo"],
    }


def table(results: dict[str, dict[str, float]]) -> str:
    """Writes the results as a table."""
    names = list(results)
    lines = [f"{'Held out, 1,000 digits':<40}" + "".join(f"{name:>12}" for name in names)]
    for row in results[names[0]]:
        values = "".join(f"{results[name][row]:12.2f}" for name in names)
        lines.append(f"  {row.replace('_', ' '):<38}{values}")
    return "\n".join(lines)


def draw(models: dict[str, kv.VAE], history: dict[str, list[float]], folder: pathlib.Path) -> None:
    """Draws samples and reconstructions of each model, and the course of the discriminator."""
    digits = held_out()[:30]
    for name, model in models.items():
        file = name.lower().replace("-", "_")
        title = f"{name}: samples from the prior"
        kv.plotting.image_grid(model.sample(64, seed=1), title=title).savefig(
            folder / f"samples_{file}.png"
        )
        kv.plotting.reconstructions(digits, model.reconstruct(digits)).savefig(
            folder / f"reconstructions_{file}.png"
        )
    draw_balance(history, folder / "balance.png")


def draw_balance(history: dict[str, list[float]], path: pathlib.Path) -> None:
    """Draws how the discriminator fared."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8.0, 3.0), layout="constrained")
    for name in WATCHED:
        axes.plot(range(1, len(history[name]) + 1), history[name], label=name)
    axes.axhline(np.log(2.0), color="grey", linewidth=0.5, linestyle="--", label="ln 2")
    axes.set_xlabel("epoch")
    figure.legend(frameon=False, loc="outside right upper")
    figure.savefig(path)


def held_out() -> np.ndarray:
    """Returns the 1,000 digits that no model has seen."""
    return np.concatenate(list(kv.data.load("mnist_5k", split="test").as_numpy_iterator()))


def classifier(path: pathlib.Path | None, runs: pathlib.Path) -> keras.Model:
    """Returns the features of a classifier, which is trained unless there is one."""
    if path is not None and not path.exists():
        raise SystemExit(f"--classifier: there is no file {path}")
    path = path or runs / "mnist_5k.keras"
    if not path.exists():
        file = pathlib.Path(__file__).with_name("train_classifier.py")
        spec = importlib.util.spec_from_file_location("train_classifier", file)
        assert spec is not None and spec.loader is not None
        example = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(example)
        example.main(["--data", "mnist_5k", "--runs", str(path.parent)])
    return kv.evaluation.classifier_features(str(path))


def main(arguments: list[str] | None = None) -> dict[str, dict[str, float]]:
    """Runs the example and returns its held-out results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--gamma", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--classifier", type=pathlib.Path, default=None)
    parser.add_argument("--runs", type=pathlib.Path, default="runs/vae_gan")
    args = parser.parse_args(arguments)

    args.runs.mkdir(parents=True, exist_ok=True)
    extract = classifier(args.classifier, args.runs)
    models = {"VAE": build_vae(args.seed), "VAE-GAN": build_vae_gan(args.gamma, args.seed)}
    callbacks = {"VAE": [], "VAE-GAN": [kv.callbacks.HealthCheck()]}
    options = (args.epochs, args.batch_size, args.seed)
    logs = {name: train(model, *options, callbacks[name]) for name, model in models.items()}
    results = {name: judge(model, held_out(), extract) for name, model in models.items()}
    print(f"\n{table(results)}\n")
    draw(models, logs["VAE-GAN"], args.runs)
    (args.runs / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(f"Figures in {args.runs}.")
    return results


if __name__ == "__main__":
    main()
