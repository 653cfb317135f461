"""Flips bits in checkpoints, cuts them off and zeroes blocks; `Resume` must see each of them.

python -m tests.campaigns.damage --flips 200 --truncations 50 --blocks 50
"""

import argparse
import os
import pathlib
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import keras_vae as kv
from tests.campaigns import tables, trainings


def flip(content: bytearray, rng: np.random.Generator) -> bytearray:
    """Flip one bit."""
    bit = int(rng.integers(8 * len(content)))
    content[bit // 8] ^= 1 << (bit % 8)
    return content


def truncate(content: bytearray, rng: np.random.Generator) -> bytearray:
    """Cut the end off."""
    return content[: int(rng.integers(len(content)))]


def zero(content: bytearray, rng: np.random.Generator) -> bytearray:
    """Overwrite a block by zeros, as a file system does that has lost it."""
    start = int(rng.integers(len(content)))
    block = bytes(len(content[start : start + 512]))
    return content[:start] + block + content[start + len(block) :]


FAULTS: dict[str, Callable[..., bytearray]] = {
    "flipped bit": flip,
    "truncation": truncate,
    "zeroed block": zero,
}


def checkpoints(folder: pathlib.Path) -> list[pathlib.Path]:
    """Train once, and return the files of the checkpoints, the newest last."""
    trainings.train("GECO", folder, os.open(os.devnull, os.O_WRONLY), epochs=2)
    files = sorted(folder.glob("*.checkpoint"), key=lambda path: path.stat().st_mtime_ns)
    assert len(files) == 2
    return files


def run(
    folder: pathlib.Path, files: list[pathlib.Path], fault: str, count: int, seed: int = 0
) -> dict[str, Any]:
    """Damage the newest checkpoint so many times, and see what `Resume` says."""
    rng, content, seen, unchanged = np.random.default_rng(seed), files[-1].read_bytes(), 0, 0
    for _ in range(count):
        damaged = bytes(FAULTS[fault](bytearray(content), rng))
        unchanged += damaged == content
        files[-1].write_bytes(damaged)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            resume = kv.callbacks.Resume(folder)
        fell_back = (resume.epoch, resume.batch) == (1, 25) and len(told) == 1
        seen += fell_back and "is lost, and is trained again" in str(told[0].message)
    files[-1].write_bytes(content)
    return tables.row(f"{fault} in the newest checkpoint", count - unchanged, seen)


def main() -> None:
    """Run the whole campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=200)
    parser.add_argument("--truncations", type=int, default=50)
    parser.add_argument("--blocks", type=int, default=50)
    args = parser.parse_args()
    counts = zip(FAULTS, (args.flips, args.truncations, args.blocks), strict=True)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        files = checkpoints(folder)
        tables.write("damage", [run(folder, files, *one) for one in counts])


if __name__ == "__main__":
    main()
