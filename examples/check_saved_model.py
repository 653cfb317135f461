"""Calls every signature of a SavedModel and compares the outputs with those of the model.

Needs nothing but TensorFlow. The expected outputs are in the SavedModel's folder `assets.extra`,
where `mnist_5k.py` wrote them:

    python examples/check_saved_model.py saved_models/mnist_5k/1
"""

from __future__ import annotations

import json
import pathlib
import sys

import tensorflow as tf


def check(path: pathlib.Path, tolerance: float = 1e-4) -> dict[str, float]:
    """Returns the largest relative difference of each signature's outputs.

    Raises:
        SystemExit: If one is larger than the tolerance.
    """
    served = tf.saved_model.load(str(path))
    expected = json.loads((path / "assets.extra" / "expected.json").read_text())
    differences = {}
    for name, call in expected.items():
        signature = served.signatures[name]
        _, specs = signature.structured_input_signature
        inputs = {
            key: tf.constant(value, specs[key].dtype) for key, value in call["inputs"].items()
        }
        outputs = signature(**inputs)
        differences[name] = max(
            _difference(outputs[key], value) for key, value in call["outputs"].items()
        )
        if not differences[name] <= tolerance:
            sys.exit(f"{name}: the outputs differ from the model's by {differences[name]:.1e}")
    return differences


def _difference(output: tf.Tensor, expected: list) -> float:
    expected = tf.constant(expected, output.dtype)
    scale = tf.maximum(1.0, tf.reduce_max(tf.abs(expected)))
    return float(tf.reduce_max(tf.abs(output - expected)) / scale)


def draw(image: tf.Tensor) -> str:
    """Draws an image [H, W, 1] in [0, 1] with characters."""
    shades = tf.constant(list(" .:-=+*#%@"))
    rows = tf.gather(shades, tf.cast(image[::2, :, 0] * 9.99, tf.int32))
    return "\n".join(row.decode() for row in tf.strings.reduce_join(rows, axis=1).numpy())


def main() -> None:
    """Checks the SavedModel named on the command line and draws a sample."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    path = pathlib.Path(sys.argv[1])
    for name, difference in check(path).items():
        print(f"{name:<15} equals the model's, largest relative difference {difference:.1e}")
    sample = tf.saved_model.load(str(path)).signatures["sample"]
    print("A digit from the SavedModel, in a process without keras_vae:")
    print(draw(sample(count=tf.constant(1), seed=tf.constant(4))["mean"][0]))
    assert "keras_vae" not in sys.modules


if __name__ == "__main__":
    main()
