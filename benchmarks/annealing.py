"""Trains a network that is prone to posterior collapse on MNIST, with and without annealing of β.

The decoder has five hidden layers of 200 tanh units: while it has learnt nothing yet, the KL
switches latent dimensions off, and most of them stay off. Rows, all with β = 1 at the end:

    constant    β = 1 from the start
    warm_up     β rises from 0 to 1 over the first half of the training
    cyclical    four cycles, in each β rises from 0 to 1 over a half and stays there

    python -m benchmarks.annealing

Models and logs go to `runs/annealing`, results to `benchmarks/results/annealing.json` and `.md`;
`docs/figures/annealing.py` draws them. A row takes some minutes on two cores; one that is
interrupted goes on after its last epoch.
"""

from __future__ import annotations

import statistics
from typing import Any

import keras

import keras_vae as kv
from benchmarks import mnist_runs, records

DECODER, CYCLES = (200,) * 5, 4


def warm_up(steps: int) -> kv.schedules.Schedule:
    """Returns the linear warm-up of β."""
    return kv.schedules.Linear(0.0, 1.0, steps // 2)


def cyclical(steps: int) -> kv.schedules.Schedule:
    """Returns the cycles of Fu et al., 2019."""
    options = {"shape": "ramp_and_hold", "ramp": 0.5, "cycles": CYCLES}
    return kv.schedules.Cyclical(0.0, 1.0, max(2, steps // CYCLES), **options)


SCHEDULES = {"constant": None, "warm_up": warm_up, "cyclical": cyclical}


def run(name: str, epochs: int) -> mnist_runs.Run:
    """Returns the training of a row."""
    schedule = SCHEDULES[name]

    def callbacks(steps: int) -> list[keras.callbacks.Callback]:
        return [] if schedule is None else [kv.callbacks.KLAnnealing(schedule(steps))]

    return mnist_runs.Run(callbacks, epochs, decoder=DECODER)


def table(rows: dict[str, Any]) -> str:
    """Returns a table of the rows, with means and standard deviations over the seeds."""
    lines = [
        "| annealing | seeds | active units | test KL | test ELBO | log p(x) | time |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in (name for name in SCHEDULES if name in rows):
        row = rows[name]
        units = ", ".join(str(row[seed]["active_units"]) for seed in sorted(row))
        minutes = statistics.mean([seed["training_seconds"] for seed in row.values()]) / 60
        parts = [records.spread(row, key) for key in ("kl", "elbo", "log_likelihood")]
        lines.append(
            f"| {name} | {len(row)} | {units} of {mnist_runs.LATENT_DIM} | {' | '.join(parts)} "
            f"| {minutes:.0f} min |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Runs the rows, and returns the results so far, by row and seed."""
    parser = mnist_runs.parser(__doc__, "annealing", list(SCHEDULES))
    parser.add_argument("--epochs", type=int, default=10)
    args = parser.parse_args(arguments)
    runs = {name: run(name, args.epochs) for name in SCHEDULES}
    rows = mnist_runs.run_all(runs, args)["rows"]
    return records.finish(rows, table(rows), args.results)


if __name__ == "__main__":
    main()
