"""Examines a model on some examples."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_vae import bounds
from keras_vae.callbacks.health.evidence import Codes, DataRange, Examination, Modes
from keras_vae.core.hyperparameters import Steerable
from keras_vae.evaluation.active_units import units_of
from keras_vae.evaluation.code_usage import count_codes
from keras_vae.evaluation.latent_groups import latent_groups
from keras_vae.models import VAE
from keras_vae.terms import Draws, Terms

_MODES = tuple(f"modes.{field.name}" for field in dataclasses.fields(Modes))


class Examiner:
    """Computes an `Examination` in one graph, traced once for any number of examples.

    Args:
        model: A `VAE`.
        threshold: A unit is active if the variance of its posterior mean exceeds this.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> Examiner(model)(tf.zeros([5, 8, 8, 1]), None, posterior_learns=True).active_units
        0
    """

    def __init__(self, model: VAE, threshold: float = 0.01):
        self._model = model
        self._threshold = threshold
        networks = _networks([layer for layer in model.layers if layer is not model.objective])
        state = (v for network in networks for v in network.non_trainable_variables)
        self._state = list({id(variable): variable for variable in state}.values())
        self._has_statistics = any(tf.as_dtype(v.dtype).is_floating for v in self._state)
        self._function = tf.function(self._measure, autograph=False, reduce_retracing=True)

    def __call__(self, x: tf.Tensor, y: Any, posterior_learns: bool) -> Examination:
        """Returns what the model makes of two or more standardized examples."""
        found = {name: value.numpy() for name, value in self._function(x, y).items()}
        units = units_of(found.pop("means"), self._threshold)
        kl = found.pop("kl")
        return Examination(
            active_units=units.count,
            dimensions=len(units.variances),
            kl=kl,
            groups=latent_groups(self._model.latents, units.active, kl),
            scale=self._learned_scale(),
            posterior_scale=_float_or_none(found.pop("posterior_scale", None)),
            decoder_gradient=_float_or_none(found.pop("decoder_gradient", None)),
            posterior_learns=posterior_learns,
            modes=_modes_or_none(found),
            codes=self._codes_of(found),
            scale_floor=self._model.posterior_head.scale_floor,
            **{name: float(value) for name, value in found.items()},
        )

    def _codes_of(self, found: dict[str, Any]) -> tuple[Codes, ...]:
        """Removes the counts of codes from `found`, and returns them as `Codes`."""
        names = [name for name in self._model.latents if _counts(name) in found]
        counts = {name: found.pop(_counts(name)) for name in names}
        return tuple(
            Codes(name, len(of), int(np.count_nonzero(of)), int(of.sum()))
            for name, of in counts.items()
        )

    def range_of(self, x: tf.Tensor) -> DataRange | None:
        """Returns the range of standardized examples, or None if the likelihood has bounds."""
        support = self._model.likelihood_head.support
        if np.isfinite(support.low) and np.isfinite(support.high):
            return None
        values = x.numpy()
        moments = (values.mean(dtype=np.float64), values.std(dtype=np.float64))
        return DataRange(float(values.min()), float(values.max()), *map(float, moments))

    def _learned_scale(self) -> float | None:
        head = self._model.likelihood_head
        learned = getattr(head, "raw_scale", None) is not None
        return float(tf.reduce_min(head.scale)) if learned else None

    def _measure(self, x: tf.Tensor, y: Any) -> dict[str, tf.Tensor]:
        model = self._model
        with tf.GradientTape() as tape:
            # Uses the same noise every time.
            terms = model.compute_terms(x, 1, False, 0, y)
            log_p_x = tf.reduce_mean(terms.log_p_x)
        draws, head = terms.draws, model.posterior_head
        assert draws is not None  # True for every VAE.
        z = head.mean(draws.q)  # [N, D]
        mean = draws.likelihood(z).mean()
        # Under the same conditions; the z of the next example stands for any other z.
        other = draws.likelihood(tf.roll(z, 1, axis=0)).mean()
        count = tf.cast(tf.shape(x)[0], x.dtype)
        found = {
            "means": z,
            "kl": tf.reduce_mean(_kl_of_dimensions(terms.kl, draws), axis=0),
            "error": _mean_square(x - mean),
            # An unbiased estimate for the data that the examples are drawn from.
            "mean_error": _mean_square(x - tf.reduce_mean(x, axis=0)) * count / (count - 1.0),
            "spread": 0.5 * _mean_square(mean - other),
        }
        if model.is_point_mass:
            counts = count_codes(model, draws.q.codes)
            found |= {_counts(name): of for name, of in counts.items()}
        if not head.discrete:
            scales = tf.reduce_mean(head.stddev(draws.q), axis=0)
            found["posterior_scale"] = tf.reduce_min(scales)
        gradients = tape.gradient(log_p_x, model.decoder.trainable_variables)
        if gradients:
            found["decoder_gradient"] = _largest(gradients)
        if self._has_statistics:
            found |= self._modes(x, y, terms)
        return found

    def _modes(self, x: tf.Tensor, y: Any, evaluated: Terms) -> dict[str, tf.Tensor]:
        """Returns what `Modes` holds, under the names in `_MODES`."""
        with _unchanged(self._state):
            trained = self._model.compute_terms(x, 1, True, 0, y)
        means = (trained.kl_total, trained.elbo, evaluated.kl_total, evaluated.elbo)
        return dict(zip(_MODES, map(tf.reduce_mean, means), strict=True))


def _networks(layers: Iterable[keras.layers.Layer]) -> Iterator[keras.layers.Layer]:
    """Yields the layers, and of heads the networks inside: their own state is driven numbers."""
    for layer in layers:
        if isinstance(layer, Steerable):
            yield from _networks(layer._flatten_layers(recursive=False, include_self=False))
        else:
            yield layer


def _kl_of_dimensions(kl: tf.Tensor, draws: Draws) -> tf.Tensor:
    """Returns the KL of each dimension, or that of each group if it has no closed form."""
    if kl.shape[-1] == draws.z.shape[-1]:
        return kl
    found = bounds.conditional_kl_of_dimensions(draws.q, draws.p_z, draws.z)
    return kl if found is None else found


@contextlib.contextmanager
def _unchanged(state: Sequence[keras.Variable]) -> Iterator[None]:
    """Undoes assignments made inside: to statistics, and to the seeds of layers that draw."""
    before = [tf.identity(tf.convert_to_tensor(variable)) for variable in state]
    yield
    for variable, value in zip(state, before, strict=True):
        variable.assign(value)


def _counts(name: str) -> str:
    return f"counts.{name}"


def _modes_or_none(found: dict[str, Any]) -> Modes | None:
    """Removes what `Modes` holds from `found`, and returns it."""
    values = [float(found.pop(name)) for name in _MODES if name in found]
    return Modes(*values) if values else None


def _mean_square(difference: tf.Tensor) -> tf.Tensor:
    """Returns the mean over the examples of the sum of squares of each."""
    axes = list(range(1, difference.shape.rank))
    return tf.reduce_mean(tf.reduce_sum(tf.square(difference), axis=axes))


def _largest(gradients: list[Any]) -> tf.Tensor:
    dense = [tf.convert_to_tensor(one) for one in gradients if one is not None]
    return tf.reduce_max(
        [tf.reduce_max(tf.abs(tf.cast(one, tf.float32))) for one in dense] or [0.0]
    )


def _float_or_none(value: Any) -> float | None:
    return None if value is None else float(value)
