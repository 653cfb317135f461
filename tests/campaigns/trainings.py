"""Small trainings in processes of their own, which can be killed, and all that is left of them."""

import contextlib
import hashlib
import json
import os
import pathlib
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import keras_vae as kv
from tests.small_models import make_vae, parts

IMAGE = (8, 8, 1)
EPOCHS, EVERY = 6, 5


def with_noise() -> keras.Model:
    """Return an encoder with noise, seeds and statistics of its own."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Flatten(), keras.layers.GaussianNoise(0.1), keras.layers.Dense(8)]
    layers += [keras.layers.BatchNormalization(), keras.layers.Dropout(0.2)]
    return keras.Sequential([keras.Input(IMAGE), *layers])


def make_plain() -> keras.Model:
    """Return a VAE whose β is annealed."""
    return make_vae(encoder=with_noise())


def make_geco() -> keras.Model:
    """Return a VAE whose multiplier follows a constraint."""
    return make_vae(objective=kv.objectives.GECO(kv.objectives.SquaredError(kappa=2.0)))


def make_codes() -> keras.Model:
    """Return a VQ-VAE, whose codebook is an average."""
    keras.utils.set_random_seed(0)
    return kv.VQVAE(
        encoder=keras.Sequential(
            [keras.Input(IMAGE), keras.layers.Conv2D(4, 4, strides=4, padding="same")]
        ),
        decoder=keras.Sequential(
            [keras.Input((2, 2, 3)), keras.layers.Conv2DTranspose(1, 4, strides=4, padding="same")]
        ),
        posterior=kv.posteriors.VectorQuantizer((2, 2), 8, 3),
        likelihood=kv.likelihoods.Bernoulli(IMAGE),
    )


def make_adversarial() -> keras.Model:
    """Return a VAE-GAN with an optimizer for each part."""
    keras.utils.set_random_seed(0)
    discriminator = kv.networks.ConvDiscriminator((4,), dense_units=8)
    return kv.VAEGAN(**parts(), discriminator=discriminator)


MAKERS: dict[str, Callable[[], Any]] = {
    "VAE": make_plain,
    "GECO": make_geco,
    "VQVAE": make_codes,
    "VAEGAN": make_adversarial,
}
CALLBACKS: dict[str, Callable[[], list[Any]]] = {
    "VAE": lambda: [kv.callbacks.KLAnnealing(kv.schedules.Linear(0.0, 1.0, steps=100))],
    "GECO": lambda: [kv.callbacks.GECO()],
    "VAEGAN": lambda: [kv.callbacks.Equilibrium()],
}


class Beacon(keras.callbacks.Callback):
    """Tells another process that the training has begun."""

    def __init__(self, descriptor: int):
        super().__init__()
        self._descriptor = descriptor

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        pass

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        os.write(self._descriptor, b"b")


def train(name: str, folder: pathlib.Path, descriptor: int, epochs: int = EPOCHS) -> dict[str, Any]:
    """Train, or go on, and return checksums of all that is left."""
    model = MAKERS[name]()
    if name == "VAEGAN":
        rates = {part: keras.optimizers.Adam(1e-3) for part in model.trainable_parts}
        model.compile(kv.optimizers.by_part(model, **rates), jit_compile=False)
    else:
        model.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
    x = np.random.default_rng(0).integers(0, 2, (400, *IMAGE)).astype("float32")
    resume = kv.callbacks.Resume(folder, every=EVERY)
    plateau = keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=1.0)
    table = keras.callbacks.CSVLogger(folder / "table.csv")
    own = CALLBACKS.get(name, list)()
    more = [plateau] if name in ("VAE", "GECO") else []
    history = model.fit(
        x,
        epochs=epochs,
        initial_epoch=resume.epoch,
        batch_size=16,
        verbose=0,
        validation_data=x[:32],
        callbacks=[*own, *more, table, Beacon(descriptor), resume],
    )
    return digests(model, history, folder)


def digests(model: Any, history: Any, folder: pathlib.Path) -> dict[str, Any]:
    """Return a checksum of each of weights, slots, driven numbers, noise, history and table."""

    def digest(variables: list[Any]) -> str:
        values = b"".join(np.asarray(variable).tobytes() for variable in variables)
        return hashlib.sha256(values).hexdigest()

    weights = {id(v) for v in model.weights}
    means = {id(v) for metric in model.metrics for v in metric.variables}
    noise = [v for v in model.variables if id(v) not in weights | means]
    return {
        "weights": digest(model.weights),
        "slots": digest(model.optimizer.variables),
        "driven": digest(list(model.hyperparameters.values())),
        "noise": digest(noise),
        "history": json.dumps(history.history),
        "table": (folder / "table.csv").read_text(),
    }


class Child:
    """A process that runs a function, from a fork that has imported everything already."""

    def __init__(self, function: Callable[[int], Any], result: pathlib.Path):
        reading, writing = os.pipe()
        self._reading, self._result = reading, result
        self.errors = result.with_suffix(".err")
        self.pid = os.fork()
        if not self.pid:
            _run(function, writing, result, self.errors)
        os.close(writing)

    def wait_until_begun(self) -> bool:
        """Wait until the training has begun; return whether the process lives."""
        return bool(os.read(self._reading, 1))

    def kill(self, number: int) -> None:
        """Send a signal."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self) -> tuple[int, Any]:
        """Return the exit code, minus a signal that ended it, and what the function returned."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self._reading)
        code = os.waitstatus_to_exitcode(status)
        found = json.loads(self._result.read_text()) if code == 0 else None
        return code, found


def _run(
    function: Callable[[int], Any],
    writing: int,
    result: pathlib.Path,
    errors: pathlib.Path,
) -> None:
    code = 1
    try:
        with open(errors, "w") as file:
            os.dup2(file.fileno(), 2)
            sys.stderr = file
            warnings.simplefilter("always")
            try:
                result.write_text(json.dumps(function(writing)))
                code = 0
            except SystemExit as end:
                code = int(end.code or 0)
            except BaseException:
                traceback.print_exc()
            file.flush()
    finally:
        os._exit(code)


def interrupted(
    name: str, folder: pathlib.Path, signals: list[tuple[int, float]]
) -> tuple[Any, list[tuple[int, bool, str]]]:
    """Train with signals, each so many seconds after a start; return what is left, and each end.

    An end is the exit code, whether a file was being written, and what was told.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ends = []
    for number, delay in [*signals, (0, 0.0)]:
        child = Child(lambda pipe: train(name, folder, pipe), folder / "result.json")
        if number and child.wait_until_begun():
            time.sleep(delay)
            child.kill(number)
        code, found = child.wait()
        writing = any(path.name.startswith(".epoch_") for path in folder.iterdir())
        if code == 0:
            return found, ends
        ends.append((code, writing, child.errors.read_text()))
        if not number:
            raise RuntimeError(f"{name} failed: {ends[-1][2][-2000:]}")
    raise RuntimeError(f"{name} never ended")


SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM}
