"""The aggregate posterior of given data: draws from it, and its density."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae import bounds, penalties
from keras_vae.core import checks
from keras_vae.core.seeds import fold, purpose, seed_tensor
from keras_vae.distributions.normal import log_densities
from keras_vae.evaluation.estimate import Estimate
from keras_vae.evaluation.reading import checked_with_parameters, map_batches, with_progress

tfd = tfp.distributions

METHODS = ("mixture", "minibatch", "minibatch_stratified")
# How many numbers to hold at once for pairs of draw and posterior: a few times 8 MB in float64.
_BUDGET = 2**20
# Total number of draws if the number for every x is not given.
_DRAWS = 10_000


class Densities(NamedTuple):
    """The densities at S draws from each of N posteriors, each `[N, S]`, float64, in nats.

    Attributes:
        log_q: log q(z|x) under the posterior that z was drawn from.
        log_aggregate: log q(z), or its estimate from a minibatch.
        log_p_z: log p(z).
    """

    log_q: np.ndarray
    log_aggregate: np.ndarray
    log_p_z: np.ndarray


class _Rows(NamedTuple):
    """Draws to make at once: from the posteriors `rows`, under a mixture of those in `columns`."""

    rows: np.ndarray
    columns: np.ndarray
    log_weights: np.ndarray  # Of the posterior that z was drawn from, and of every other.


@dataclasses.dataclass(frozen=True)
class Reading:
    """How to read the aggregate posterior, according to the arguments of the evaluations.

    Attributes:
        num_samples: Draws from each posterior, at least 2; None for enough to make 10,000 in total.
        seed: Integer >= 0.
        method: One of `METHODS`.
        batch_size: Number of examples in a minibatch.
        verbose: Whether to show progress if it takes long.
    """

    num_samples: int | None
    seed: int
    method: str
    batch_size: int
    verbose: bool

    def __post_init__(self) -> None:
        if self.num_samples is not None:
            # The standard error is computed from the spread of the draws of each posterior.
            checks.count("num_samples", self.num_samples, minimum=2)
        checks.integer("seed", self.seed, minimum=0)
        checks.option("method", self.method, METHODS)
        checks.integer("batch_size", self.batch_size)
        checks.flag("verbose", self.verbose)


class AggregatePosterior:
    """The mixture of the posteriors of N given data, each with weight 1/N.

    q(z) = 1/N sum_n q(z|x_n)

    The encoder reads the data once; the parameters of the posteriors are kept.

    Args:
        model: A `VAE`.
        data: Array `[N, *E]`, or dataset of batches as `fit` takes it.
        reading: How to read the aggregate posterior.
        needs_prior: Whether the density of p(z) is needed, so that p(z) must be the same for all
            data.

    Attributes:
        parameters: Parameters of the N posteriors.
        size: Number N of data.
        exact_kl: KL(q(z|x) || p(z)) in closed form, `[N]`, or None; in nats.
    """

    def __init__(self, model: Any, data: Any, reading: Reading, needs_prior: bool = True):
        self._model = checked_with_parameters(model)
        self._reading, self._needs_prior = reading, needs_prior
        batches = map_batches(
            self._encode, model, data, reading.batch_size, reading.seed, reading.verbose
        )
        parameters, kl, labels = zip(*batches, strict=True)
        # Any label will do, as the prior is the same for all of them.
        self._label = (*labels[0], None)[0]
        self.exact_kl = np.concatenate([part for (part,) in kl]) if kl[0] else None
        self.parameters = tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), *parameters)
        self.size = len(tf.nest.flatten(self.parameters)[0])
        if needs_prior and self.prior().batch_shape.rank:
            rule = "must have a prior that is the same for all y, to hold q(z) against"
            raise checks.invalid("model", rule, self._model.prior_head)

    def _encode(self, x: tf.Tensor, y: Any, seed: tf.Tensor) -> tuple[Any, list, list]:
        """Returns the parameters of q(z|x), its closed-form KL `[B]` if any, and a label if any."""
        parameters = self._model.posterior_parameters(x, y)
        kl = None
        if self._needs_prior:
            q = self._model.posterior_head.distribution(parameters)
            kl = bounds.closed_form_kl(q, self._model.prior(y))  # [B, G]
        exact = [] if kl is None else [tf.reduce_sum(tf.cast(kl, tf.float64), axis=-1)]
        return parameters, exact, [] if y is None else [y[:1]]

    def prior(self) -> tfd.Distribution:
        """Returns p(z), batch []."""
        return self._model.prior(self._label)

    def densities(self) -> Densities:
        """Draws z from every posterior, and returns the densities at the draws."""
        reading = self._reading
        num_samples = reading.num_samples or max(2, -(-_DRAWS // self.size))
        any_q = self._model.posterior_head.distribution(_taken(self.parameters, [0]))
        pairs = max(1, _BUDGET // _numbers_of_a_pair(any_q))
        num_rows = max(1, min(self.size * num_samples, math.isqrt(pairs)))
        function = self._trace(num_columns=max(1, pairs // num_rows))
        seed = fold(seed_tensor(reading.seed), purpose("aggregate posterior"))
        work = list(self._work(num_samples, num_rows))
        results = [
            [part.numpy() for part in function(self.parameters, *rows, fold(seed, number))]
            for number, rows in enumerate(with_progress(work, len(work), reading.verbose, "chunk"))
        ]
        order = np.argsort(np.concatenate([rows.rows for rows in work]), kind="stable")
        joined = (np.concatenate(parts)[order] for parts in zip(*results, strict=True))
        return Densities(*(values.reshape(self.size, num_samples) for values in joined))

    def _work(self, num_samples: int, num_rows: int) -> Iterator[_Rows]:
        """Yields what to draw at once, and under which mixture."""
        for group in self._groups():
            log_weights = _log_weights(len(group), self.size, self._reading.method)
            draws = np.repeat(group, num_samples)
            for start in range(0, len(draws), num_rows):
                yield _Rows(draws[start : start + num_rows], group, log_weights)

    def _groups(self) -> list[np.ndarray]:
        """Returns the data whose posteriors are mixed with each other: all, or minibatches."""
        everything = np.arange(self.size, dtype=np.int32)
        if self._reading.method == "mixture":
            return [everything]
        # Shuffle, as data may be sorted, and use similar sizes, as a small batch would be worst.
        shuffled = np.random.default_rng(self._reading.seed).permutation(everything)
        return np.array_split(shuffled, -(-self.size // self._reading.batch_size))

    def _trace(self, num_columns: int) -> Callable:
        """Returns `_row_densities` as a function traced for any number of rows."""
        densities = functools.partial(self._row_densities, num_columns)
        spec = tf.nest.map_structure(lambda p: tf.TensorSpec(p.shape, p.dtype), self.parameters)
        indices = tf.TensorSpec([None], tf.int32)
        return tf.function(densities, autograph=False).get_concrete_function(
            spec, indices, indices, tf.TensorSpec([2], tf.float64), tf.TensorSpec([2], tf.int32)
        )

    def _row_densities(
        self,
        num_columns: int,
        parameters: Any,
        rows: tf.Tensor,
        columns: tf.Tensor,
        log_weights: tf.Tensor,
        seed: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        """Returns log q(z|x), log q(z) and log p(z), each `[K]`, for one draw per row."""
        head = self._model.posterior_head
        q = head.distribution(_taken(parameters, rows))
        z = q.sample(seed=seed)  # [K, D]
        log_q = q.log_prob(z)

        def add_columns(start: tf.Tensor, log_sum: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            some = columns[start : start + num_columns]
            others = head.distribution(_taken(parameters, some))
            own = rows[:, tf.newaxis] == some  # [K, C]
            log_joint = log_densities(others, z) + tf.where(own, log_weights[0], log_weights[1])
            log_part = tf.reduce_logsumexp(log_joint, axis=1)
            log_sum = tf.reduce_logsumexp(tf.stack([log_sum, log_part]), axis=0)
            return start + num_columns, log_sum

        log_zero = tf.fill(tf.shape(rows), tf.constant(-math.inf, tf.float64))
        _, log_aggregate = tf.while_loop(
            lambda start, _: start < tf.shape(columns)[0],
            add_columns,
            (tf.constant(0), log_zero),
        )
        log_p_z = self.prior().log_prob(z) if self._needs_prior else tf.zeros_like(log_q)
        return tf.cast(log_q, tf.float64), log_aggregate, tf.cast(log_p_z, tf.float64)


def given_the_data(values: np.ndarray) -> Estimate:
    """Returns the mean of draws from each of N posteriors, and its error with the data held fixed.

    Args:
        values: Array `[N, S]`, S independent draws for each of N data.
    """
    num_examples, num_samples = values.shape
    variances = np.var(values, axis=1, ddof=1)  # Of single draws, with the data fixed.
    error = math.sqrt(np.sum(variances) / num_samples) / num_examples
    return Estimate(float(np.mean(values)), error, np.mean(values, axis=1))


def _numbers_of_a_pair(q: tfd.Distribution) -> int:
    """Returns how many numbers `log_densities` holds at once for each pair."""
    return 1 if isinstance(q, tfd.MultivariateNormalDiag) else math.prod(q.event_shape)


def _taken(parameters: Any, indices: tf.Tensor) -> Any:
    return tf.nest.map_structure(lambda p: tf.gather(p, indices), parameters)


def _log_weights(group_size: int, size: int, method: str) -> np.ndarray:
    """Returns the log-weights of the posterior that z was drawn from and of every other one."""
    if method == "mixture":
        return np.full(2, -math.log(size))
    sampling = "weighted" if method == "minibatch" else "stratified"
    own = tf.eye(group_size, dtype=tf.bool)
    weights = penalties.log_sampling_weights(own, size, sampling, tf.float64)
    return weights.numpy()[0, [0, -1]]
