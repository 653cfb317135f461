"""Gradient-based maximum likelihood for priors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.progress import with_progress
from keras_vae.core.seeds import fold, purpose, seed_tensor


def checked_draws(prior: Any, z: Any) -> np.ndarray:
    """Returns draws in the prior's dtype; raises unless they are finite and `[N, *event]`."""
    z = np.asarray(z, prior.density_dtype)
    if z.shape[1:] != prior.event_shape or not len(z):
        rule = f"must hold draws of z, `[N, {', '.join(map(str, prior.event_shape))}]` with N >= 1"
        raise ValueError(f"Argument `z` {rule}. Received: shape={z.shape}")
    if not np.all(np.isfinite(z)):
        bad = np.argwhere(~np.isfinite(z))
        told = f"{len(bad)} values that are not, the first in row {bad[0, 0]}, at {bad[0, 1:]}"
        raise ValueError(f"Argument `z` must be finite. Received: {told}")
    prior.check_draws(z)
    return z


@dataclasses.dataclass(frozen=True)
class Ascent:
    """Stochastic gradient ascent on the mean `fit_log_prob` of draws under a prior.

    The final weights are those, after some epoch or at the start, that scored best on the held-out
    draws. Without held-out draws, they are the last weights.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    held_out: float
    patience: int
    seed: int
    verbose: bool

    def __post_init__(self) -> None:
        checks.integer("epochs", self.epochs)
        checks.integer("batch_size", self.batch_size)
        checks.number("learning_rate", self.learning_rate, 0.0, exclusive=True)
        if not 0.0 <= checks.number("held_out", self.held_out) < 1.0:
            raise checks.invalid("held_out", "must be >= 0 and < 1", self.held_out)
        checks.integer("patience", self.patience)
        checks.integer("seed", self.seed, minimum=0)

    def run(self, prior: Any, z: np.ndarray) -> None:
        """Fits the weights of a prior that has been built."""
        if not prior.trainable_variables:
            rule = "must have trainable weights, or there is nothing to fit"
            raise checks.invalid("prior", rule, type(prior).__name__)
        learned, held_out = self.split(z)
        steps = _Steps(prior, self.learning_rate, seed_tensor(self.seed))
        best = _Best(prior.trainable_variables)
        best.see(self._score(steps, held_out, 0))
        for epoch in with_progress(range(self.epochs), self.epochs, self.verbose, "epoch"):
            order = np.random.default_rng([self.seed, epoch])
            for batch in self._batches(order.permutation(learned)):
                steps.climb(batch)
            score = self._score(steps, held_out, epoch + 1)
            if not math.isfinite(score + steps.last()):
                best.restore()
                raise ArithmeticError(f"log p(z) was not finite in epoch {epoch + 1} of the fit")
            best.see(score)
            if len(held_out) and best.age >= self.patience:
                break
        if len(held_out):
            best.restore()

    def split(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the draws to learn from, and those to hold out, which are the last."""
        count = len(z) - math.ceil(self.held_out * len(z))
        if not count:
            raise checks.invalid("held_out", f"must leave one of {len(z)} draws", self.held_out)
        return z[:count], z[count:]

    def _batches(self, z: np.ndarray) -> Iterator[tf.Tensor]:
        for start in range(0, len(z), self.batch_size):
            yield tf.convert_to_tensor(z[start : start + self.batch_size])

    def _score(self, steps: _Steps, held_out: np.ndarray, epochs: int) -> float:
        """Returns the mean over the held-out draws; without any, later epochs are better."""
        if not len(held_out):
            return float(epochs)
        batches = enumerate(self._batches(held_out))
        total = sum(float(steps.total(batch, number)) for number, batch in batches)
        return total / len(held_out)


class _Steps:
    """The two graphs of a fit."""

    def __init__(self, prior: Any, learning_rate: float, seed: tf.Tensor):
        self._prior = prior
        self._variables = prior.trainable_variables
        self._optimizer = keras.optimizers.Adam(learning_rate)
        self._optimizer.build(self._variables)
        self._seed, self._value = seed, tf.zeros(())
        any_size = tf.TensorSpec([None, *prior.event_shape], prior.density_dtype)
        number = tf.TensorSpec([], tf.int32)
        self._climb = _traced(self._one_step, any_size, number)
        self.total = _traced(self._total, any_size, number)

    def climb(self, z: tf.Tensor) -> None:
        """Takes one step on draws `[B, *event]`."""
        self._value = self._climb(z, tf.cast(self._optimizer.iterations, tf.int32))

    def last(self) -> float:
        """Returns the mean of the last batch in nats."""
        return float(self._value)

    def _one_step(self, z: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        seed = fold(self._seed, purpose("fit"), number)
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(self._prior.fit_log_prob(z, seed))
            loss = -value
        self._optimizer.apply(tape.gradient(loss, self._variables), self._variables)
        return value

    def _total(self, z: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
        # The same noise every time, because scores are compared.
        seed = fold(self._seed, purpose("held out"), number)
        return tf.reduce_sum(tf.cast(self._prior.fit_log_prob(z, seed), tf.float64))


def _traced(function: Any, *specs: tf.TensorSpec) -> Any:
    return tf.function(function, autograph=False).get_concrete_function(*specs)


class _Best:
    """The best values so far of some variables."""

    def __init__(self, variables: list[keras.Variable]):
        self._variables = variables
        self._values = [variable.numpy() for variable in variables]
        self._score = -math.inf
        self.age = 0

    def see(self, score: float) -> None:
        """Keeps the values if their score is the best so far; counts the calls since then."""
        self.age += 1
        if score > self._score:
            self._score, self.age = score, 0
            self._values = [variable.numpy() for variable in self._variables]

    def restore(self) -> None:
        for variable, value in zip(self._variables, self._values, strict=True):
            variable.assign(value)
