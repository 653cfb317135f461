"""Which tests run which lines of the package, and how long they take: a plugin for `mutants.py`.

    LINES_OF_TESTS=folder python -m pytest -n 2 -m "not full" -p tests.lines_of_tests

Each process writes to the folder the lines that its tests ran, and the seconds of each test.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "keras_vae"


class Recorder:
    """Records the lines that the tests of a process run.

    Args:
        folder: Where they are written to.
    """

    def __init__(self, folder: Path):
        import coverage

        self.folder = folder.resolve()  # A test may change that of the process.
        file = str(self.folder / f"lines_{os.getpid()}")
        self.lines: Any = coverage.Coverage(data_file=file, include=[f"{PACKAGE}/*"])
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Records the lines and the time of a test."""
        begin = time.perf_counter()
        self.lines.start()
        self.lines.switch_context(item.nodeid)
        try:
            return (yield)
        finally:
            self.lines.stop()
            self.seconds[item.nodeid] = time.perf_counter() - begin

    def pytest_unconfigure(self) -> None:
        """Writes what was recorded."""
        if self.seconds:
            self.lines.save()
            path = self.folder / f"seconds_{os.getpid()}.json"
            path.write_text(json.dumps(self.seconds))


def pytest_configure(config: pytest.Config) -> None:
    """Starts to record."""
    config.pluginmanager.register(Recorder(Path(os.environ["LINES_OF_TESTS"])))


def read(folder: Path) -> tuple[dict[str, dict[int, set[str]]], dict[str, float]]:
    """Returns the tests that run each line, by file of the package and line, and their seconds."""
    import coverage

    seconds: dict[str, float] = {}
    for path in folder.glob("seconds_*.json"):
        seconds |= json.loads(path.read_text())
    tests: dict[str, dict[int, set[str]]] = {}
    for path in folder.glob("lines_*"):
        data = coverage.CoverageData(str(path))
        data.read()
        for name in data.measured_files():
            inner = name.partition("/keras_vae/")[2]
            lines = tests.setdefault(inner, {})
            for line, contexts in data.contexts_by_lineno(name).items():
                lines.setdefault(line, set()).update(filter(None, contexts))
    return tests, seconds
