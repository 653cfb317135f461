"""Trains on MNIST with constant learning rates, and by the one-cycle policy in half of the epochs.

The network is that of Burda et al., 2016, with one stochastic layer, 784-200-200-50; Adam, batches
of 100, one sample of z. Rows, by default with 40 epochs, and 20 of the cycle:

    constant_0.0005, constant_0.001, constant_0.002
    one_cycle          from 3e-3 / 25 up to 3e-3 over 30 % of the steps, and down to almost 0 in
                       the step after the last (`endpoint=False`)

    python -m benchmarks.one_cycle

Models and logs go to `runs/one_cycle`, results to `benchmarks/results/one_cycle.json` and `.md`;
`docs/figures/one_cycle.py` draws them. A row takes some minutes on two cores; one that is
interrupted goes on after its last epoch.
"""

from __future__ import annotations

import statistics
from typing import Any

import keras

import keras_vae as kv
from benchmarks import mnist_runs, records

RATES = (5e-4, 1e-3, 2e-3)


def rows_of(epochs: int, peak: float, warmup: float) -> dict[str, mnist_runs.Run]:
    """Returns the trainings: constant rates, and one cycle in half of the epochs."""

    def cycle(steps: int) -> list[keras.callbacks.Callback]:
        options = {"warmup": warmup, "endpoint": False}
        return [kv.callbacks.OneCycleLearningRate(peak, steps, **options)]

    constant = {f"constant_{rate:g}": mnist_runs.Run(lambda _: [], epochs, rate) for rate in RATES}
    return {**constant, "one_cycle": mnist_runs.Run(cycle, max(1, epochs // 2), peak)}


def table(rows: dict[str, Any]) -> str:
    """Returns a table of the rows, with means and standard deviations over the seeds."""
    lines = [
        "| learning rate | epochs | seeds | test ELBO | log p(x) | time |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        seeds = list(row.values())
        minutes = statistics.mean(seed["training_seconds"] for seed in seeds) / 60
        parts = [records.spread(row, key) for key in ("elbo", "log_likelihood")]
        lines.append(
            f"| {name} | {seeds[0]['epochs']} | {len(row)} | {' | '.join(parts)} "
            f"| {minutes:.0f} min |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Runs the rows, and returns the results so far, by row and seed."""
    parser = mnist_runs.parser(__doc__, "one_cycle", list(rows_of(2, 1.0, 0.1)))
    parser.add_argument("--epochs", type=int, default=40, help="of the constant rates")
    parser.add_argument("--peak", type=float, default=3e-3, help="of the cycle")
    parser.add_argument("--warmup", type=float, default=0.3, help="fraction of the cycle")
    args = parser.parse_args(arguments)
    rows = mnist_runs.run_all(rows_of(args.epochs, args.peak, args.warmup), args)["rows"]
    return records.finish(rows, table(rows), args.results)


if __name__ == "__main__":
    main()
