"""Inference without amortization: a separate posterior for every x."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae import bounds
from keras_vae.core import checks
from keras_vae.core.progress import Progress
from keras_vae.core.seeds import fold, purpose, seed_tensor
from keras_vae.evaluation.reading import checked_with_parameters
from keras_vae.models import VAE
from keras_vae.objectives import estimators
from keras_vae.training.data import any_number_of

# Decays of Adam's moments, as chosen by Kingma and Ba.
_FIRST, _SECOND = 0.9, 0.999
# In nats per unit: Adam would blow up the rounding errors of flatter slopes to full steps.
_FLAT = 1e-4


@dataclasses.dataclass(frozen=True)
class FittedPosterior:
    """Posteriors fitted to single examples, and what the encoder loses against them, in nats.

    Attributes:
        amortization_gap: Mean of `elbo - initial_elbo` over the examples.
        standard_error: Standard error of that mean over the examples; NaN for a single example.
        distribution: The fitted q_i(z), batch [N], event [D].
        parameters: The parameters from which the posterior head makes it, `[N, ...]`.
        elbo: ELBO of each x under the q_i fitted to it, `[N]`.
        initial_elbo: ELBO of each x under the encoder's q(z|x), `[N]`.
    """

    amortization_gap: float
    standard_error: float
    distribution: tfp.distributions.Distribution = dataclasses.field(repr=False)
    parameters: Any = dataclasses.field(repr=False)
    elbo: np.ndarray = dataclasses.field(repr=False)
    initial_elbo: np.ndarray = dataclasses.field(repr=False)


def fit_posterior(
    model: VAE,
    x: Any,
    steps: int = 200,
    *,
    y: Any = None,
    learning_rate: float = 0.05,
    num_samples: int = 8,
    evaluation_samples: int = 256,
    seed: int = 0,
    batch_size: int = 128,
    verbose: bool = True,
) -> FittedPosterior:
    """Fits a separate posterior to each x, starting from the encoder's q(z|x).

    q_i = argmax_q ELBO(x_i; q),  ELBO(x; q) = E_q[log p(x, z) - log q(z)]
    gap = mean_i [ELBO(x_i; q_i) - ELBO(x_i; q(z|x_i))]

    The free variables are the parameters that the posterior head makes from the encoder's features;
    they take Adam steps whose size falls to zero along a cosine. The examples share only the model,
    which is not changed. The gradient is that of `"sticking_the_landing"`, which has no noise where
    q_i reaches p(z|x_i), or, for discrete z, that of `"score_function"`.

    Both ELBOs are then estimated with samples other than those of the fit, and with the same noise.
    They use the model's densities, whatever objective it was trained with. The gap shows how far
    the steps led: more steps, or different ones, may find more, and if nothing is left to be found,
    it is zero except for noise of either sign.

    Args:
        model: A `VAE`.
        x: Data `[N, *E]`, as `model.encode` takes them.
        steps: Number of steps.
        y: What the model is conditioned on, for conditional models.
        learning_rate: Size of the first steps, > 0.
        num_samples: Samples of z for every x in a step; as many are decoded at once.
        evaluation_samples: Samples of z for every x used to estimate each ELBO.
        seed: Integer >= 0.
        batch_size: Number of examples to process at once.
        verbose: Whether to show a progress bar if it takes more than five seconds.

    Returns:
        A `FittedPosterior`, in nats.

    Raises:
        ValueError: If a number is out of range, the data are empty or have no density, or the
            posterior head does not separate its parameters from the distribution.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> fitted = fit_posterior(model, tf.ones([3, 8, 8, 1]), steps=10)
        >>> fitted.distribution.batch_shape, fitted.elbo.shape
        (TensorShape([3]), (3,))

    References:
        Kim et al., 2018, algorithm 1, arXiv:1802.02550 (from the encoder's start); Cremer et al.,
        2018, table 1, arXiv:1801.03558 (amortization gap); Roeder et al., 2017, arXiv:1703.09194
        (gradient).
    """
    fit = _Fit(
        checked_with_parameters(model),
        checks.integer("steps", steps),
        checks.number("learning_rate", learning_rate, 0.0, 1e6, exclusive=True),
        checks.count("num_samples", num_samples),
        checks.integer("evaluation_samples", evaluation_samples),
    )
    batch_size, seed = checks.integer("batch_size", batch_size), seed_tensor(seed)
    x, y = model._checked(x, y)
    if not len(x):
        raise checks.invalid("x", "must hold at least one example", x.shape)
    data = [x] if y is None else [x, y]
    spec = [any_number_of(tensor) for tensor in data]
    starts = range(0, len(x), batch_size)
    with Progress(fit.num_rounds * len(starts), verbose, "step") as progress:
        # One trace serves all batches, including the last and smaller one.
        function = tf.function(dataclasses.replace(fit, tick=progress.tick).run, autograph=False)
        run = function.get_concrete_function(spec, tf.TensorSpec([2], tf.int32))
        results = [
            run([tensor[start : start + batch_size] for tensor in data], fold(seed, start))
            for start in starts
        ]
    parameters, elbo, initial_elbo = tf.nest.map_structure(
        lambda *parts: tf.concat(parts, axis=0), *results
    )
    return _result(model.posterior_head, parameters, elbo, initial_elbo)


@dataclasses.dataclass(frozen=True)
class _Fit:
    """The graph that fits the posteriors of one batch."""

    model: VAE
    steps: int
    learning_rate: float
    num_samples: int
    evaluation_samples: int
    tick: Callable[[], Any] = tf.no_op  # Called for every step and for every chunk of samples.

    @property
    def num_rounds(self) -> int:
        """How often a batch takes a step or decodes a chunk of samples for one of the two ELBOs."""
        return self.steps + 2 * -(-self.evaluation_samples // self.num_samples)

    def run(self, data: list[tf.Tensor], seed: tf.Tensor) -> tuple[Any, tf.Tensor, tf.Tensor]:
        """Returns the fitted parameters, and the ELBOs `[B]` of these and of the encoder's."""
        x, y = (*data, None)[:2]
        start = self.model.posterior_parameters(x, y)
        fitted = self._climb(start, x, y, fold(seed, purpose("fit")))
        # Use the same noise for both, as most of it then cancels in their difference.
        noise = fold(seed, purpose("evaluate"))
        return fitted, self._elbo(fitted, x, y, noise), self._elbo(start, x, y, noise)

    def _climb(self, start: Any, x: tf.Tensor, y: Any, seed: tf.Tensor) -> Any:
        """Returns the parameters of every example after Adam steps that raise its ELBO."""

        def step(number: tf.Tensor, values: Any, first: Any, second: Any) -> Any:
            slopes = self._slopes(values, x, y, fold(seed, number))
            self.tick()
            first = tf.nest.map_structure(lambda m, s: m + (1.0 - _FIRST) * (s - m), first, slopes)
            second = tf.nest.map_structure(
                lambda v, s: v + (1.0 - _SECOND) * (tf.square(s) - v), second, slopes
            )
            step_of = functools.partial(_adam_step, self._rate(number), number + 1)
            values = tf.nest.map_structure(
                lambda value, m, v: value + step_of(m, v), values, first, second
            )
            return number + 1, values, first, second

        zeros = tf.nest.map_structure(tf.zeros_like, start)
        state = (tf.constant(0), start, zeros, zeros)
        return tf.while_loop(lambda number, *_: number < self.steps, step, state)[1]

    def _slopes(self, parameters: Any, x: tf.Tensor, y: Any, seed: tf.Tensor) -> Any:
        """Returns the gradient of each example's ELBO with respect to its own parameters."""
        head = self.model.posterior_head
        pathwise = head.reparameterized and not head.discrete
        estimator = estimators.get("sticking_the_landing" if pathwise else "score_function")
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(parameters)
            q = head.distribution(parameters)
            terms = self.model.terms_of(q, x, self.num_samples, seed=seed, y=y)
            terms = estimator.prepare(terms)
            kl = tf.reduce_sum(estimator.kl(terms), axis=-1)
            # The tape sums over the batch, but no ELBO depends on another example's parameters.
            elbo = bounds.elbo(estimator.expectation(terms.log_p_x, terms), kl)
        return tape.gradient(elbo, parameters, unconnected_gradients="zero")

    def _rate(self, number: tf.Tensor) -> tf.Tensor:
        progress = tf.cast(number, tf.float64) / self.steps
        return self.learning_rate * (1.0 + tf.cos(math.pi * progress)) / 2.0

    def _elbo(self, parameters: Any, x: tf.Tensor, y: Any, seed: tf.Tensor) -> tf.Tensor:
        """Returns the ELBO `[B]`, estimated in chunks of samples."""

        def add_chunk(done: tf.Tensor, total: tf.Tensor) -> Any:
            size = tf.minimum(self.num_samples, self.evaluation_samples - done)
            q = self.model.posterior_head.distribution(parameters)
            log_w = self.model.terms_of(q, x, size, seed=fold(seed, done), y=y).log_w
            self.tick()
            # Don't use a closed-form KL: the noise of these weights vanishes as q reaches p(z|x).
            return done + size, total + tf.reduce_sum(tf.cast(log_w, tf.float64), axis=0)

        _, total = tf.while_loop(
            lambda done, _: done < self.evaluation_samples,
            add_chunk,
            (tf.constant(0), tf.zeros(tf.shape(x)[:1], tf.float64)),
        )
        return total / self.evaluation_samples


def _adam_step(rate: tf.Tensor, count: tf.Tensor, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    count = tf.cast(count, tf.float64)
    rate = tf.cast(rate / (1.0 - _FIRST**count), first.dtype)
    unbiased = second / tf.cast(1.0 - _SECOND**count, second.dtype)
    return rate * first / (tf.sqrt(unbiased) + _FLAT)


def _result(
    head: Any, parameters: Any, elbo: tf.Tensor, initial_elbo: tf.Tensor
) -> FittedPosterior:
    gaps = (elbo - initial_elbo).numpy()
    deviation = np.std(gaps, ddof=1) if len(gaps) > 1 else np.nan
    return FittedPosterior(
        amortization_gap=float(np.mean(gaps)),
        standard_error=float(deviation / np.sqrt(len(gaps))),
        distribution=head.distribution(parameters),
        parameters=parameters,
        elbo=elbo.numpy(),
        initial_elbo=initial_elbo.numpy(),
    )
