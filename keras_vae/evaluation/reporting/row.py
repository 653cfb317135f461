"""A single value in a report."""

from __future__ import annotations

import dataclasses
import math

from keras_vae.evaluation.estimate import Estimate


@dataclasses.dataclass(frozen=True)
class Row:
    """A single value in a report.

    Attributes:
        name: What it is, as in the JSON.
        value: The value.
        unit: Its unit, such as `"nats"`.
        standard_error: Its standard error, or None if there is none.
        note: How it was computed, if the reader needs to know.
        num_examples: On how many examples it was computed; for disentanglement scores, on how many
            training observations.
    """

    name: str
    value: float
    unit: str = ""
    standard_error: float | None = None
    note: str = ""
    num_examples: int | None = None

    @property
    def text(self) -> str:
        """The value with its standard error and unit, in a sensible number of digits."""
        if isinstance(self.value, int):
            return f"{self.value} {self.unit}".strip()
        error = math.nan if self.standard_error is None else self.standard_error
        digits = 4 if abs(self.value) < 1.0 or error < 0.01 else 2
        spread = f" +- {error:.{digits}f}" if math.isfinite(error) else ""
        return f"{self.value:.{digits}f}{spread} {self.unit}".strip()

    def computed_on(self, num_examples: int, note: str = "") -> Row:
        """Returns the row with its number of examples, and `note` placed before its own note."""
        notes = ", ".join(filter(None, [note, self.note]))
        return dataclasses.replace(self, note=notes, num_examples=num_examples)


def row_of(name: str, estimate: Estimate, unit: str = "", note: str = "") -> Row:
    """Returns the row of an estimate."""
    return Row(name, estimate.mean, unit, estimate.standard_error, note)
