"""Plans which parts a report has, on how many examples each, and why others are missing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from keras_vae.evaluation.reporting.budget import Work, counts_within
from keras_vae.evaluation.reporting.costs import measure
from keras_vae.evaluation.reporting.parts import Part
from keras_vae.evaluation.reporting.result import Report
from keras_vae.evaluation.reporting.sections import Sections


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a report will contain.

    Attributes:
        parts: The parts to compute, in order.
        counts: On how many examples each work is done.
        omitted: Why the other parts are not computed.
    """

    parts: Sequence[Part]
    counts: Mapping[Work, int]
    omitted: dict[str, str]

    @property
    def reduced(self) -> dict[str, str]:
        """The parts that are computed on fewer examples than usual, and on how many."""
        return {
            part.name: f"{part.work.said(self.counts[part.work])} of {part.work.full:,}"
            for part in self.parts
            if self.counts[part.work] < part.work.full
        }

    def with_part(self, part: Part, report: Report) -> Report:
        """Returns the report with one more part."""
        made = part.add(report, self.counts[part.work])
        unfinished = [name for name in report.unfinished if name != part.name]
        return dataclasses.replace(made, unfinished=unfinished)


def plan_of(
    parts: Sequence[Part], unwanted: Mapping[str, str], compute: Sections, budget: float | None
) -> Plan:
    """Returns the plan: all parts except those that are unwanted, impossible, or take too long."""
    omitted = {part.name: part.why_not for part in parts if part.why_not} | dict(unwanted)
    wanted = [part for part in parts if part.name not in omitted]
    works = list(dict.fromkeys(part.work for part in wanted))
    counts = {work: work.full for work in works}
    if budget is not None and works:
        costs = measure(compute.model, compute.examples, compute.features)
        counts = counts_within(budget, works, costs)
    for part in wanted:
        if not counts[part.work]:
            least = part.work.said(part.work.least)
            omitted[part.name] = (
                f"takes more than its share of the budget of {budget:g} s, even on the {least}; "
                "budget=None computes it"
            )
    return Plan([part for part in wanted if counts[part.work]], counts, omitted)
