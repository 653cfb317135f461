"""What follows from the measurements of `cost.py`: lines, and tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

ENCODERS = {"encoder": (200, 200), "wide_encoder": (1000, 1000)}
IMAGE, BATCH = (28, 28, 1), 100
EXAMPLE_BYTES = 4 * 28 * 28
_MEBIBYTE = 2**20


def line(at: Any, values: Any, relative: bool = False) -> dict[str, float]:
    """Fits values = intercept + slope at, by least squares of absolute or relative errors.

    Returns:
        `intercept`, `slope`, the standard error of the slope, and the worst relative deviation.
    """
    at, values = np.asarray(at, float), np.asarray(values, float)
    weights = 1.0 / values if relative else np.ones_like(values)
    design = weights[:, None] * np.stack([np.ones_like(at), at], 1)
    (intercept, slope), *_ = np.linalg.lstsq(design, weights * values, rcond=None)
    left = values - intercept - slope * at
    variance = np.sum((weights * left) ** 2) / max(1, len(at) - 2)
    error = np.sqrt(variance * np.linalg.pinv(design.T @ design)[1, 1])
    deviation = np.max(np.abs(left / values))
    found = (intercept, slope, error, deviation)
    names = ("intercept", "slope", "slope_error", "worst_deviation")
    return dict(zip(names, map(float, found), strict=True))


def medians(rows: dict[str, Any], clock: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the numbers that rows are named by, in order, and medians over repetitions."""
    numbers = sorted(int(name) for name in rows if name.isdigit())
    return np.array(numbers), np.array([np.median(rows[str(n)][clock]) for n in numbers])


def growth_in_samples(rows: dict[str, Any], clock: str) -> dict[str, dict[str, float]]:
    """Returns the lines of time against K, and the encoder's own time, by encoder."""
    found = {}
    for name, row in rows.items():
        found[name] = line(*medians(row, clock), relative=True)
        found[name]["alone"] = float(np.median(row["alone"][clock]))
    return found


def growth_of_memory(row: dict[str, float], after: int = 1000) -> dict[str, float]:
    """Returns the line of memory against steps, MiB, without the first of a long training."""
    steps = sorted(map(int, row))
    if steps[-1] >= 2 * after:
        steps = [step for step in steps if step >= after]
    return line(steps, [row[str(step)] for step in steps])


def peaks(rows: dict[str, float], kind: str, over: str) -> tuple[list[int], list[float]]:
    """Returns numbers of examples or epochs, in order, and the peak memory of each, MiB."""
    keys = [key.split("/") for key in rows if key.startswith(kind)]
    sizes = [int(size) for _, size, epochs in keys if int(epochs) > 1]
    if over == "epochs":
        found = {int(e): rows[f"{kind}/{s}/{e}"] for _, s, e in keys if int(s) in sizes}
    else:
        found = {int(s): rows[f"{kind}/{s}/{e}"] for _, s, e in keys if int(e) == 1}
    return sorted(found), [found[number] for number in sorted(found)]


def report(rows: dict[str, Any]) -> str:
    """Writes the results as tables, each with what follows from it."""
    parts = {
        "samples": _report_samples,
        "batch": _report_batch,
        "memory": _report_memory,
        "leak": _report_leak,
    }
    return "\n".join(part(rows[name]) for name, part in parts.items() if name in rows)


def _table(heads: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    rows = [heads, ["---"] * len(heads), *body]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def _report_samples(rows: dict[str, Any]) -> str:
    body = []
    for name, row in rows.items():
        for count in map(str, medians(row, "wall")[0]):
            own = [np.median(row[key]["processor"]) for key in ("alone", count)]
            times = [f"{np.median(row[count][clock]):.2f}" for clock in ("wall", "processor")]
            body.append([_widths(name), count, *times, f"{own[0] / own[1]:.0%}"])
    heads = ["encoder", "K", "ms/step", "of the processor, ms", "of it the encoder"]
    text = f"Time of a step, batch {BATCH}:\n\n" + _table(heads, body) + "\n"
    for clock in ("wall", "processor"):
        for name, found in growth_in_samples(rows, clock).items():
            text += (
                f"- {_widths(name)}, {clock}: {found['intercept']:.2f} + {found['slope']:.3f} K "
                f"+- {found['slope_error']:.3f} K ms, within {found['worst_deviation']:.0%}; "
                f"the encoder alone {found['alone']:.2f} ms\n"
            )
    return text


def _report_batch(rows: dict[str, Any]) -> str:
    sizes, wall = medians(rows, "wall")
    times = zip(sizes, wall, medians(rows, "processor")[1], strict=True)
    body = [[f"{size:,}", f"{one:.1f}", f"{other:.1f}"] for size, one, other in times]
    return "Time of an example, K = 1:\n\n" + _table(
        ["batch", "us/example", "of the processor, us"], body
    )


def _report_memory(rows: dict[str, float]) -> str:
    keys = [key.split("/") for key in rows]
    labels = {"stream": "made as needed", "array": "array"}
    keys.sort(key=lambda key: (key[0] == "array", int(key[2]), int(key[1])))
    body = [
        [labels[kind], f"{int(size):,}", epochs, f"{rows[f'{kind}/{size}/{epochs}']:.0f}"]
        for kind, size, epochs in keys
    ]
    text = "Peak memory of a training:\n\n"
    text += _table(["data", "examples", "epochs", "MiB"], body) + "\n"
    for kind, label in labels.items():
        sizes, found = peaks(rows, kind, "sizes")
        slope = line(sizes, found)["slope"] * _MEBIBYTE if len(sizes) > 1 else np.nan
        text += f"- {label}: {slope:,.0f} bytes for each example more\n"
    return text + f"- an example has {EXAMPLE_BYTES:,} bytes\n"


def _report_leak(row: dict[str, float]) -> str:
    steps = sorted(map(int, row))
    text = "Memory of a process while `fit` goes on:\n\n"
    text += _table(["steps", "MiB"], [[f"{step:,}", f"{row[str(step)]:.1f}"] for step in steps])
    text += "\n"
    for name, after in {"all but the first 1,000": 1000, "the second half": steps[-1] // 2}.items():
        found = growth_of_memory(row, after)
        slope, error = (found[part] * _MEBIBYTE for part in ("slope", "slope_error"))
        text += f"- {name}: {slope:,.0f} +- {error:,.0f} bytes a step\n"
    return text + f"- a batch has {BATCH * EXAMPLE_BYTES:,} bytes\n"


def _widths(name: str) -> str:
    return "-".join(map(str, ENCODERS[name]))
