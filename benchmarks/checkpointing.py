"""Measures what checkpoints cost: share of the time of a training, and bytes on the disk.

The network of Burda et al. (784-200-200-50 with its mirrored decoder), batches of 100, Adam.

    python -m benchmarks.checkpointing
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import tempfile
import time
from typing import Any

import keras
import numpy as np

import keras_vae as kv
from benchmarks import records

RESULTS = records.FOLDER / "checkpointing.json"
IMAGE = (28, 28, 1)
SETTINGS: dict[str, Any] = {"none": None, "every epoch": {}, "every 100 steps": {"every": 100}}


def make() -> kv.VAE:
    """Returns a compiled model."""
    model = kv.VAE(
        encoder=kv.networks.MLPEncoder((200, 200)),
        decoder=kv.networks.MLPDecoder(IMAGE, (200, 200)),
        posterior=kv.posteriors.DiagonalNormal(50),
        likelihood=kv.likelihoods.Bernoulli(IMAGE),
    )
    model.compile(keras.optimizers.Adam(1e-3))
    return model


def seconds(model: kv.VAE, x: np.ndarray, epochs: int, options: Any) -> tuple[float, int]:
    """Returns how long epochs take with checkpoints, and the bytes of one; {} for none within."""
    with tempfile.TemporaryDirectory() as folder:
        callbacks = [] if options is None else [kv.callbacks.Resume(folder, **options)]
        start = time.perf_counter()
        model.fit(x, batch_size=100, epochs=epochs, verbose=0, callbacks=callbacks)
        taken = time.perf_counter() - start
        sizes = [path.stat().st_size for path in pathlib.Path(folder).glob("*.checkpoint")]
    return taken, max(sizes, default=0)


def measure(epochs: int, examples: int, repetitions: int) -> list[dict[str, Any]]:
    """Returns a row for each setting; repetitions take turns."""
    x = np.random.default_rng(0).integers(0, 2, (examples, *IMAGE)).astype("float32")
    model = make()
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in SETTINGS}
    for options in SETTINGS.values():
        seconds(model, x, 1, options)
    for _ in range(repetitions):
        for name, options in SETTINGS.items():
            found[name].append(seconds(model, x, epochs, options))
    base = statistics.median(taken for taken, _ in found["none"])
    rows = []
    for name, values in found.items():
        taken = statistics.median(taken for taken, _ in values)
        facts = {"checkpoints": name, "seconds": round(taken, 3)}
        share = round(100.0 * (taken - base) / taken, 2)
        rows.append({**facts, "share of time in %": share, "bytes of one": values[0][1]})
    return rows


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Measures, writes the table, and returns its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--examples", type=int, default=60_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS)
    args = parser.parse_args(argv)
    rows = measure(args.epochs, args.examples, args.repetitions)
    records.write({**records.circumstances(args), "rows": rows}, args.results)
    lines = [f"| {' | '.join(rows[0])} |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(map(str, row.values()))} |" for row in rows]
    by_name = {row["checkpoints"]: row for row in rows}
    return records.finish(by_name, "\n".join(lines) + "\n", args.results)


if __name__ == "__main__":
    main()
