"""Which tests run which lines of the package, and how long they take: a plugin for `mutants.py`.

    LINES_OF_TESTS=folder python -m pytest -n 2 -m "not full" -p tests.lines_of_tests

Each process writes to the folder the lines that its tests ran, and the seconds of each.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import coverage
import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "keras_vae"
FOLDER = Path(os.environ.get("LINES_OF_TESTS", "."))

# Found once: a process may change its folder.
_recorder = coverage.Coverage(
    data_file=str(FOLDER.resolve() / f"lines_{os.getpid()}"), include=[f"{PACKAGE}/*"]
)
_seconds: dict[str, float] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Records the lines and the time of a test."""
    begin = time.perf_counter()
    _recorder.start()
    _recorder.switch_context(item.nodeid)
    try:
        return (yield)
    finally:
        _recorder.stop()
        _seconds[item.nodeid] = time.perf_counter() - begin


def pytest_unconfigure() -> None:
    """Writes what was recorded."""
    if _seconds:
        _recorder.save()
        (FOLDER / f"seconds_{os.getpid()}.json").write_text(json.dumps(_seconds))


def read(folder: Path) -> tuple[dict[str, dict[int, set[str]]], dict[str, float]]:
    """Returns the tests that run each line, by file of the package and line, and their seconds."""
    seconds: dict[str, float] = {}
    for path in folder.glob("seconds_*.json"):
        seconds |= json.loads(path.read_text())
    tests: dict[str, dict[int, set[str]]] = {}
    for path in folder.glob("lines_*"):
        data = coverage.CoverageData(str(path))
        data.read()
        for name in data.measured_files():
            lines = tests.setdefault(Path(name).relative_to(PACKAGE).as_posix(), {})
            for line, contexts in data.contexts_by_lineno(name).items():
                lines.setdefault(line, set()).update(filter(None, contexts))
    return tests, seconds
