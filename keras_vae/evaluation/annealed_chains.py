"""Annealed importance sampling of z: the graph of one batch."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.core.seeds import fold, purpose
from keras_vae.evaluation.reading import check_vectors, checked_vae
from keras_vae.models import VAE

STARTS = ("prior", "posterior")
# Sigmoid from -4 to 4, which puts most of the steps where the distributions change most.
_STEEPNESS = 4.0
# For Hamiltonian Monte Carlo: the target acceptance, and how fast the step size follows it.
_TARGET, _GROWTH = 0.65, 0.2
_FIRST_STEP, _LEAST_STEP, _LARGEST_STEP = 0.2, 1e-4, 2.0
# Number of chains in the run that adapts the step sizes.
_PILOTS = 2


class Chains(NamedTuple):
    """Log weights `[K, B]` of chains, and the acceptance rate for every example, `[B]`."""

    log_w: tf.Tensor
    acceptance_rate: tf.Tensor


class _Path(NamedTuple):
    """The distributions between p_0 and p(z|x) of a batch: log f_b = log_start + b log_ratio.

    Attributes:
        draw: Function of (K, seed) to samples of p_0, `[K, B, D]`.
        log_start: Function of z `[K, B, D]` to log p_0(z), `[K, B]`.
        log_ratio: Function of z to log p(x, z) - log p_0(z), `[K, B]`.
    """

    draw: Callable[[int, tf.Tensor], tf.Tensor]
    log_start: Callable[[tf.Tensor], tf.Tensor]
    log_ratio: Callable[[tf.Tensor], tf.Tensor]

    def log_density(self, z: tf.Tensor, fraction: tf.Tensor) -> tf.Tensor:
        return self.log_start(z) + tf.cast(fraction, z.dtype) * self.log_ratio(z)


@dataclasses.dataclass(frozen=True)
class Annealing:
    """Chains of z through T distributions, as `annealed_importance_sampling` describes them."""

    model: VAE
    num_distributions: int
    num_chains: int
    start: str
    num_leapfrog_steps: int
    tick: Callable[[], Any] = tf.no_op  # Called for every move of the chains.

    @property
    def num_moves(self) -> int:
        """How often the chains of a batch move in one direction, or while adapting their steps."""
        return self.num_distributions - 1

    def forward(self, x: tf.Tensor, y: Any, seed: tf.Tensor) -> Chains:
        """Returns the chains from p_0 to p(z|x), after a run that adapts their step sizes."""
        path = self._path(x, y)
        return self._forward(path, self._adapted(path, tf.shape(x)[0], seed), seed)

    def both_ways(self, z: tf.Tensor, y: Any, seed: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Returns both bounds on log p(x), `[B]` each, and x ~ p(x|z)."""
        x = self.model.decode(z, y).sample(seed=fold(seed, purpose("simulate x")))
        path = self._path(x, y)
        step_sizes = self._adapted(path, tf.shape(x)[0], seed)
        lower = log_mean(self._forward(path, step_sizes, seed).log_w)
        return lower, -log_mean(self._backward(path, step_sizes, z, seed)), x

    def _path(self, x: tf.Tensor, y: Any) -> _Path:
        p_z = self.model.prior(y)
        log_p_x = functools.partial(_log_p_x, self.model, x, y)
        if self.start == "posterior":
            q = self.model.encode(x, y)
            draw = functools.partial(_draw, q, tf.shape(x)[0])
            return _Path(draw, q.log_prob, lambda z: log_p_x(z) + p_z.log_prob(z) - q.log_prob(z))
        return _Path(functools.partial(_draw, p_z, tf.shape(x)[0]), p_z.log_prob, log_p_x)

    @property
    def _fractions(self) -> np.ndarray:
        """The b_t, `[T + 1]`, from 0 to 1."""
        places = np.linspace(-_STEEPNESS, _STEEPNESS, self.num_distributions + 1)
        values = 1.0 / (1.0 + np.exp(-places))
        return (values - values[0]) / (values[-1] - values[0])

    def _adapted(self, path: _Path, count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Returns the step sizes under each intermediate distribution, `[T - 1, B]`."""
        seed, fractions = fold(seed, purpose("adapt")), tf.constant(self._fractions)
        z = path.draw(min(self.num_chains, _PILOTS), seed)
        size = tf.fill([count], tf.cast(_FIRST_STEP, z.dtype))
        if self.num_distributions == 1:
            return size[tf.newaxis]  # There are no intermediate distributions.

        def step(t: tf.Tensor, z: tf.Tensor, size: tf.Tensor, sizes: tf.TensorArray) -> Any:
            z, acceptance = self._move(path, fractions[t], size, z, fold(seed, t))
            sizes = sizes.write(t - 1, size)
            size *= tf.exp(_GROWTH * (tf.reduce_mean(acceptance, axis=0) - _TARGET))
            return t + 1, z, tf.clip_by_value(size, _LEAST_STEP, _LARGEST_STEP), sizes

        sizes = tf.TensorArray(z.dtype, self.num_distributions - 1, element_shape=[None])
        state = (tf.constant(1), z, size, sizes)
        sizes = tf.while_loop(lambda t, *_: t < self.num_distributions, step, state)[-1]
        return sizes.stack()

    def _forward(self, path: _Path, step_sizes: tf.Tensor, seed: tf.Tensor) -> Chains:
        seed, fractions = fold(seed, purpose("forward")), tf.constant(self._fractions)
        z = path.draw(self.num_chains, seed)
        log_w = tf.cast(path.log_ratio(z), tf.float64) * fractions[1]

        def step(t: tf.Tensor, z: tf.Tensor, log_w: tf.Tensor, accepted: tf.Tensor) -> Any:
            z, acceptance = self._move(path, fractions[t], step_sizes[t - 1], z, fold(seed, t))
            gained = tf.cast(path.log_ratio(z), tf.float64) * (fractions[t + 1] - fractions[t])
            return t + 1, z, log_w + gained, accepted + tf.reduce_mean(acceptance, axis=0)

        state = (tf.constant(1), z, log_w, tf.zeros(tf.shape(z)[1:2], z.dtype))
        last = tf.while_loop(lambda t, *_: t < self.num_distributions, step, state)
        return Chains(last[2], last[3] / (self.num_distributions - 1))  # NaN if there are no moves.

    def _backward(
        self, path: _Path, step_sizes: tf.Tensor, z: tf.Tensor, seed: tf.Tensor
    ) -> tf.Tensor:
        """Returns the log weights `[K, B]` of chains from z `[B, D]` to p_0."""
        seed, fractions = fold(seed, purpose("backward")), tf.constant(self._fractions)
        z = tf.repeat(z[tf.newaxis], self.num_chains, axis=0)
        last = self.num_distributions
        log_w = tf.cast(path.log_ratio(z), tf.float64) * (fractions[last - 1] - fractions[last])

        def step(t: tf.Tensor, z: tf.Tensor, log_w: tf.Tensor) -> Any:
            z, _ = self._move(path, fractions[t], step_sizes[t - 1], z, fold(seed, t))
            gained = tf.cast(path.log_ratio(z), tf.float64) * (fractions[t - 1] - fractions[t])
            return t - 1, z, log_w + gained

        return tf.while_loop(lambda t, *_: t > 0, step, (tf.constant(last - 1), z, log_w))[2]

    def _move(
        self, path: _Path, fraction: tf.Tensor, size: tf.Tensor, z: tf.Tensor, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns z `[K, B, D]` after a step under f_t, and its acceptance probability `[K, B]`."""
        kernel = tfp.mcmc.HamiltonianMonteCarlo(
            target_log_prob_fn=functools.partial(path.log_density, fraction=fraction),
            step_size=size[:, tf.newaxis],
            num_leapfrog_steps=self.num_leapfrog_steps,
        )
        moved, results = kernel.one_step(z, kernel.bootstrap_results(z), seed=seed)
        moved.set_shape(z.shape)
        with tf.control_dependencies([moved]):
            self.tick()
        return moved, tf.exp(tf.minimum(results.log_accept_ratio, 0.0))


def _log_p_x(model: VAE, x: tf.Tensor, y: Any, z: tf.Tensor) -> tf.Tensor:
    return model.decode(z, y).log_prob(x)


def _draw(distribution: Any, count: tf.Tensor, num_chains: int, seed: tf.Tensor) -> tf.Tensor:
    """Returns draws `[K, B, D]` from a distribution with batch shape [] or [B]."""
    shape = [num_chains] if distribution.batch_shape.rank else [num_chains, count]
    z = distribution.sample(shape, seed=fold(seed, purpose("start")))
    z.set_shape([num_chains, None, *distribution.event_shape])
    return z


def log_mean(log_w: tf.Tensor) -> tf.Tensor:
    """Returns the log of the mean weight over K chains, `[B]`, given log weights `[K, B]`."""
    return tf.reduce_logsumexp(log_w, axis=0) - math.log(log_w.shape[0])


def checked_annealing(
    model: Any, num_distributions: Any, num_chains: Any, start: Any, num_leapfrog_steps: Any
) -> Annealing:
    """Returns the annealing, or raises an error if the arguments are not valid."""
    annealing = Annealing(
        checked_vae(model),
        checks.integer("num_distributions", num_distributions),
        checks.integer("num_chains", num_chains),
        checks.option("start", start, STARTS),
        checks.integer("num_leapfrog_steps", num_leapfrog_steps),
    )
    if model.posterior_head.discrete:
        rule = "must have continuous z, as Hamiltonian Monte Carlo follows gradients"
        raise checks.invalid("model", rule, type(model.posterior_head).__name__)
    check_vectors(model, "chains of Hamiltonian Monte Carlo do not mix over maps of groups")
    return annealing
