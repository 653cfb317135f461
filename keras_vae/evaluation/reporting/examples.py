"""The examples of a report, read once, and what the model says about each."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_vae.evaluation.reading import map_batches
from keras_vae.models import VAE
from keras_vae.training.data import Data

# Draws of z for every x to estimate the ELBO.
NUM_DRAWS = 8


class Examples(NamedTuple):
    """Data in memory, as every pass over a pipeline may bring different examples.

    Attributes:
        x: Standardized data `[N, *E]`.
        y: Labels as they were given, `[N, ...]`, or None.
        conditioned: Whether the model takes y.
    """

    x: np.ndarray
    y: np.ndarray | None
    conditioned: bool

    @property
    def data(self) -> Any:
        """The data to pass to evaluations of the model."""
        return (self.x, self.y) if self.conditioned else self.x

    @property
    def condition(self) -> np.ndarray | None:
        """The y to pass to the model's methods."""
        return self.y if self.conditioned else None

    @property
    def classes(self) -> np.ndarray | None:
        """The class labels `[N]`, or None if y holds no class labels."""
        labels = None if self.y is None else np.squeeze(self.y)
        is_class = labels is not None and labels.ndim == 1 and labels.dtype.kind in "iub"
        return labels if is_class else None

    def first(self, count: int) -> Examples:
        """Returns the first examples."""
        return self._replace(x=self.x[:count], y=None if self.y is None else self.y[:count])


def read(model: VAE, data: Any, num_examples: int, batch_size: int) -> Examples:
    """Returns the first examples of the data, checked and standardized."""
    found: list[tuple[np.ndarray, Any]] = []
    left = num_examples

    def check(x: Any, y: Any) -> tuple[tf.Tensor, Any]:
        return model._checked(x, y)[0], y

    for checked, y in Data.of("data", data).checked_batches(check, batch_size):
        named = isinstance(y, (dict, tuple, list))  # Several labels per example cannot be colours.
        labels = None if y is None or named else np.asarray(y)[:left]
        found.append((checked[:left].numpy(), labels))
        left -= len(found[-1][0])
        if left <= 0:
            break
    x, y = (list(parts) for parts in zip(*found, strict=True))
    known = None if y[0] is None else np.concatenate(y)
    return Examples(np.concatenate(x), known, bool(model.labels.spec))


class Statistics(NamedTuple):
    """What the model says about each example, in nats.

    Attributes:
        distortion: -E_q[log p(x|z)], `[N]`.
        kl: KL(q(z|x) || p(z)) of each group of dimensions, `[N, G]`.
        means: E_q[z], `[N, D]`, or `[N, D, K]` with classes.
    """

    distortion: np.ndarray
    kl: np.ndarray
    means: np.ndarray

    @property
    def mean_kl(self) -> np.ndarray:
        """The mean KL of each group, `[G]`."""
        return np.asarray(np.mean(self.kl, axis=0, dtype=np.float64))

    @property
    def elbo(self) -> np.ndarray:
        """The evidence lower bound of each example, `[N]`."""
        return -self.distortion - np.sum(self.kl, axis=-1)


def statistics(model: VAE, examples: Examples, seed: int, batch_size: int) -> Statistics:
    """Computes the statistics of all single examples in one pass."""

    def read_batch(x: tf.Tensor, y: Any, batch_seed: tf.Tensor) -> Statistics:
        terms = model.compute_terms(x, NUM_DRAWS, False, batch_seed, y)
        means = model.posterior_head.mean(model.encode(x, y))
        return Statistics(terms.reconstruction, terms.kl, means)

    parts = map_batches(read_batch, model, examples.data, batch_size, seed, verbose=False)
    said = Statistics(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    finite = np.isfinite(said.elbo) & np.isfinite(said.means).reshape(len(said.means), -1).all(1)
    if not finite.all():
        rule = "must give every example a finite ELBO and finite posterior means"
        bad = f"{np.count_nonzero(~finite)} of {len(finite)} examples have none"
        raise ValueError(f"Argument `model` {rule}. Received: {bad}")
    return said


def generate(model: VAE, examples: Examples, mean: bool, seed: int, batch_size: int) -> np.ndarray:
    """Returns as many samples from the model as there are examples, with the same labels."""
    parts = []
    for start in range(0, len(examples.x), batch_size):
        rows = slice(start, start + batch_size)
        y = None if examples.condition is None else examples.condition[rows]
        count = len(examples.x[rows])
        # A different seed for every batch, and for every seed of the report.
        parts.append(model.sample(count, seed=seed * 2**20 + start, mean=mean, y=y).numpy())
    return np.concatenate(parts)


def white_of(model: VAE) -> float:
    """Returns the value that is drawn as white: the largest that the likelihood allows, or 1."""
    high = model.likelihood_head.support.high
    return high if math.isfinite(high) else 1.0
