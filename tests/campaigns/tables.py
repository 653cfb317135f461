"""Tables of what campaigns came to: fault, tried, survived, lost."""

import json
import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

# Slices of campaigns leave the tables of whole ones alone.
FOLDER = "KERAS_VAE_CAMPAIGNS"
RESULTS = pathlib.Path(os.environ.get(FOLDER, pathlib.Path(__file__).parent / "results"))


def row(fault: str, tried: int, survived: int, **facts: Any) -> dict[str, Any]:
    """Return a row of a table: how often a fault was tried, and survived."""
    return {"fault": fault, "tried": tried, "survived": survived, "lost": tried - survived, **facts}


def others(name: str, row: Mapping[str, Any]) -> list[Any]:
    """Return the rows of a table that has been written, but for the fault of this one."""
    path = RESULTS / f"{name}.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    return [one for one in rows if one["fault"] != row["fault"]]


def write(name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table as JSON, with versions, and as Markdown."""
    versions = {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"versions": versions, "rows": list(rows)}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    columns = list(dict.fromkeys(column for one in rows for column in one))
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    lines += [f"| {' | '.join(str(one.get(c, '')) for c in columns)} |" for one in rows]
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
