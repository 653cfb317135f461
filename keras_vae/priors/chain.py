"""A prior of several stochastic layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from keras_vae.core import checks
from keras_vae.distributions.chain import Chain as ChainDistribution
from keras_vae.distributions.chain import NormalChain
from keras_vae.distributions.normal import MultivariateNormalDiag
from keras_vae.priors.base import Infer, Prior, serializable


@serializable
class Chain(Prior):
    """Stochastic layers drawn from the top down, each a diagonal normal given the one above.

    p(z) = p(z1|z2) ... p(z_{L-1}|zL) N(zL; 0, I),  z = [z1, ..., zL]

    It is used with `keras_vae.posteriors.Chain`, which is drawn in the opposite direction. z has
    the order of the posterior: z1, which the decoder is given, comes first.

    Args:
        latent_dims: Numbers of dimensions of z1, ..., zL; their sum is D.
        hidden: Widths of the hidden layers of every p(z_l|z_{l+1}); `()` makes it linear in
            z_{l+1}. Alternatively, such widths for each conditional, the one nearest to x first.
        activation: Name of a Keras activation, or a function.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.Distribution`, batch [], event [D].

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> Chain([3, 2], hidden=(16,))().sample(5, seed=[0, 1]).shape
        TensorShape([5, 5])

    References:
        Burda et al., 2016, eq. 2 and section 5, arXiv:1509.00519.
    """

    def __init__(
        self,
        latent_dims: Sequence[int],
        hidden: Sequence[Any] = (100, 100),
        activation: str | Callable = "tanh",
        **kwargs: Any,
    ):
        super().__init__(sum(checks.sizes("latent_dims", latent_dims)), **kwargs)
        self.chain = NormalChain(
            latent_dims, hidden, activation, reverse=True, dtype=self.dtype_policy
        )

    @property
    def latents(self) -> dict[str, tuple[int, ...]]:
        return self.chain.latents

    def build(
        self,
        encoder_input_shape: Sequence[int | None] | None = None,
        condition_shape: Sequence[int | None] | None = None,
    ) -> None:
        """Builds the conditionals, unless a posterior that shares them did; needs no shape."""
        if not self.chain.built:
            self.chain.build()

    def call(
        self, condition: tf.Tensor | None = None, infer: Infer | None = None
    ) -> ChainDistribution:
        """Returns p(z), whatever the arguments."""
        zeros = tf.zeros(self.chain.latent_dims[-1], self.density_dtype)
        top = MultivariateNormalDiag(zeros, scale_diag=tf.ones_like(zeros))
        return self.chain.distribution(top)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        config = super().get_config()
        del config["latent_dim"]  # the sum of `latent_dims`
        return {**config, **self.chain.arguments}
