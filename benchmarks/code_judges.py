"""What a trained VQ-VAE is worth, and the prior over its codes that it goes on with."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_vae as kv
from benchmarks import training
from benchmarks.rows import Row


@dataclasses.dataclass(frozen=True)
class Stage:
    """The second stage of a row: a prior over its codes.

    Attributes:
        prior: Makes it.
        passes: Over the codes of the training data.
        batch_size: Integer.
        learning_rate: Of Adam, the highest of a half cosine.
    """

    prior: Callable[[], kv.priors.Prior]
    passes: int = 16
    batch_size: int = 128
    learning_rate: float = 2e-3


def judge(
    row: Row,
    stage: Stage | None,
    folder: pathlib.Path,
    model: kv.VAE,
    test: tf.data.Dataset,
    args: argparse.Namespace,
) -> dict[str, Any]:
    """Measures a trained model, on the data that it learned and on others."""
    train = row.data.load(args.train, 500, shuffle=False)
    intensities = row.data.load(args.train, 500, shuffle=False, binarize=None)
    variance = float(np.var(np.concatenate([np.asarray(x, np.float32) for x in intensities])))
    found: dict[str, Any] = {"variance": variance}
    unit = 255.0 if row.data.options.get("dtype") == "uint8" else 1.0
    for name, data in (("train", train), ("test", test)):
        error = kv.evaluation.reconstruction_error(model, data)
        found[f"{name}_mse_over_variance"] = error.mse.mean / variance
        found[f"{name}_sse"] = error.sse.mean / unit**2
    found["test"] = model.evaluate(test, return_dict=True, verbose=0)
    if isinstance(model, kv.VQVAE):
        found |= uses(row, model, test)
    if stage is not None:
        found["prior"] = second_stage(stage, folder / "prior", model, (train, test), args)
    return found


def uses(row: Row, model: kv.VQVAE, test: tf.data.Dataset) -> dict[str, Any]:
    """Returns how the codes of held-out data are used, by group."""
    batches = test.unbatch().batch(row.recipe.batch_size)
    usage = kv.evaluation.code_usage(model, test)
    return {
        "batch_perplexity": model.evaluate(batches, return_dict=True, verbose=0)["perplexity"],
        "perplexity": list(usage.perplexity.values()),
        "usage": list(usage.share_in_use.values()),
    }


def second_stage(
    stage: Stage,
    folder: pathlib.Path,
    model: kv.VQVAE,
    data: tuple[tf.data.Dataset, tf.data.Dataset],
    args: argparse.Namespace,
) -> dict[str, Any]:
    """Trains a prior over the codes, from where the folder has it, and measures the whole."""
    train, test = (kv.evaluation.encode_codes(model, one) for one in data)
    passes = args.prior_passes or stage.passes

    def load(done: int) -> tf.data.Dataset:
        codes = tf.data.Dataset.from_tensor_slices(train)
        return codes.shuffle(len(train), seed=done).batch(stage.batch_size)

    trained = training.fit(
        folder,
        functools.partial(_build, stage),
        load,
        passes,
        every=args.every,
        validation_data=test,
    )
    whole = model.with_prior(trained.prior_head)
    whole.compile()
    measured = whole.evaluate(data[1], return_dict=True, verbose=0)
    logs = training.logs(folder)
    return {
        **measured,
        "nats_per_code": measured["kl"] / test.shape[1],
        "parameters": trained.count_params(),
        "training_seconds": sum(line["seconds"] for line in logs),
        "curve": [round(line["val_nats_per_code"], 4) for line in logs],
        "passes": passes,
    }


def _build(stage: Stage, steps: int) -> kv.PriorModel:
    keras.utils.set_random_seed(0)
    model = kv.PriorModel(stage.prior())
    rate = keras.optimizers.schedules.CosineDecay(stage.learning_rate, steps)
    model.compile(keras.optimizers.Adam(rate))
    return model
