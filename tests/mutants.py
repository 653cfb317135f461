"""Deliberate breaks of the package, to see whether the tests notice.

    python tests/mutants.py                      # every break against the quick lane
    python tests/mutants.py --rooms bounds --write table.md

One break at a time is made in a copy of the checkout, and the quick lane runs against it until its
first failure: first the tests of the room, then all. A break that no test notices is a hole in the
tests. `mutants.txt` holds the breaks. The text of each must occur exactly once in its file, or the
script ends at once, so that a break cannot silently become none.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("keras_vae", "tests", "benchmarks", "examples", "docs", "saved_models", ".ci")
COPIED += ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE")
COPIED += ("Makefile", "setup.cfg", "pyproject.toml")


class Break(NamedTuple):
    """A change of one place of the package that makes it wrong."""

    path: str
    old: str
    new: str

    @property
    def room(self) -> str:
        return self.path.split("/")[0].removesuffix(".py")


def read_breaks(path: Path) -> Iterator[Break]:
    """Yields the breaks of a file, in the format that its first lines describe."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    for block in "\n".join(lines).strip().split("\n\n"):
        name, *changes = block.splitlines()
        old, new = (
            "\n".join(line[2:] for line in changes if line[:1] == mark) for mark in ("-", "+")
        )
        yield Break(name, old, new)


def check_breaks(breaks: list[Break]) -> None:
    """Ends the script if a break is not of exactly one place."""
    for one in breaks:
        count = (ROOT / "keras_vae" / one.path).read_text().count(one.old)
        if count != 1:
            sys.exit(f"keras_vae/{one.path} holds {count} times what shall be broken: {one.old!r}")


def is_caught(one: Break, options: argparse.Namespace) -> bool:
    """Returns whether a test fails in a copy of the checkout with this break."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy(source, copy / name)
        (copy / "tests" / "test_mutants.py").unlink()  # It fails in a copy with any break.
        broken = copy / "keras_vae" / one.path
        broken.write_text(broken.read_text().replace(one.old, one.new))
        rooms = [f"tests/{one.room}"] if (copy / "tests" / one.room).is_dir() else []
        return any(fails(copy, targets, options) for targets in ([rooms, []] if rooms else [[]]))


def fails(copy: Path, targets: list[str], options: argparse.Namespace) -> bool:
    """Returns whether the quick lane, or a part of it, fails in a copy."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", options.marker, *targets]
    command += ["-n", str(options.workers), "--dist", "worksteal"] if options.workers else []
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(copy)}
    given = {"cwd": copy, "env": environment, "stdout": subprocess.DEVNULL}
    try:
        code = subprocess.run(command, stderr=subprocess.DEVNULL, timeout=3600, **given).returncode
    except subprocess.TimeoutExpired:
        return True  # A training that does not end is noticed, too.
    return code not in (0, 5)  # 5: there are no such tests.


def table_of(results: list[tuple[Break, bool]]) -> str:
    """Returns a Markdown table of the share that was caught in each room, and what was not."""
    total = Counter(one.room for one, _ in results)
    caught = Counter(one.room for one, found in results if found)
    rows = [f"| {room} | {caught[room]} of {count} |" for room, count in sorted(total.items())]
    rows.append(f"| all | {caught.total()} of {total.total()} |")
    survived = [f"- `{one.path}`: `{one.old.strip()}`" for one, found in results if not found]
    parts = [
        "| room | caught |",
        "|---|---|",
        *rows,
        *(["", "Not noticed:", ""] if survived else []),
    ]
    return "\n".join([*parts, *survived]) + "\n"


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rooms", nargs="*", help="rooms whose breaks to make; all by default")
    parser.add_argument("--marker", default="not full", help="the tests to run, as pytest's -m")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--write", type=Path, help="file for the table")
    options = parser.parse_args()
    breaks = list(read_breaks(ROOT / "tests" / "mutants.txt"))
    check_breaks(breaks)
    results = []
    for one in breaks:
        if options.rooms and one.room not in options.rooms:
            continue
        begin = time.perf_counter()
        results.append((one, is_caught(one, options)))
        found = "caught" if results[-1][1] else "NOT NOTICED"
        print(
            f"{found:12s} {time.perf_counter() - begin:5.0f} s  {one.path}: {one.old.strip()[:60]}"
        )
        sys.stdout.flush()
        if options.write:
            options.write.write_text(table_of(results))
    print(table_of(results))


if __name__ == "__main__":
    main()
