"""Lets trainings write to disks that are too small, then makes room; nothing must be lost.

A `tmpfs` of a given size is the disk where it may be mounted, else a limit on the size of files.

    python -m tests.campaigns.disk_full --sizes 20
"""

import argparse
import contextlib
import pathlib
import resource
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_vae.training.checkpoints import format
from tests.campaigns import tables, trainings


@contextlib.contextmanager
def small_disk(size: int) -> Iterator[tuple[pathlib.Path, str]]:
    """Yield a folder on a disk of so many bytes, and of what kind it is."""
    with tempfile.TemporaryDirectory() as folder:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
        if subprocess.run(mount, capture_output=True).returncode:
            yield pathlib.Path(folder), "limit on files"
            return
        try:
            yield pathlib.Path(folder), "tmpfs"
        finally:
            subprocess.run(["umount", folder], check=True)


def make_room(folder: pathlib.Path) -> None:
    """Enlarge the disk."""
    subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], capture_output=True)


def attempt(size: int, expected: dict[str, Any]) -> tuple[str, bool]:
    """Train on a disk of a size, then go on with room; return the kind, and whether all is well."""
    with small_disk(size) as (disk, kind), tempfile.TemporaryDirectory() as elsewhere:
        folder, result = disk / "training", pathlib.Path(elsewhere, "result.json")
        folder.mkdir()

        def train(pipe: int) -> Any:
            if kind != "tmpfs":
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            return trainings.train("GECO", folder, pipe)

        child = trainings.Child(train, result)
        code, _ = child.wait()
        told = child.errors.read_text()
        # An error of Python, not a signal, and one that says what has happened.
        clear = code == 0 or (code == 1 and "bytes could not be written; checkpoints" in told)
        for path in folder.glob("*.checkpoint"):
            format.read(path)
        make_room(disk)
        child = trainings.Child(lambda pipe: trainings.train("GECO", folder, pipe), result)
        code, found = child.wait()
        same = code == 0 and all(found[what] == expected[what] for what in expected)
        return kind, clear and same


def run(sizes: list[int]) -> dict[str, Any]:
    """Try disks of several sizes."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        expected, _ = trainings.interrupted("GECO", path / "unbroken", [])
    ends = [attempt(size, expected) for size in sizes]
    kinds = ", ".join(sorted({kind for kind, _ in ends}))
    return tables.row(f"disk full ({kinds})", len(ends), sum(well for _, well in ends))


def main() -> None:
    """Run the whole campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, default=20)
    args = parser.parse_args()
    sizes = np.linspace(8_192, 250_000, args.sizes).astype(int).tolist()
    tables.write("disk_full", [run(sizes)])


if __name__ == "__main__":
    main()
