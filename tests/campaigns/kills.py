"""Kills trainings at random moments; what is left in the end is that of the unbroken training.

python -m tests.campaigns.kills --kills 60 --terms 20
"""

import argparse
import pathlib
import tempfile
import time
from typing import Any

import numpy as np

from tests.campaigns import tables, trainings


def run(name: str, kind: str, count: int, rng: np.random.Generator) -> dict[str, Any]:
    """Interrupt trainings of a model so many times in all, five times each at most."""
    number = trainings.SIGNALS[kind]
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        expected, _ = trainings.interrupted(name, pathlib.Path(folder, "unbroken"), [])
        seconds = 0.5 * (time.monotonic() - start)
        ends, differences = [], 0
        for i in range(-(-count // 5)):
            left = count - len(ends)
            delays = [(number, rng.uniform(0.0, seconds)) for _ in range(min(5, left))]
            found, more = trainings.interrupted(name, pathlib.Path(folder, str(i)), delays)
            ends += more
            differences += sum(found[what] != expected[what] for what in expected)
    codes = {"kill": -number, "term": 128 + number}
    right = sum(code in (codes[kind], -number) for code, _, _ in ends)
    return tables.row(
        f"SIG{kind.upper()} during a training of a {name}",
        len(ends),
        right if not differences else 0,
        during_writes=sum(writing for _, writing, _ in ends),
        told=sum("The training is kept in" in text for _, _, text in ends),
        differences=differences,
    )


def main() -> None:
    """Run the whole campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--terms", type=int, default=20)
    parser.add_argument("--models", nargs="*", default=list(trainings.MAKERS))
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    for kind, count in (("kill", args.kills), ("term", args.terms)):
        for name in args.models if count else ():
            row = run(name, kind, -(-count // len(args.models)), rng)
            tables.write("kills", [*tables.others("kills", row), row])


if __name__ == "__main__":
    main()
