"""Results of benchmarks as JSON, and what they were measured with."""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import statistics
from typing import Any

from keras_vae.core.files import write_whole

FOLDER = pathlib.Path(__file__).parent / "results"
PACKAGES = ("tensorflow", "keras", "tensorflow-probability", "numpy")
# Arguments of a command that are no part of what is measured.
LEFT_OUT = ("rows", "seeds", "runs", "results")


def read(path: pathlib.Path) -> dict[str, Any]:
    """Returns the results so far."""
    return json.loads(path.read_text()) if path.exists() else {"rows": {}}


def write(results: dict[str, Any], path: pathlib.Path) -> None:
    """Writes the results as JSON."""
    text = json.dumps(results, indent=1, sort_keys=True)
    # A curve takes a line, not one for each of its numbers.
    text = re.sub(r"\[[-+.,e\d\s]*\]", lambda numbers: " ".join(numbers[0].split()), text)
    write_whole(path, text + "\n")


def digest(rows: dict[str, Any]) -> str:
    """Returns what tells a figure which results it was drawn from."""
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


def add(path: pathlib.Path, name: str, seed: int, row: Any, circumstances: dict[str, Any]) -> None:
    """Adds a row with a seed to the results, as another process may have left them meanwhile."""
    results = read(path)
    results["rows"].setdefault(name, {})[str(seed)] = row
    write({**results, **circumstances}, path)


def circumstances(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the configuration, the versions and the processor."""
    given = {name: value for name, value in vars(args).items() if name not in LEFT_OUT}
    return {"configuration": given, **machine()}


def machine() -> dict[str, Any]:
    """Returns the versions and the processor that numbers and times are of."""
    return {
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
        "processor": processor(),
        "cores": cores(),
    }


def processor() -> str:
    """Returns the name of the processor."""
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cores() -> int:
    """Returns the number of cores that this process may use, which is that of its threads."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def finish(rows: dict[str, Any], table: str, path: pathlib.Path) -> dict[str, Any]:
    """Writes the table beside the results and prints it, and returns the rows."""
    path.with_suffix(".md").write_text(table)
    print("\n" + table)
    return rows


def spread(row: dict[str, dict[str, Any]], key: str, digits: int = 2) -> str:
    """Returns mean and standard deviation over the seeds, as text."""
    values = [seed[key] for seed in row.values()]
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} +- {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean
