"""A posterior of categorical variables."""

from __future__ import annotations

from typing import Any

import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.distributions import discrete
from keras_vae.posteriors.base import serializable
from keras_vae.posteriors.discrete import LinearLogits

tfd = tfp.distributions


@serializable
class Categorical(LinearLogits):
    """Independent categorical variables as one-hot rows, with logits linear in the features.

    q(z|x) = prod_d Categorical(z_d; softmax(l_d(h))),  l = W h + b

    z consists of exact one-hot rows, one for each variable. Such draws carry no gradient, so the
    objective must not need one: use `ELBO` or `ImportanceWeighted` with
    `estimator="score_function"`, or `ExactMarginal`. With a temperature, draws are relaxed in
    training, and only there,

    z_d = softmax((l_d + g_d) / temperature),  g ~ Gumbel(0, 1)

    and gradients pass through them. These gradients are biased; a lower temperature reduces the
    bias at the price of variance. The log-density of relaxed draws is sum_k z_dk log q_dk, which is
    linear between whole draws, and the KL is that of the discrete distributions. To change the
    temperature in training, use `callbacks.HyperparameterSchedule("temperature", schedule)`.

    Args:
        latent_dim: Number D of latent variables.
        num_classes: Number K of classes of each variable, at least 2.
        temperature: Temperature of the relaxed draws in training, > 0; None for whole draws.
        straight_through: Whether relaxed draws are rounded to one-hot rows in the forward pass, so
            that the decoder sees only whole draws; the gradient is that of the relaxed draw.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.Independent` over one-hot rows, batch [B], event [D, K], for features `[B, ...]`.

    Raises:
        ValueError: If an argument is not as above, or the number of features is unknown.

    Example:
        >>> import tensorflow as tf
        >>> q = Categorical(2, num_classes=3)(tf.zeros([4, 8]))
        >>> q.sample(5, seed=[0, 1]).shape
        TensorShape([5, 4, 2, 3])

    References:
        Jang et al., 2017, eq. 2 and section 2.2 (straight-through), arXiv:1611.01144; Maddison et
        al., 2017, appendix C.3.3, arXiv:1611.00712.
    """

    whole = discrete.OneHotCategorical
    relaxed = discrete.RelaxedOneHotCategorical

    def __init__(
        self,
        latent_dim: int,
        num_classes: int,
        *,
        temperature: float | None = None,
        straight_through: bool = False,
        **kwargs: Any,
    ):
        self.num_classes = checks.size("num_classes", num_classes, minimum=2)
        super().__init__(
            latent_dim, temperature=temperature, straight_through=straight_through, **kwargs
        )

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one z: `(D, K)`."""
        return (self.latent_dim, self.num_classes)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "num_classes": self.num_classes}
