"""What a report holds, and how it is written to files."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_vae.core.files import write_whole
from keras_vae.evaluation.reporting.page import page
from keras_vae.evaluation.reporting.row import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

JSON, HTML = "report.json", "report.html"
TITLES = ("Likelihood", "Latent code", "Reconstruction", "Samples", "Disentanglement")
_WIDTH = 34  # Width of names in the terminal.


@dataclasses.dataclass(frozen=True)
class Report:
    """All evaluations of a model on a data set.

    `print(report)` prints the table for the terminal.

    Attributes:
        title: Name and class of the model.
        configuration: What the values depend on: examples, samples, seed, budget, versions.
        sections: Rows by the title of their section.
        omitted: What was not computed, and why.
        per_dimension: Lists by name: `kl`, the mean KL of each group of dimensions, and
            `variance_of_mean`, the variance of the posterior mean in each dimension.
        figures: matplotlib figures by name; those of images are missing if x is not an image.
        reduced: What was computed on fewer examples than usual to keep to the budget, and on how
            many.
        unfinished: What was still to come when this was written; empty when everything is done.
    """

    title: str
    configuration: dict[str, Any]
    sections: dict[str, list[Row]]
    omitted: dict[str, str]
    per_dimension: dict[str, list[Any]] = dataclasses.field(repr=False)
    figures: dict[str, Figure] = dataclasses.field(repr=False)
    reduced: dict[str, str] = dataclasses.field(default_factory=dict)
    unfinished: list[str] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        lines = [self.title]
        for title, rows in self.sections.items():
            lines += ["", title]
            lines += [_line(row) for row in rows]
        for title, remarks in self._remarks().items():
            lines += ["", title]
            lines += [f"  {name}: {why}" for name, why in remarks.items()]
        return "\n".join(lines)

    def with_rows(self, title: str, rows: Sequence[Row], **per_dimension: list[Any]) -> Report:
        """Returns the report with additional rows in a section; sections keep their order."""
        sections = {**self.sections, title: [*self.sections.get(title, []), *rows]}
        return dataclasses.replace(
            self,
            sections={title: sections[title] for title in TITLES if title in sections},
            per_dimension={**self.per_dimension, **per_dimension},
        )

    def as_dict(self) -> dict[str, Any]:
        """Returns everything except the figures, ready for JSON; non-finite values become None."""
        sections = {
            title: {row.name: _plain(row) for row in rows} for title, rows in self.sections.items()
        }
        return {
            "title": self.title,
            "configuration": self.configuration,
            "sections": sections,
            "omitted": self.omitted,
            "reduced": self.reduced,
            "unfinished": self.unfinished,
            "per_dimension": self.per_dimension,
        }

    def save(self, folder: str | Path) -> None:
        """Writes `report.json`, and `report.html`, a single page that includes the figures.

        Args:
            folder: Created if it does not exist; existing files with these names are replaced, each
                once the new one is complete.
        """
        text = json.dumps(self.as_dict(), indent=1, allow_nan=False)
        write_whole(Path(folder, JSON), text + "\n")
        remarks = {**self._remarks(), "How it was made": self.configuration}
        html = page(self.title, self._lead(), self.sections, self.figures, remarks)
        write_whole(Path(folder, HTML), html)

    def _lead(self) -> str:
        known = self.configuration
        lead = (
            f"{known['num_examples']:,} examples, log p(x) by {known['num_samples']:,} "
            f"samples each, seed {known['seed']}. ± is one standard error."
        )
        return f"{lead} Unfinished: see below." if self.unfinished else lead

    def _remarks(self) -> dict[str, Mapping[str, Any]]:
        """Returns what a reader needs to know besides the values, by title."""
        unfinished = dict.fromkeys(self.unfinished, "still to come when this was written")
        remarks: dict[str, Mapping[str, Any]] = {
            "Unfinished": unfinished,
            "Reduced to keep to the budget": self.reduced,
            "Not computed": self.omitted,
        }
        return {title: items for title, items in remarks.items() if items}


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
