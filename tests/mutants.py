"""Deliberate breaks of the package, to see whether the tests notice.

    LINES_OF_TESTS=lines python -m pytest -n 2 -m "not full" -p tests.lines_of_tests
    python tests/mutants.py --lines lines --write table.md

One break at a time is made in a copy of the package, and those tests run that run the broken lines,
first those named after the file, then those of its room, then others, until one fails. A break that
no test notices is a hole in the tests. `mutants.txt` holds the breaks. The text of each must occur
exactly once in its file, or the script ends at once, so that a break cannot silently become none.

Each break has a process of its own, a fork of one that has imported TensorFlow already.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_NO_TESTS = 5  # What pytest returns if it has found none of the tests.
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


def tests_of(
    one: Break, lines: Mapping[str, Mapping[int, set[str]]], seconds: Mapping[str, float]
) -> list[str]:
    """Returns the tests that run the broken lines, and after them those of the room.

    What AutoGraph converts runs from a file of its own, so that not all who run a line are known.
    """
    text = (ROOT / "keras_vae" / one.path).read_text()
    first = text[: text.index(one.old)].count("\n") + 1
    broken = range(first, first + one.old.count("\n") + 1)
    known = lines.get(one.path, {})
    found = set().union(*(known.get(line, ()) for line in broken)) or set().union(*known.values())

    def distance(test: str) -> int:
        """Returns 0 for the tests of the file, 1 for those of its room, 2 for others."""
        path = test.partition("::")[0].removesuffix(".py")
        if Path(path).stem == f"test_{Path(one.path).stem}":
            return 0
        return 1 if one.room in path.replace("_", "/").split("/") else 2

    found |= {test for test in seconds if distance(test) == 0}
    others = {test for test in seconds if distance(test) == 1} - found
    first = sorted(found, key=lambda test: (distance(test), seconds[test]))
    return [*first, *sorted(others, key=seconds.__getitem__)]


def within(tests: Sequence[str], seconds: Mapping[str, float], budget: float) -> list[str]:
    """Returns the first tests that take so many seconds together."""
    total, chosen = 0.0, []
    for test in tests:
        total += seconds[test]
        if chosen and total > budget:
            break
        chosen.append(test)
    return chosen


def is_caught(one: Break, tests: Sequence[str], limit: float) -> bool:
    """Returns whether one of these tests fails in a copy of the checkout with this break."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy(source, copy / name)
        broken = copy / "keras_vae" / one.path
        broken.write_text(broken.read_text().replace(one.old, one.new))
        return fails(copy, tests, limit)


def fails(copy: Path, tests: Sequence[str], limit: float) -> bool:
    """Returns whether one of the tests fails in a copy, or does not end within the limit."""
    child = os.fork()
    if child == 0:
        run_and_exit(copy, tests)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) not in (0, _NO_TESTS)
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)  # A training that does not end is noticed, too.
    os.waitpid(child, 0)
    return True


class Only:
    """Lets pytest run these tests alone, in their order, as far as they exist."""

    def __init__(self, tests: Sequence[str]):
        self._places = {test: place for place, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Sorts the tests, and leaves out all others."""
        chosen = [item for item in items if item.nodeid in self._places]
        items[:] = sorted(chosen, key=lambda item: self._places[item.nodeid])


def run_and_exit(copy: Path, tests: Sequence[str]) -> None:
    """Runs tests in the copy, within this process, and ends it."""
    import pytest

    os.chdir(copy)
    sys.path[:] = [str(copy), *(path for path in sys.path if Path(path or ".").resolve() != ROOT)]
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    code = 1
    with contextlib.suppress(BaseException):
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
        files = dict.fromkeys(test.partition("::")[0] for test in tests)
        code = int(pytest.main([*options, *files], plugins=[Only(tests)]))
    os._exit(code)


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
    import tensorflow_probability  # noqa: F401  # All children share what is imported here.
    from lines_of_tests import read

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=Path, required=True, help="what lines_of_tests has written")
    parser.add_argument("--rooms", nargs="*", help="rooms whose breaks to make; all by default")
    parser.add_argument("--budget", type=float, default=300.0, help="seconds of tests for a break")
    parser.add_argument("--write", type=Path, help="file for the table")
    options = parser.parse_args()
    breaks = list(read_breaks(ROOT / "tests" / "mutants.txt"))
    check_breaks(breaks)
    lines, seconds = read(options.lines)
    results = []
    for one in breaks:
        if options.rooms and one.room not in options.rooms:
            continue
        begin = time.perf_counter()
        known = tests_of(one, lines, seconds)
        chosen = within(known, seconds, options.budget)
        limit = 120.0 + 5.0 * sum(seconds[test] for test in chosen)
        results.append((one, bool(chosen) and is_caught(one, chosen, limit)))
        found = "caught" if results[-1][1] else f"NOT NOTICED by {len(chosen)} of {len(known)}"
        took = time.perf_counter() - begin
        print(f"{found:12s} {took:5.0f} s  {one.path}: {one.old.strip()[:60]!r}", flush=True)
        if options.write:
            options.write.write_text(table_of(results))
    print(table_of(results))


if __name__ == "__main__":
    main()
