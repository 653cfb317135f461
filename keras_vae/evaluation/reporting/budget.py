"""Decides how many examples each evaluation of a report may use within a time budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from keras_vae.evaluation.reporting.costs import Costs

# Share of the budget for the evaluations; the rest goes to measuring, drawing and writing.
_SHARE = 0.75


@dataclasses.dataclass(frozen=True, eq=False)
class Work:
    """A task of a report, done on as many examples as there is time for.

    Attributes:
        full: Number of examples to use if time does not matter.
        least: Number of examples below which the task is not worth doing.
        whole: Number of examples there are; if all of them are used, this needs no note.
        seconds: Function that returns the time for a number of examples, given the model's costs.
        name: What the examples are called, `"first {:,} examples"`.
    """

    full: int
    least: int
    whole: int
    seconds: Callable[[Costs, int], float]
    name: str = "first {:,} examples"

    def said(self, count: int) -> str:
        """Returns a phrase for `count` examples."""
        return self.name.format(count) if count > 1 else "first example"

    def note(self, count: int) -> str:
        """Returns the note for a value computed on `count` examples, or an empty string."""
        if count == self.whole:
            return ""
        return self.said(count) if count == self.full else f"reduced: {self.said(count)}"

    def choices(self) -> Iterable[int]:
        """Yields the numbers of examples to choose from: all, a half, a quarter, ...

        They are coarse, so that the same command gives the same results although no two time
        measurements agree.
        """
        count = self.full
        while count >= self.least:
            yield count
            count //= 2


def counts_within(budget: float, works: Sequence[Work], costs: Costs) -> dict[Work, int]:
    """Returns on how many examples to do each work within `budget` seconds; 0 means not at all.

    Each may take an equal share of the time, and whatever one leaves of its share goes to the
    others. Works that cannot be done within their share are left out, the longest first.
    """
    left_out: list[Work] = []
    while True:
        kept = [work for work in works if work not in left_out]
        shares = _shares([work.seconds(costs, work.full) for work in kept], _SHARE * budget)
        found = {
            work: next((n for n in work.choices() if work.seconds(costs, n) <= share), 0)
            for work, share in zip(kept, shares, strict=True)
        }
        impossible = [work for work in kept if not found[work]]
        if not impossible:
            return {**dict.fromkeys(left_out, 0), **found}
        left_out.append(max(impossible, key=lambda work: work.seconds(costs, work.least)))


def _shares(wanted: Sequence[float], total: float) -> list[float]:
    """Returns each one's share of the total: what it wants, or else as much as any other gets."""
    shares, left = [0.0] * len(wanted), total
    ascending = sorted(range(len(wanted)), key=lambda i: wanted[i])
    for rank, i in enumerate(ascending):
        shares[i] = min(wanted[i], left / (len(wanted) - rank))
        left -= shares[i]
    return shares
