"""Kills a process that replaces a SavedModel again and again; there is always a whole one.

python -m tests.campaigns.exports --kills 20
"""

import argparse
import os
import pathlib
import signal
import tempfile
import time
from typing import Any

import numpy as np
import tensorflow as tf

import keras_vae as kv
from tests.campaigns import tables, trainings
from tests.small_models import make_vae


def export_for_ever(path: pathlib.Path, descriptor: int) -> None:
    """Export models whose decoders have one number in all biases, another one each time."""
    model = make_vae()
    model.build((None, 8, 8, 1))
    for number in range(1_000):
        for weight in model.weights:
            weight.assign(tf.fill(weight.shape, tf.cast(number + 1, weight.dtype)))
        kv.export_saved_model(model, path, overwrite=True)
        if not number:
            os.write(descriptor, b"b")


def is_whole(path: pathlib.Path) -> bool:
    """Return whether there is a model, all of whose weights are of one export."""
    if not (path / "saved_model.pb").exists():
        return False
    reader = tf.train.load_checkpoint(str(path / "variables" / "variables"))
    found = set()
    for name, dtype in reader.get_variable_to_dtype_map().items():
        if dtype == tf.float32:
            found |= set(np.unique(reader.get_tensor(name)).tolist())
    return len(found) == 1


def run(count: int, seed: int = 0) -> dict[str, Any]:
    """Kill at so many random moments."""
    rng, whole, most = np.random.default_rng(seed), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "1")
        for _ in range(count):
            result = pathlib.Path(folder, "result.json")
            child = trainings.Child(lambda pipe: export_for_ever(path, pipe), result)
            if not child.wait_until_begun():
                raise RuntimeError(child.errors.read_text())
            left = [one for one in os.listdir(folder) if one.startswith(".1-")]
            most = max(most, len(left))
            time.sleep(rng.uniform(0.0, 3.0))
            child.kill(signal.SIGKILL)
            child.wait()
            whole += is_whole(path)
    return tables.row("SIGKILL during export_saved_model(overwrite=True)", count, whole, left=most)


def main() -> None:
    """Run the whole campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    tables.write("exports", [run(parser.parse_args().kills)])


if __name__ == "__main__":
    main()
