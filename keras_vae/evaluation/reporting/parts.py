"""The parts of a report: what each adds, how long it takes, and which are wanted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from keras_vae.core import checks
from keras_vae.evaluation.reporting.budget import Work
from keras_vae.evaluation.reporting.result import TITLES, Report
from keras_vae.evaluation.reporting.row import Row
from keras_vae.evaluation.reporting.sections import Sections
from keras_vae.evaluation.reporting.works import works_of

LIKELIHOOD, LATENT, RECONSTRUCTION, SAMPLES, DISENTANGLEMENT = TITLES
FIGURES = "Figures"
# The section of every part, in the order of computation, where what takes longest comes last.
PARTS = {
    "ELBO": LIKELIHOOD,
    "log p(x)": LIKELIHOOD,
    "active units": LATENT,
    "reconstruction": RECONSTRUCTION,
    "parts of the KL": LATENT,
    "samples": SAMPLES,
    "figures": FIGURES,
    "annealed importance sampling": LIKELIHOOD,
    "gaps of inference": LATENT,
    "disentanglement": DISENTANGLEMENT,
}


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a report.

    Attributes:
        name: One of `PARTS`.
        work: The work that it takes.
        add: Function that takes a report and the number of examples, and returns the report with
            this part added.
        why_not: Why the model or the data do not allow this part; empty if they do.
    """

    name: str
    work: Work
    add: Callable[[Report, int], Report]
    why_not: str = ""


def all_parts(compute: Sections, add_figures: Callable[[Report, int], Report]) -> list[Part]:
    """Returns all parts, in order."""
    works = works_of(compute)

    def numbers(
        name: str,
        method: Callable[[int], list[Row]],
        why_not: str = "",
        per_dimension: Callable[[int], dict[str, list[Any]]] = lambda count: {},
    ) -> Part:
        def add(report: Report, count: int) -> Report:
            note = works[name].note(count)
            rows = [row.computed_on(count, note) for row in method(count)]
            return report.with_rows(PARTS[name], rows, **per_dimension(count))

        return Part(name, works[name], add, why_not)

    return [
        numbers("ELBO", compute.bounds, per_dimension=compute.mean_kl),
        numbers("log p(x)", compute.log_p_x),
        numbers("active units", compute.active_units, compute.why_no_units(), compute.variances),
        numbers("reconstruction", compute.reconstruction),
        numbers("parts of the KL", compute.decomposition, compute.why_no_decomposition()),
        numbers("samples", compute.samples, compute.why_no_samples()),
        Part("figures", works["figures"], add_figures),
        numbers("annealed importance sampling", compute.annealed, compute.why_not_annealed()),
        numbers("gaps of inference", compute.gap, compute.why_no_gap()),
        numbers("disentanglement", compute.disentanglement, compute.why_no_disentanglement()),
    ]


def left_out(skip: Any, only: Any) -> dict[str, str]:
    """Returns the reasons for leaving out parts that `skip` names or that `only` does not.

    Args:
        skip: Names of sections or parts, or a single name; None for none.
        only: The same; None for all.

    Example:
        >>> sorted(left_out("samples", None)), len(left_out(None, ["Likelihood", "active_units"]))
        (['samples'], 6)
    """
    if skip is not None and only is not None:
        raise checks.invalid("only", "must be None if `skip` is given", only)
    if only is not None:
        chosen = _named("only", only)
        return {name: "not named in `only`" for name in PARTS if name not in chosen}
    return dict.fromkeys(_named("skip", () if skip is None else skip), "named in `skip`")


def _named(argument: str, given: Any) -> list[str]:
    """Returns the parts that the given names of parts or sections stand for."""
    several = isinstance(given, Iterable) and not isinstance(given, str)
    names = list(given) if several else [given]
    if not all(isinstance(name, str) for name in names):
        raise checks.invalid(argument, "must be names of sections or of their parts", given)
    wanted = {_plain(name) for name in names}
    known = list(dict.fromkeys([*TITLES, *PARTS]))
    if wanted - {_plain(name) for name in known}:
        raise checks.invalid(argument, f"must be among {known}", given)
    return [name for name, title in PARTS.items() if {_plain(name), _plain(title)} & wanted]


def _plain(name: str) -> str:
    return name.casefold().replace("_", " ")
