"""Digests of what trainings compute, to hold a refactoring against the state before it.

    python tests/digests.py record before.json
    python tests/digests.py compare before.json

Every model is trained in every mode: weights, optimizer state, logs and evaluations of each become
one digest. `record` writes them, `compare` computes them again and prints a table of what is no
longer equal to the last bit. Digests are those of one machine and one version of TensorFlow, so the
files are not kept in the repository; only the public API is used, so that both states can run it.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np
import tensorflow as tf

import keras_vae as kv

SHAPE, LATENT, BATCH, EXAMPLES, EPOCHS = (6, 6, 1), 3, 8, 40, 2


def parts(**changes: Any) -> dict[str, Any]:
    """Returns the arguments of a small VAE, some of them changed."""
    arguments = {
        "encoder": kv.networks.MLPEncoder((16,)),
        "decoder": kv.networks.MLPDecoder(SHAPE, (16,)),
        "posterior": kv.posteriors.DiagonalNormal(LATENT),
        "likelihood": kv.likelihoods.Bernoulli(SHAPE),
    }
    return {**arguments, **changes}


def make_convolutional() -> kv.VAE:
    """Returns a model with Dropout and BatchNormalization, whose state the forward pass changes."""
    encoder = keras.Sequential(
        [
            keras.layers.Conv2D(4, 3, padding="same", activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.2, seed=3),
        ]
    )
    return kv.VAE(**parts(encoder=encoder))


def make_discrete() -> kv.VAE:
    """Returns a model with binary z, trained by the score function."""
    return kv.VAE(
        **parts(posterior=kv.posteriors.Bernoulli(LATENT), prior=kv.priors.Bernoulli(LATENT)),
        objective=kv.objectives.ImportanceWeighted(3, estimator="score_function"),
    )


def make_flows() -> kv.VAE:
    """Returns a model whose posterior and prior are flows."""
    return kv.VAE(
        **parts(
            posterior=kv.posteriors.AutoregressiveFlow(LATENT, 1, (8,)),
            prior=kv.priors.AutoregressiveFlow(LATENT, 1, (8,)),
        ),
        objective=kv.objectives.ELBO(num_samples=2, estimator="sticking_the_landing"),
    )


def make_grey() -> kv.VAE:
    """Returns a model of 256 grey values with a VampPrior."""
    likelihood = kv.likelihoods.DiscretizedLogisticMixture(SHAPE, 2)
    return kv.VAE(
        **parts(
            likelihood=likelihood,
            decoder=kv.networks.MLPDecoder(likelihood.params_shape, (16,)),
            prior=kv.priors.VampPrior(LATENT, 5),
        ),
        objective=kv.objectives.ELBO(free_bits=0.1),
    )


def with_objective(objective: Callable[[], Any], **changes: Callable[[], Any]) -> Callable:
    """Returns what makes a VAE with this objective, and with other parts."""
    return lambda: kv.VAE(
        **parts(**{name: make() for name, make in changes.items()}), objective=objective()
    )


MODELS: dict[str, Callable[[], kv.VAE]] = {
    "VAE": lambda: kv.VAE(**parts()),
    "BetaVAE": lambda: kv.BetaVAE(**parts(), beta=2.0),
    "IWAE": lambda: kv.IWAE(**parts(), num_samples=4),
    "DReG": lambda: kv.IWAE(**parts(), num_samples=4, estimator="doubly_reparameterized"),
    "GECOVAE": lambda: kv.GECOVAE(
        **parts(likelihood=kv.likelihoods.Normal(SHAPE, scale="shared")),
        constraint=kv.objectives.SquaredError(2.0),
    ),
    "ConditionalVAE": lambda: kv.ConditionalVAE(**parts(), condition=3),
    "convolutional": make_convolutional,
    "discrete": make_discrete,
    "flows": make_flows,
    "grey": make_grey,
    "BetaTC": with_objective(lambda: kv.objectives.BetaTC(dataset_size=EXAMPLES)),
    "DIP": with_objective(lambda: kv.objectives.DIP(lambda_od=10.0, lambda_d=5.0)),
    "InfoVAE": with_objective(lambda: kv.objectives.InfoVAE(alpha=0.0, lambda_=10.0)),
    "TargetKL": with_objective(lambda: kv.objectives.TargetKL(5.0)),
    "full covariance": with_objective(
        lambda: kv.objectives.ELBO(),
        posterior=lambda: kv.posteriors.FullCovarianceNormal(LATENT),
        prior=lambda: kv.priors.MixtureOfNormals(LATENT, 3),
    ),
}

# What `compile` and `fit` are given, by the name of the mode.
MODES: dict[str, dict[str, Any]] = {
    "graph": {"jit_compile": False, "steps_per_execution": 1},
    "XLA": {"jit_compile": True, "steps_per_execution": 1},
    "graph, 5 steps": {"jit_compile": False, "steps_per_execution": 5},
    "XLA, 5 steps": {"jit_compile": True, "steps_per_execution": 5},
    "XLA, whole step": {"jit_compile": True, "steps_per_execution": 5},
    "eager": {"run_eagerly": True},
    "replicas": {"jit_compile": False, "steps_per_execution": 1},
    "skipped steps": {"jit_compile": False, "steps_per_execution": 5},
    "resumed": {"jit_compile": False, "steps_per_execution": 1},
    "by part": {"jit_compile": False, "steps_per_execution": 1},
    "mixed_bfloat16": {"jit_compile": False, "steps_per_execution": 1},
}


def make_data(labels: bool, spoiled: bool) -> tf.data.Dataset:
    """Returns batches of x or `(x, y)`; spoiled, the third batch has a weight that overflows."""
    rng = np.random.default_rng(0)
    x = (rng.random((EXAMPLES, *SHAPE)) < 0.4).astype(np.float32)
    y = rng.integers(0, 3, EXAMPLES)
    weights = np.ones(EXAMPLES, np.float32)
    if spoiled:
        weights[2 * BATCH : 3 * BATCH] = 3e38
    if spoiled:
        arrays: Any = (x, y, weights)
    else:
        arrays = (x, y) if labels else x
    return tf.data.Dataset.from_tensor_slices(arrays).batch(BATCH)


def make_callbacks(model: kv.VAE, mode: str) -> list[Any]:
    """Returns callbacks that drive what the model has."""
    names = set(model.hyperparameters)
    callbacks: list[Any] = []
    if "beta" in names:
        callbacks.append(kv.callbacks.KLAnnealing(kv.schedules.Linear(0.0, 1.0, steps=7)))
    if isinstance(model, kv.GECOVAE):
        callbacks.append(kv.callbacks.GECO())
    if "learning_rate" in names:
        rate = kv.schedules.Cyclical(1e-3, 1e-2, period=6)
        callbacks.append(kv.callbacks.HyperparameterSchedule("learning_rate", rate))
    if mode in ("XLA, whole step", "eager"):
        return callbacks  # `HealthCheck` observes the step, for which XLA compiles its parts.
    policy = "skip" if mode == "skipped steps" else "raise"
    return [*callbacks, kv.callbacks.HealthCheck(non_finite=policy)]


@functools.cache
def replicas() -> tf.distribute.Strategy:
    """Returns two logical CPUs; one strategy for all, as its operations are numbered."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def train(name: str, mode: str, folder: str) -> tuple[kv.VAE, dict[str, Any], Any]:
    """Returns a trained model, its logs, and the data for its evaluation."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("mixed_bfloat16" if mode == "mixed_bfloat16" else "float32")
    strategy = replicas() if mode == "replicas" else tf.distribute.get_strategy()
    with strategy.scope():
        model = MODELS[name]()
        # Clipped, the gradients of the spoiled batch would be fit for a step.
        clipped = None if mode == "skipped steps" else 50.0
        optimizer: Any = keras.optimizers.Adam(1e-2, global_clipnorm=clipped)
        if mode == "by part":
            adam = keras.optimizers.Adam
            optimizer = kv.optimizers.by_part(model, encoder=adam(1e-2), default=adam(3e-3))
        model.compile(optimizer, **MODES[mode])
    labels = isinstance(model, kv.ConditionalVAE)
    data = make_data(labels, spoiled=mode == "skipped steps")
    if mode != "resumed":
        history = model.fit(
            data, epochs=EPOCHS, verbose=0, callbacks=make_callbacks(model, mode)
        ).history
        return model, history, make_data(labels, False)
    resume = kv.callbacks.Resume(folder)
    first = {"callbacks": [*make_callbacks(model, mode), resume], "verbose": 0}
    model.fit(data, epochs=1, **first)
    keras.utils.set_random_seed(1)
    model = MODELS[name]()
    model.compile(keras.optimizers.Adam(1e-2, global_clipnorm=50.0), **MODES[mode])
    resume = kv.callbacks.Resume(folder)
    second = {"callbacks": [*make_callbacks(model, mode), resume], "verbose": 0}
    history = model.fit(data, epochs=EPOCHS, initial_epoch=resume.epoch, **second).history
    return model, history, make_data(labels, False)


def compute_digest(name: str, mode: str) -> dict[str, str]:
    """Returns digests of the weights, the logs and the evaluations of one training."""
    with tempfile.TemporaryDirectory() as folder:
        model, history, data = train(name, mode, folder)
    weights = [*model.weights, *model.optimizer.variables]
    arrays = sorted((v.path, np.asarray(v)) for v in weights if "seed_generator" not in v.path)
    found = {
        "weights": digest_of([array for _, array in arrays]),
        "logs": digest_of([np.asarray(history[key]) for key in sorted(history)]),
    }
    if mode == "graph":
        logs = model.evaluate(data, return_dict=True, verbose=0)
        likelihood = kv.evaluation.log_likelihood(model, data, num_samples=7, verbose=False)
        images = (
            model.sample(4, seed=1) if name != "ConditionalVAE" else model.sample(3, y=[0, 1, 2])
        )
        found["evaluations"] = digest_of(
            [*(np.asarray(logs[key]) for key in sorted(logs)), likelihood.mean, images]
        )
    keras.utils.clear_session(free_memory=False)
    keras.config.set_dtype_policy("float32")
    return found


def digest_of(arrays: list[Any]) -> str:
    """Returns a digest of numbers, which changes with any of their bits."""
    sha = hashlib.sha256()
    for array in arrays:
        array = np.asarray(array)
        sha.update(f"{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()[:16]


def run_all(names: list[str], modes: list[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the digests of every model in every mode, telling of each on the screen."""
    for name in names:
        for mode in modes:
            print(f"\r{name}, {mode}".ljust(60), end="", file=sys.stderr, flush=True)
            try:
                yield f"{name} | {mode}", compute_digest(name, mode)
            except Exception as error:  # An error, too, should be the same before and after.
                yield f"{name} | {mode}", {"error": f"{type(error).__name__}: {error}"[:300]}
    print(file=sys.stderr)


def print_comparison(before: dict[str, Any], after: dict[str, Any]) -> int:
    """Prints a row for every training, and returns how many are not equal."""
    different = 0
    for key, found in sorted(after.items()):
        changed = [kind for kind in found if before.get(key, {}).get(kind) != found[kind]]
        if "error" in found:
            result = f"FAILS: {found['error']}"
        else:
            result = f"DIFFERS in {', '.join(changed)}" if changed else "equal"
        different += result != "equal"
        print(f"{key:45s} {result}")
    print(f"{len(after) - different} equal, {different} not")
    return different


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["record", "compare"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--modes", nargs="*", default=list(MODES))
    options = parser.parse_args()
    devices = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
    found = dict(run_all(options.models, options.modes))
    if options.command == "record":
        options.file.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
        return 0
    return min(print_comparison(json.loads(options.file.read_text()), found), 1)


if __name__ == "__main__":
    sys.exit(main())
