"""Trains for hundreds of thousands of steps with everything on; memory, speed and traces must stay.

python -m tests.campaigns.soak --steps 200000 --minutes 60
"""

import argparse
import pathlib
import tempfile
import time
from typing import Any

import keras
import numpy as np

import keras_vae as kv
from tests.campaigns import tables
from tests.integration.memory import MEBIBYTE, resident
from tests.small_models import binary_images, make_vae

STEPS_PER_EPOCH = 500


class Gauge(keras.callbacks.Callback):
    """Measures memory and speed after every epoch, and ends the training when time is up."""

    def __init__(self, seconds: float):
        super().__init__()
        self.memory: list[float] = []
        self.rates: list[float] = []
        self._end = time.monotonic() + seconds
        self._start = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.rates.append(STEPS_PER_EPOCH / (time.monotonic() - self._start))
        self.memory.append(resident() / MEBIBYTE)
        if time.monotonic() > self._end:
            self.model.stop_training = True


def slope(values: list[float]) -> tuple[float, float]:
    """Return the slope of a line through values, and its standard error."""
    x = np.arange(len(values)) - (len(values) - 1) / 2
    y = np.asarray(values) - np.mean(values)
    fitted = float(x @ y / (x @ x))
    rest = y - fitted * x
    return fitted, float(np.sqrt(rest @ rest / (len(x) - 2) / (x @ x)))


def run(steps: int, seconds: float) -> dict[str, Any]:
    """Train with all callbacks for so many steps, or so long."""
    x = binary_images(16 * STEPS_PER_EPOCH)
    model = make_vae(objective=kv.objectives.GECO(kv.objectives.SquaredError(kappa=2.0)))
    model.compile(keras.optimizers.Adam(1e-3), steps_per_execution=10)
    gauge = Gauge(seconds)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        callbacks = [
            kv.callbacks.GECO(),
            kv.callbacks.Resume(folder / "resume", every=100),
            kv.callbacks.GradientMonitor(log_dir=folder / "logs"),
            kv.callbacks.LatentMonitor(x[:64], every=20),
            kv.callbacks.HealthCheck(x[:64], non_finite="skip", every=20),
            keras.callbacks.CSVLogger(folder / "table.csv"),
            gauge,
        ]
        epochs = max(steps // STEPS_PER_EPOCH, 4)
        model.fit(x, batch_size=16, epochs=epochs, verbose=0, callbacks=callbacks)
    warm = len(gauge.memory) // 5
    grown, error = slope(gauge.memory[warm:])
    per = 1000 / STEPS_PER_EPOCH
    half = len(gauge.rates) // 2
    first, last = np.median(gauge.rates[warm : max(half, warm + 1)]), np.median(gauge.rates[half:])
    return {
        "fault": "a long training with all callbacks",
        "steps": STEPS_PER_EPOCH * len(gauge.memory),
        "mebibytes a thousand steps": round(per * grown, 4),
        "standard error": round(per * error, 4),
        "steps a second, first half": round(float(first), 1),
        "second half": round(float(last), 1),
    }


def main() -> None:
    """Run the whole campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--minutes", type=float, default=24 * 60.0)
    args = parser.parse_args()
    tables.write("soak", [run(args.steps, 60.0 * args.minutes)])


if __name__ == "__main__":
    main()
