"""The mean KL of the posterior from the prior."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_vae import bounds
from keras_vae.core import checks
from keras_vae.evaluation.estimate import Estimate, estimate_of
from keras_vae.evaluation.reading import checked_vae, map_batches


def mean_kl(
    model: Any,
    data: Any,
    *,
    num_samples: int = 64,
    seed: int = 0,
    batch_size: int = 128,
    verbose: bool = True,
) -> Estimate:
    """Computes the mean KL of q(z|x) from the prior, which is the rate of the model.

    mean_kl = E_x KL(q(z|x) || p(z))

    The closed form is used if there is one; otherwise, the KL is estimated without bias from
    samples of z. For conditional models it is E_(x,y) KL(q(z|x,y) || p(z|y)).

    Args:
        model: A `VAE`.
        data: Array `[N, *E]`, or dataset of batches as `fit` takes it.
        num_samples: Samples of z for every x if there is no closed form.
        seed: Integer >= 0.
        batch_size: Number of examples to process at once, if `data` is an array.
        verbose: Whether to show progress if it takes long.

    Returns:
        An `Estimate`, in nats; its standard error is over the examples.

    Raises:
        ValueError: If a number is out of range, the model is not built, or the data are empty or
            have no density.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> mean_kl(model, tf.zeros([64, 8, 8, 1])).per_example.shape
        (64,)

    References:
        Kingma and Welling, 2014, eq. 3, arXiv:1312.6114; Alemi et al., 2018, eq. 6 (the rate),
        arXiv:1711.00464.
    """
    model, num_samples = checked_vae(model), checks.count("num_samples", num_samples)
    if model.is_point_mass:
        num_samples = 1  # All samples are the same.

    def kl_of_batch(x: tf.Tensor, y: Any, seed: tf.Tensor) -> tf.Tensor:
        q, p_z = model.encode(x, y), model.prior(y)
        kl = bounds.closed_form_kl(q, p_z)  # [B, G]
        if kl is None:
            z = q.sample(num_samples, seed=seed)  # [S, B, D]
            kl = bounds.estimated_kl(q, p_z, z)
        return tf.reduce_sum(tf.cast(kl, tf.float64), axis=-1)

    return estimate_of(list(map_batches(kl_of_batch, model, data, batch_size, seed, verbose)))
