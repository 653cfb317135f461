"""Trains a convolutional VAE on 4,000 real MNIST digits and judges it on 1,000 others.

Prints a table of held-out results, draws figures and writes a SavedModel. Two minutes on two cores:

    python examples/mnist_5k.py
    python examples/check_saved_model.py saved_models/mnist_5k/1
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time

import keras
import numpy as np

import keras_vae as kv

LATENT_DIM = 16
IMAGE = (28, 28, 1)
NETWORKS = {
    "conv": (kv.networks.ConvEncoder, kv.networks.ConvDecoder),
    "mlp": (kv.networks.MLPEncoder, kv.networks.MLPDecoder),
}


def build(network: str, seed: int) -> kv.VAE:
    """Makes a VAE of binary 28x28 images with the networks of that name."""
    keras.utils.set_random_seed(seed)
    encoder, decoder = NETWORKS[network]
    return kv.VAE(
        encoder=encoder(),
        decoder=decoder(IMAGE),
        posterior=kv.posteriors.DiagonalNormal(LATENT_DIM),
        likelihood=kv.likelihoods.Bernoulli(IMAGE),
        seed=seed,
    )


def train(model: kv.VAE, epochs: int, batch_size: int, seed: int) -> dict[str, list[float]]:
    """Trains with β warm-up over the first quarter, and returns the logs of the epochs."""
    options = {"binarize": "dynamic", "batch_size": batch_size, "seed": seed}
    data = kv.data.load("mnist_5k", split="train", **options)
    held_out = kv.data.load("mnist_5k", split="test", **options)
    # A pipeline of its own: a pass over the training data would count as an epoch.
    model.initialize_output_bias(kv.data.load("mnist_5k", split="train", shuffle=False))
    steps = epochs * len(data)
    model.compile(keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(2e-3, steps)))
    warm_up = kv.callbacks.KLAnnealing(kv.schedules.Linear(0.0, 1.0, steps=max(1, steps // 4)))
    history = model.fit(data, validation_data=held_out, epochs=epochs, callbacks=[warm_up])
    return history.history


def judge(model: kv.VAE, num_samples: int) -> dict[str, float]:
    """Measures the model on the held-out digits."""
    held_out = kv.data.load("mnist_5k", split="test", binarize="dynamic")
    logs = model.evaluate(held_out, return_dict=True, verbose=0)
    estimate = kv.evaluation.log_likelihood(model, held_out, num_samples=num_samples)
    return {
        "elbo": logs["elbo"],
        "reconstruction": logs["reconstruction"],
        "kl": logs["kl"],
        "log_likelihood": estimate.mean,
        "log_likelihood_standard_error": estimate.standard_error,
        "active_units": kv.evaluation.active_units(model, held_out).count,
    }


def table(results: dict[str, float], num_samples: int) -> str:
    """Writes the results as a table."""
    rows = [
        ("ELBO", f"{results['elbo']:.2f} nats"),
        ("reconstruction, -E log p(x|z)", f"{results['reconstruction']:.2f} nats"),
        ("KL(q(z|x) || p(z))", f"{results['kl']:.2f} nats"),
        (
            f"log p(x), importance-weighted, K = {num_samples}",
            f"{results['log_likelihood']:.2f} +- "
            f"{results['log_likelihood_standard_error']:.2f} nats",
        ),
        ("active units", f"{results['active_units']} of {LATENT_DIM}"),
    ]
    lines = [f"  {name:<42} {value:>22}" for name, value in rows]
    return "\n".join(["Held out, 1,000 digits, binarized", *lines])


def draw(model: kv.VAE, history: dict[str, list[float]], folder: pathlib.Path) -> None:
    """Draws the figures into a folder."""
    images, labels = _held_out_arrays()
    means = model.encode(images).mean().numpy()
    dimensions = np.argsort(-means.var(axis=0))[:8]
    figures = {
        "learning_curves": kv.plotting.learning_curves(history),
        "reconstructions": kv.plotting.reconstructions(images[:30], model.reconstruct(images[:30])),
        "samples": kv.plotting.image_grid(model.sample(64, seed=1), title="samples from the prior"),
        "traversal": kv.plotting.latent_traversal(model, images[:1], dimensions),
        "latent_map": kv.plotting.latent_map(means, labels),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png")


def write_expected(model: kv.VAE, path: pathlib.Path) -> None:
    """Writes what the signatures of a SavedModel must return, for `check_saved_model.py`."""
    images = _held_out_arrays()[0][:2]
    q = model.encode(images)
    x, z, numbers = images.tolist(), q.mean().numpy().tolist(), {"count": 4, "seed": 1}
    estimate = kv.evaluation.log_likelihood(model, images, num_samples=64, seed=1)
    calls = {
        "encode": ({"x": x}, {"mean": z, "scale": q.stddev().numpy().tolist()}),
        "decode": ({"z": z}, {"mean": model.decode(q.mean()).mean().numpy().tolist()}),
        "reconstruct": ({"x": x}, {"mean": model.reconstruct(images).numpy().tolist()}),
        "sample": (numbers, {"mean": model.sample(4, seed=1).numpy().tolist()}),
        "log_likelihood": (
            {"x": x, "count": 64, "seed": 1},
            {"log_likelihood": estimate.per_example.tolist()},
        ),
    }
    expected = {
        name: {"inputs": inputs, "outputs": outputs} for name, (inputs, outputs) in calls.items()
    }
    folder = path / "assets.extra"
    folder.mkdir()
    (folder / "expected.json").write_text(json.dumps(expected))


def _held_out_arrays() -> tuple[np.ndarray, np.ndarray]:
    batches = list(kv.data.load("mnist_5k", split="test", labels=True).as_numpy_iterator())
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Runs the example and returns its held-out results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=NETWORKS, default="conv")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--num-samples", type=int, default=100, help="of the log-likelihood")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=pathlib.Path, default="runs/mnist_5k")
    parser.add_argument("--export", type=pathlib.Path, default="saved_models/mnist_5k/1")
    args = parser.parse_args(arguments)

    model = build(args.network, args.seed)
    start = time.perf_counter()
    history = train(model, args.epochs, args.batch_size, args.seed)
    seconds = time.perf_counter() - start
    results = judge(model, args.num_samples)
    print(f"\n{table(results, args.num_samples)}\n\nTrained in {seconds:.0f} s.", end=" ")

    draw(model, history, args.runs)
    (args.runs / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    kv.export_saved_model(model, args.export, overwrite=True)
    write_expected(model, args.export)
    print(f"Figures in {args.runs}, SavedModel in {args.export}.")
    return results


if __name__ == "__main__":
    main()
