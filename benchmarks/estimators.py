"""Times a training step with each gradient estimator, as a ratio to `reparameterized`.

The network is that of Burda et al., 2016, with one stochastic layer: 784-200-200-50. All estimators
run in one process, their steps taking turns; each figure is a median:

    python -m benchmarks.estimators
    python -m benchmarks.estimators --num-samples 1 5 50 --repetitions 30
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_vae as kv

IMAGE, LATENT_DIM = (28, 28, 1), 50
ESTIMATORS = (
    "reparameterized",
    "sticking_the_landing",
    "doubly_reparameterized",
    "score_function",
)


def make_step(estimator: str, num_samples: int, jit_compile: bool) -> Callable[[Any], Any]:
    """Returns a function from a batch to the logs of one training step, as `fit` makes it."""
    keras.utils.set_random_seed(0)
    model = kv.VAE(
        encoder=kv.networks.MLPEncoder((200, 200), activation="tanh"),
        decoder=kv.networks.MLPDecoder(IMAGE, (200, 200), activation="tanh"),
        posterior=kv.posteriors.DiagonalNormal(LATENT_DIM),
        likelihood=kv.likelihoods.Bernoulli(IMAGE),
        objective=kv.objectives.ImportanceWeighted(num_samples, estimator),
    )
    model.compile("adam", jit_compile=jit_compile)
    return model.make_train_function()


def measure(
    num_samples: int, batch_size: int, steps: int, repetitions: int, jit_compile: bool
) -> dict[str, float]:
    """Returns the median milliseconds of a step with each estimator."""
    x = np.random.default_rng(0).integers(0, 2, (batch_size, *IMAGE)).astype("float32")
    batches = iter(tf.data.Dataset.from_tensors(tf.constant(x)).repeat())
    functions = {name: make_step(name, num_samples, jit_compile) for name in ESTIMATORS}
    times: dict[str, list[float]] = {name: [] for name in ESTIMATORS}
    for repetition in range(repetitions + 1):
        for name, step in functions.items():
            start = time.perf_counter()
            for _ in range(steps):
                logs = step(batches)
            float(logs["loss"])  # waits for the device
            if repetition:  # the first traces and compiles
                times[name].append(1e3 * (time.perf_counter() - start) / steps)
    return {name: statistics.median(values) for name, values in times.items()}


def main(arguments: list[str] | None = None) -> dict[int, dict[str, float]]:
    """Prints a table for each number of samples, and returns the times in milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-samples", type=int, nargs="+", default=[50])
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--steps", type=int, default=5, help="of a repetition")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--no-jit", action="store_true")
    args = parser.parse_args(arguments)
    sizes = (args.batch_size, args.steps, args.repetitions)
    results = {}
    for num_samples in args.num_samples:
        results[num_samples] = measure(num_samples, *sizes, jit_compile=not args.no_jit)
        reference = results[num_samples]["reparameterized"]
        mode = "graph" if args.no_jit else "XLA"
        print(f"K = {num_samples}, batch {args.batch_size}, {mode}")
        for name, milliseconds in results[num_samples].items():
            print(f"  {name:<24} {milliseconds:8.1f} ms  {milliseconds / reference:5.2f}x")
    return results


if __name__ == "__main__":
    main()
