"""The latent dimensions that a model uses."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_vae.core import checks
from keras_vae.evaluation.reading import check_noise, checked_vae, standardized
from keras_vae.training.data import Data

WHY_NO_UNITS = (
    "codes are names, whose variance says nothing; `evaluation.code_usage` counts how often each "
    "is used"
)


@dataclasses.dataclass(frozen=True)
class ActiveUnits:
    """The latent dimensions whose posterior mean varies with x.

    Attributes:
        count: Number of active units.
        variances: Var_x(E_q(z|x)[z_d]) of every dimension, `[D]`; for a `Categorical` posterior, of
            every class of its variables, `[D, K]`.
        threshold: A unit is active if its variance exceeds this.
    """

    count: int
    variances: np.ndarray = dataclasses.field(repr=False)
    threshold: float

    @property
    def active(self) -> np.ndarray:
        """Whether each dimension is active, `[D]`."""
        variances = self.variances.reshape(len(self.variances), -1)
        return np.asarray(np.any(variances > self.threshold, axis=1))


def active_units(
    model: Any, data: Any, threshold: float = 0.01, *, batch_size: int = 128
) -> ActiveUnits:
    """Counts the latent dimensions whose posterior mean varies over the data.

    A_d = Var_x(E_q(z|x)[z_d]) > threshold

    A categorical variable is one unit, active if the probability of any of its classes varies. If z
    has several groups, E_q[z_d] is replaced by the mean of its group at the means of the groups
    drawn before.

    Args:
        model: A `VAE`.
        data: Array `[N, *E]`, or dataset of batches as `fit` takes it.
        threshold: A unit is active if its variance exceeds this, >= 0.
        batch_size: Number of examples to process at once, if `data` is an array.

    Returns:
        An `ActiveUnits`.

    Raises:
        ValueError: If the threshold is negative, z is a vector of codes, or the data are empty or
            have no density.

    Example:
        >>> import tensorflow as tf, keras_vae as kv
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> active_units(model, tf.zeros([64, 8, 8, 1])).count
        0

    References:
        Burda et al., 2016, section 5.2, arXiv:1509.00519.
    """
    model = checked_vae(model)
    check_noise(model, WHY_NO_UNITS)
    data = Data.of("data", data)
    data.check_ends()
    threshold = checks.number("threshold", threshold, minimum=0.0)
    head = model.posterior_head
    means = [
        head.mean(model.encode(x, y)).numpy() for x, y in standardized(model, data, batch_size)
    ]
    return units_of(np.concatenate(means), threshold)


def units_of(means: np.ndarray, threshold: float) -> ActiveUnits:
    """Returns the `ActiveUnits` of posterior means `[N, D]`, or `[N, D, K]` with classes."""
    variances = np.var(means, axis=0, dtype=np.float64)
    units = ActiveUnits(0, variances, threshold)
    return dataclasses.replace(units, count=int(np.sum(units.active)))
