"""What all workers share: the images, the order of an epoch, the clock, and the protocol.

A worker runs in an environment of its own, without TensorFlow and this package. A line of JSON on
standard input describes a training and asks for epochs (wrapped here), and a line on standard
output answers with the time they took and the mean loss of the last one:

    {"network": "mlp", "num_samples": 5, "batch_size": 100, "examples": 6000, "epochs": 2}
    {"seconds": 1.23, "loss": 103.4}

A training goes on where the last request left it; a worker has one of each description. With
"given" in place of "epochs", hand-written steps answer with the losses of a few steps whose
weights, batches and noise are in a file, which holds them against the steps of this package:

    {"network": "mlp", "num_samples": 5, "batch_size": 6, "examples": 6, "given": "steps.npz"}
    {"losses": [543.1, 541.9]}
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

EPSILON = 1e-7  # Of Adam, as in Keras.
LEARNING_RATE = 1e-3
SCALE_FLOOR, SCALE_CEILING = 1e-4, 1e4  # Of q(z|x), as in `hand_written.py`.


@dataclasses.dataclass(frozen=True)
class Row:
    """What is trained.

    Attributes:
        network: "mlp" or "conv".
        num_samples: K.
        batch_size: Integer.
        examples: Number of images of an epoch, the first of all.
    """

    network: str
    num_samples: int
    batch_size: int
    examples: int


class Training(Protocol):
    """A model, its optimizer and its data."""

    def epoch(self) -> float:
        """Trains on all examples, and returns the mean loss in nats."""

    def losses(
        self, weights: list[np.ndarray], batches: np.ndarray, noise: np.ndarray
    ) -> list[float]:
        """Returns the loss before each of some given steps, in nats.

        Args:
            weights: To begin with, in the order and layout of `HandWritten.variables`.
            batches: Binary images `[T, B, 784]`.
            noise: Standard normal `[T, K, B, D]`.
        """


def shuffled(row: Row) -> np.ndarray:
    """Returns the indices of the batches of an epoch, `[T, B]`, without a last partial one."""
    whole = row.examples - row.examples % row.batch_size
    return np.random.permutation(row.examples)[:whole].reshape(-1, row.batch_size)


def main(
    description: str,
    make: Callable[..., Training],
    set_num_threads: Callable[[int], None] | None = None,
) -> None:
    """Loads the images, and answers until the input ends.

    Args:
        description: Of the command.
        make: Returns a training, given the images of an epoch, float32 `[N, 784]`, a `Row`, and
            what a request says besides.
        set_num_threads: Called with the number of threads, where it can be set.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--images", required=True, help="file of an array [N, 784] of 0 and 1")
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    answers, sys.stdout = sys.stdout, sys.stderr  # What a peer prints is no answer.
    images = np.load(args.images).astype("float32")
    if set_num_threads is not None:
        set_num_threads(args.threads)
    training = functools.cache(functools.partial(_training, images, make))
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line), training)), file=answers, flush=True)


def _training(
    images: np.ndarray,
    make: Callable[..., Training],
    network: str,
    num_samples: int,
    batch_size: int,
    examples: int,
    **options: bool,
) -> Training:
    row = Row(network, num_samples, batch_size, examples)
    return make(images[:examples], row, **options)


def _answer(asked: dict[str, Any], training: Callable[..., Training]) -> dict[str, Any]:
    epochs, given = asked.pop("epochs", 0), asked.pop("given", None)
    if given is not None:
        with np.load(given) as arrays:
            weights = [arrays[f"weight_{i}"] for i in range(len(arrays) - 2)]
            return {"losses": training(**asked).losses(weights, arrays["x"], arrays["noise"])}
    trained = training(**asked)
    start = time.perf_counter()
    losses = [trained.epoch() for _ in range(epochs)]
    return {"seconds": time.perf_counter() - start, "loss": losses[-1]}
