"""A posterior of binary variables."""

from __future__ import annotations

from keras_vae.distributions import discrete
from keras_vae.posteriors.base import serializable
from keras_vae.posteriors.discrete import LinearLogits


@serializable
class Bernoulli(LinearLogits):
    """Independent binary variables whose logits are linear in the features.

    q(z|x) = prod_d Bernoulli(z_d; sigmoid(l_d(h))),  l = W h + b

    z is exactly 0 or 1. Such draws carry no gradient, so the objective must not need one: use
    `ELBO` or `ImportanceWeighted` with `estimator="score_function"`, or `ExactMarginal`. With a
    temperature, draws are relaxed in training, and only there,

    z_d = sigmoid((l_d + log u_d - log(1 - u_d)) / temperature),  u ~ U(0, 1)

    and gradients pass through them. These gradients are biased; a lower temperature reduces the
    bias at the price of variance. The log-density of relaxed draws is
    z_d log q_d + (1 - z_d) log(1 - q_d), and the KL is that of the discrete distributions. To
    change the temperature in training, use
    `callbacks.HyperparameterSchedule("temperature", schedule)`.

    Args:
        latent_dim: Number D of latent variables.
        temperature: Temperature of the relaxed draws in training, > 0; None for whole draws.
        straight_through: Whether relaxed draws are rounded to 0 or 1 in the forward pass, so that
            the decoder sees only whole draws; the gradient is that of the relaxed draw.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.Independent` over 0 and 1, batch [B], event [D], for features `[B, ...]`.

    Raises:
        ValueError: If an argument is not as above, or the number of features is unknown.

    Example:
        >>> import tensorflow as tf
        >>> q = Bernoulli(2)(tf.zeros([4, 8]))
        >>> q.sample(5, seed=[0, 1]).shape
        TensorShape([5, 4, 2])

    References:
        Maddison et al., 2017, appendix B, arXiv:1611.00712; Jang et al., 2017, section 2.2
        (straight-through), arXiv:1611.01144.
    """

    whole = discrete.Bernoulli
    relaxed = discrete.RelaxedBernoulli
