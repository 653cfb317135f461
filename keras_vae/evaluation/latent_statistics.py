"""What the posteriors of held-out data say about each latent dimension."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from keras_vae import bounds
from keras_vae.core.seeds import fold, purpose, seed_tensor
from keras_vae.evaluation.active_units import WHY_NO_UNITS, ActiveUnits, units_of
from keras_vae.evaluation.latent_groups import LatentGroup, latent_groups
from keras_vae.evaluation.reading import check_noise
from keras_vae.models import VAE
from keras_vae.training import errors
from keras_vae.training.data import any_number_of, first_examples, inputs_of

# Samples of z for every x if the KL has no closed form: their noise is far below the spread of the
# KL over the data.
_NUM_SAMPLES = 8


@dataclasses.dataclass(frozen=True)
class LatentStatistics:
    """Statistics of q(z|x) over data, for each of D latent dimensions.

    The variables of a `Categorical` posterior are one-hot, so mean and variance are `[D, K]`.

    Attributes:
        active_units: The dimensions whose posterior mean varies.
        kl: E_x KL(q(z|x) || p(z)), in nats: `[D]` if prior and posterior factorize over the
            dimensions, `[G]` if they are drawn group by group, otherwise `[1]`, the joint KL.
        mean: Mean of the aggregate posterior, E_x E_q[z], `[D]`.
        variance: Variance of the aggregate posterior, E_x Var_q[z] + Var_x E_q[z], `[D]`.
        groups: The groups of z: one, unless the model has several.
    """

    active_units: ActiveUnits
    kl: np.ndarray = dataclasses.field(repr=False)
    mean: np.ndarray = dataclasses.field(repr=False)
    variance: np.ndarray = dataclasses.field(repr=False)
    groups: tuple[LatentGroup, ...] = ()


class LatentReader:
    """Computes `LatentStatistics` repeatedly while the model is being trained.

    A single graph, traced once for all batches, reads the data once; the host waits for it at the
    end.

    Args:
        model: A `VAE`.
        data: A dataset of batches as `fit` takes it.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> data = tf.data.Dataset.from_tensors(tf.zeros([5, 8, 8, 1]))
        >>> LatentReader(model, data)(threshold=0.01, num_examples=None).active_units.count
        0
    """

    def __init__(self, model: VAE, data: tf.data.Dataset):
        check_noise(model, WHY_NO_UNITS)
        self._model = model
        self._data = data
        spec = tf.nest.map_structure(any_number_of, inputs_of(data.element_spec))
        number = tf.TensorSpec([], tf.int32)
        function = tf.function(self._moments, autograph=False).get_concrete_function(spec, number)
        self._function = errors.as_python_errors(function)

    def __call__(self, threshold: float, num_examples: int | None) -> LatentStatistics:
        """Returns the statistics of the first examples of the data, or of all of them."""
        batches = first_examples(self._data, num_examples)
        moments = [self._function(batch, tf.constant(i)) for i, batch in enumerate(batches)]
        if not moments:
            raise ValueError("Argument `data` must hold at least one example. Received: none")
        columns = zip(*moments, strict=True)
        along, means, variances, kl = (tf.concat(parts, axis=0).numpy() for parts in columns)
        units = units_of(along, threshold)
        variance = _mean(variances) + np.var(means, axis=0, dtype=np.float64)
        mean_kl = _mean(kl)
        groups = latent_groups(self._model.latents, units.active, mean_kl)
        return LatentStatistics(units, mean_kl, _mean(means), variance, groups)

    def _moments(self, data: list[tf.Tensor], number: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Returns the mean for units, E_q[z], Var_q[z], each `[B, D]`, and the KL `[B, G]`."""
        model, (x, y) = self._model, (*data, None)[:2]
        x, y = model.check_support(*model.standardize(x, y))
        q, p_z = model.encode(x, y), model.prior(y)
        # Of groups given others, `stddev` is at the means of those, so take the moments of draws.
        kl, by_draws = bounds.closed_form_kl(q, p_z), hasattr(q, "means_along")
        if kl is None or by_draws:
            # Use the same noise every time.
            z = q.sample(_NUM_SAMPLES, seed=fold(seed_tensor(0), number, purpose("monitor")))
            kl = bounds.estimated_kl(q, p_z, z) if kl is None else kl
        head = model.posterior_head
        along = head.mean(q)
        if by_draws:
            return along, *tf.nn.moments(z, axes=[0]), kl
        return along, along, tf.square(head.stddev(q)), kl


def _mean(rows: np.ndarray) -> np.ndarray:
    return np.asarray(np.mean(rows, axis=0, dtype=np.float64))
