"""What a report holds, and how it is written down."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_vae.evaluation.estimate import Estimate
from keras_vae.evaluation.reporting.page import page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

JSON, HTML = "report.json", "report.html"
_WIDTH = 34  # Of names on the terminal.


@dataclasses.dataclass(frozen=True)
class Row:
    """One number of a report.

    Attributes:
        name: What it is, as in the JSON.
        value: The number.
        unit: Its unit, such as `"nats"`.
        standard_error: Its standard error, None where there is none.
        note: How it was made, where the reader has to know.
    """

    name: str
    value: float
    unit: str = ""
    standard_error: float | None = None
    note: str = ""

    @property
    def text(self) -> str:
        """The number with its standard error and unit, in as many digits as are worth it."""
        if isinstance(self.value, int):
            return f"{self.value} {self.unit}".strip()
        error = math.nan if self.standard_error is None else self.standard_error
        digits = 4 if abs(self.value) < 1.0 or error < 0.01 else 2
        spread = f" +- {error:.{digits}f}" if math.isfinite(error) else ""
        return f"{self.value:.{digits}f}{spread} {self.unit}".strip()


def row_of(name: str, estimate: Estimate, unit: str = "", note: str = "") -> Row:
    """Returns the row of an estimate."""
    return Row(name, estimate.mean, unit, estimate.standard_error, note)


@dataclasses.dataclass(frozen=True)
class Report:
    """All evaluations of a model on a data set.

    `print(report)` is the table for the terminal.

    Attributes:
        title: Name and class of the model.
        configuration: What the numbers depend on: examples, samples, seed, versions.
        sections: Rows by the title of their section.
        omitted: What was not computed, and why.
        per_dimension: Lists by name: `kl`, the mean KL of each group of dimensions, and
            `variance_of_mean`, the variance of the posterior mean in each dimension.
        figures: matplotlib figures by name; those of images are missing where x is none.
    """

    title: str
    configuration: dict[str, Any]
    sections: dict[str, list[Row]]
    omitted: dict[str, str]
    per_dimension: dict[str, list[Any]] = dataclasses.field(repr=False)
    figures: dict[str, Figure] = dataclasses.field(repr=False)

    def __str__(self) -> str:
        lines = [self.title]
        for title, rows in self.sections.items():
            lines += ["", title]
            lines += [_line(row) for row in rows]
        if self.omitted:
            lines += ["", "Not computed"]
            lines += [f"  {name}: {why}" for name, why in self.omitted.items()]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Returns all but the figures, ready for JSON; numbers that are not finite are None."""
        sections = {
            title: {row.name: _plain(row) for row in rows} for title, rows in self.sections.items()
        }
        return {
            "title": self.title,
            "configuration": self.configuration,
            "sections": sections,
            "omitted": self.omitted,
            "per_dimension": self.per_dimension,
        }

    def save(self, folder: str | Path) -> None:
        """Writes `report.json`, and `report.html`, one page that holds its figures.

        Args:
            folder: Made if it does not exist; files of these names are overwritten.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.as_dict(), indent=1, allow_nan=False)
        (folder / JSON).write_text(text + "\n", encoding="utf-8")
        (folder / HTML).write_text(page(self), encoding="utf-8")


def _line(row: Row) -> str:
    note = f"  ({row.note})" if row.note else ""
    return f"  {row.name:<{_WIDTH}} {row.text:>26}{note}"


def _plain(row: Row) -> dict[str, Any]:
    fields = dataclasses.asdict(row)
    del fields["name"]
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in fields.items()
    }
