"""How many examples each evaluation of a report may take, for the time that it has."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from keras_vae.evaluation.reporting.costs import Costs

# Of the budget, for the evaluations; the rest goes to measuring, drawing and writing.
_SHARE = 0.75


@dataclasses.dataclass(frozen=True, eq=False)
class Work:
    """Something that a report spends time on, on as many examples as there is time for.

    Attributes:
        full: On how many it is done where time does not matter.
        least: Below how many it is not worth doing.
        whole: How many there are, which goes without saying.
        seconds: What it takes on so many, by the costs of the model.
        name: What they are called, `"first {:,} examples"`.
    """

    full: int
    least: int
    whole: int
    seconds: Callable[[Costs, int], float]
    name: str = "first {:,} examples"

    def said(self, count: int) -> str:
        """Returns so many in words."""
        return self.name.format(count) if count > 1 else "first example"

    def note(self, count: int) -> str:
        """Returns what to say of a number that comes from so many, if anything."""
        if count == self.whole:
            return ""
        return self.said(count) if count == self.full else f"reduced: {self.said(count)}"

    def choices(self) -> Iterable[int]:
        """Yields the numbers to choose from: all, a half, a quarter, ...

        They are coarse, so that the same command gives the same numbers although no two
        measurements of a time agree.
        """
        count = self.full
        while count >= self.least:
            yield count
            count //= 2


def counts_within(budget: float, works: Sequence[Work], costs: Costs) -> dict[Work, int]:
    """Returns on how many examples each is done within so many seconds, 0 for not at all.

    Each may take an equal share of the time, and what one leaves of its share goes to the others.
    What cannot be done in its share is left out, the longest first.
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
    """Returns what each gets of the total: what it wants, or else as much as any other."""
    shares, left = [0.0] * len(wanted), total
    ascending = sorted(range(len(wanted)), key=lambda i: wanted[i])
    for rank, i in enumerate(ascending):
        shares[i] = min(wanted[i], left / (len(wanted) - rank))
        left -= shares[i]
    return shares
