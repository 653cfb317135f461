"""Times the sampling of codes: with what the layers remember, and by a full pass for every code.

Both draw 16 maps of the same prior, of 512 codes and with the default network, in a `tf.while_loop`
of one graph. The full pass computes the logits of all codes for each code that it draws, which is
what a network without memory must do. Given the same seed, both draw the same codes, which is
checked. Times are medians over repetitions in which the two take turns; beside the time of the wall
stands that of the processor, added up over all threads, which other work disturbs less.

    python -m benchmarks.code_sampling

Results go to `benchmarks/results/code_sampling.json` and `.md`. It takes about two minutes.
"""

from __future__ import annotations

import argparse
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_vae as kv
from benchmarks import records
from keras_vae.core.seeds import fold, sampling_seed
from keras_vae.distributions.causal_network import CausalNetwork, choose_codes

RESULTS = records.FOLDER / "code_sampling.json"
PRIORS = {"PixelCNN": kv.priors.PixelCNN, "PixelSNAIL": kv.priors.PixelSNAIL}
Draw = Callable[[tf.Tensor], tf.Tensor]


def draw_by_full_passes(network: CausalNetwork, rows: int, seed: tf.Tensor) -> tf.Tensor:
    """Draws codes `[R, N]`, with a pass of the whole network for each of the N positions."""
    size = network.maps[0] * network.maps[1]

    def body(position: tf.Tensor, codes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        logits = tf.gather(network(codes), position, axis=1)  # [R, K]
        chosen = choose_codes(logits, tf.ones(()), fold(seed, position))
        here = tf.one_hot(position, size, dtype=tf.int32)
        return position + 1, codes + here * chosen[:, tf.newaxis]

    start = (tf.constant(0), tf.zeros([rows, size], tf.int32))
    return tf.while_loop(lambda position, _: position < size, body, start)[1]


def contenders(prior: Any, rows: int) -> dict[str, Draw]:
    """Returns the two ways of drawing, as functions of a seed in graphs of their own."""
    prior.build()
    ways = {
        "cached": lambda seed: prior().sample(rows, seed=seed),
        "full": lambda seed: draw_by_full_passes(prior.network, rows, seed),
    }
    return {name: tf.function(way, autograph=False) for name, way in ways.items()}


def measure(prior: Any, rows: int, repetitions: int) -> dict[str, Any]:
    """Returns medians of the seconds of each way, and how many times faster the first is."""
    ways, seed = contenders(prior, rows), sampling_seed(1)
    found = {name: draw(seed).numpy() for name, draw in ways.items()}  # traces both
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(repetitions):
        for name, draw in ways.items():
            start = time.perf_counter(), time.process_time()
            draw(seed).numpy()
            times[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    seconds = {name: np.median(values, axis=0).tolist() for name, values in times.items()}
    wall, processor = np.divide(seconds["full"], seconds["cached"])
    return {
        "seconds": {name: values[0] for name, values in seconds.items()},
        "processor_seconds": {name: values[1] for name, values in seconds.items()},
        "faster": float(wall),
        "faster_by_processor": float(processor),
        # Rounding may decide between two codes of nearly the same chance.
        "same_codes": float(np.mean(found["cached"] == found["full"])),
    }


def table(rows: dict[str, Any], args: argparse.Namespace) -> str:
    """Returns the results as a table."""
    lines = [
        f"# Sampling {args.batch} maps of codes, with memory and by a full pass a code",
        "",
        "| prior | codes | with memory, s | full passes, s | times faster | by processor time |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        prior, _, size = name.partition(" ")
        cached, full = row["seconds"]["cached"], row["seconds"]["full"]
        ratios = f"{row['faster']:.0f} | {row['faster_by_processor']:.0f}"
        lines.append(f"| {prior} | {size} | {cached:.3f} | {full:.2f} | {ratios} |")
    return "\n".join([*lines, ""])


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Returns the arguments of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 14])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--num-codes", type=int, default=512)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS)
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures all rows, and writes and returns them."""
    args, rows = arguments(given), {}
    for size in args.sizes:
        for name, kind in PRIORS.items():
            keras.utils.set_random_seed(0)
            prior = kind((size, size), args.num_codes)
            rows[f"{name} {size}x{size}"] = measure(prior, args.batch, args.repetitions)
    records.write({"rows": rows, **records.circumstances(args)}, args.results)
    return records.finish(rows, table(rows, args), args.results)


if __name__ == "__main__":
    main()
