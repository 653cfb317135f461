"""Measures examples/s of VAE-GAN steps: of this package, and of pythae with equal networks.

Contenders:

    vae      `model.fit` of a plain VAE of this package, to compare with
    fit      `model.fit` of `kv.VAEGAN` with three optimizers and `Equilibrium`
    pythae   `VAEGAN` of pythae, its trainer with three optimizers and its data loader
    gathered the same with batches gathered from a tensor in memory

    python -m benchmarks.vaegan_speed

The networks are those of `examples/vae_gan.py`, the discriminator without normalization: pythae has
none. pythae judges data and reconstructions twice, and takes its fakes from the prior alone; this
package judges each image once, with reconstructions as fakes, too. Contenders take turns, as in
`benchmarks/throughput.py`, whose environments of peers it uses. Results go to
`benchmarks/results/vaegan_speed.json` and `.md`.
"""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

import keras
import numpy as np

import keras_vae as kv
from benchmarks import records, throughput
from benchmarks.hand_written import IMAGE
from benchmarks.peers import environment
from benchmarks.throughput import Contender, EpochClock, Row

RESULTS = records.FOLDER / "vaegan_speed.json"
LABELS = {
    "vae": "fit, VAE",
    "fit": "fit, VAE-GAN",
    "pythae": "pythae, VAEGAN",
    "gathered": "pythae, VAEGAN, batches gathered in memory",
}


def parts() -> dict[str, Any]:
    """Makes what the VAE and the VAE-GAN have in common."""
    return {
        "encoder": kv.networks.ConvEncoder(),
        "decoder": kv.networks.ConvDecoder(IMAGE),
        "posterior": kv.posteriors.DiagonalNormal(16),
        "likelihood": kv.likelihoods.Bernoulli(IMAGE),
    }


def build() -> tuple[kv.VAE, list[Any]]:
    """Makes and compiles the VAE-GAN, and its callbacks."""
    discriminator = kv.networks.ConvDiscriminator(normalization="none")
    model = kv.VAEGAN(**parts(), discriminator=discriminator)
    adam = {part: keras.optimizers.Adam(1e-3) for part in ("encoder", "decoder", "discriminator")}
    model.compile(kv.optimizers.by_part(model, **adam))
    return model, [kv.callbacks.Equilibrium(margin=0.4)]


def fit(model: kv.VAE, callbacks: list[Any], row: Row, args: argparse.Namespace) -> Contender:
    """Returns the trainings of a compiled model."""
    data = throughput.load(row, args)

    def run(epochs: int) -> float:
        clock = EpochClock()
        model.fit(data, epochs=epochs, callbacks=[*callbacks, clock], verbose=0)
        return clock.seconds

    return run


def measure(args: argparse.Namespace, workers: dict[str, environment.Worker]) -> dict[str, Any]:
    """Returns the speeds of all contenders, one of each repetition."""
    row = Row("conv", 1, args.batch_size, args.examples)
    examples = len(throughput.load(row, args)) * row.batch_size
    vae = kv.VAE(**parts())
    vae.compile(keras.optimizers.Adam(1e-3))
    contenders = {"vae": fit(vae, [], row, args), "fit": fit(*build(), row, args)}
    if "pythae" in workers:
        for name, gathered in (("pythae", False), ("gathered", True)):
            options = {"gathered": gathered, "adversarial": True}
            contenders[name] = throughput.peer(row, examples, workers["pythae"], options)
    sizes = dict.fromkeys(contenders, examples)
    return {"speeds": throughput.take_turns(contenders, sizes, args), "examples": examples}


def table(row: dict[str, Any]) -> str:
    """Returns a table of the contenders: medians, and medians of the ratios to pythae."""
    speeds = {name: np.array(values) for name, values in row["speeds"].items()}
    lines = ["| contender | examples/s | to pythae |", "|---|---|---|"]
    for name in (name for name in LABELS if name in speeds):
        known = name != "vae" and "pythae" in speeds
        ratio = f"{np.median(speeds[name] / speeds['pythae']):.2f}" if known else ""
        lines.append(f"| {LABELS[name]} | {np.median(speeds[name]):,.0f} | {ratio} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Prints and writes a table, and returns the speeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a repetition, at least")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--examples", type=int, default=12_000, help="of an epoch at most")
    parser.add_argument("--data", default="mnist", help='or "mnist_5k", without a download')
    peers = throughput.ENVIRONMENTS
    parser.add_argument("--without", nargs="+", choices=peers, default=["jax", "torch"])
    parser.add_argument("--environments", type=pathlib.Path, default=environment.FOLDER)
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS)
    args = parser.parse_args(arguments)
    given = {k: v for k, v in vars(args).items() if k not in ("environments", "without")}
    with throughput.started(args) as (workers, versions):
        row = measure(args, workers)
    found = records.circumstances(argparse.Namespace(**given))
    found["versions"] |= versions
    records.write({"rows": {"vae_gan": row}, **found}, args.results)
    return records.finish(row, table(row), args.results)


if __name__ == "__main__":
    main()
