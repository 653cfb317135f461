"""A posterior of several stochastic layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from keras_vae.core import checks
from keras_vae.distributions.chain import Chain as ChainDistribution
from keras_vae.distributions.chain import NormalChain
from keras_vae.posteriors.base import serializable
from keras_vae.posteriors.diagonal_normal import DiagonalNormal
from keras_vae.posteriors.grouped import GroupedPosterior


@serializable
class Chain(GroupedPosterior):
    """Stochastic layers drawn from the bottom up, each a diagonal normal given the one below.

    q(z|x) = q(z1|x) q(z2|z1) ... q(zL|z_{L-1}),  z = [z1, ..., zL]

    The parameters of q(z1|x) are linear in the features, as those of `DiagonalNormal` are: its
    hidden layers are the encoder. The hidden layers of every other conditional belong to the head.
    The decoder is given z1 only, because x depends on z through z1; `keras_vae.priors.Chain` with
    the same `latent_dims` makes z1 depend on the rest. The KL is estimated from the samples.

    Args:
        latent_dims: Numbers of dimensions of z1, ..., zL; their sum is D.
        hidden: Widths of the hidden layers of every q(z_l|z_{l-1}); `()` makes it linear in
            z_{l-1}. Alternatively, such widths for each conditional, the one nearest to x first.
        activation: Name of a Keras activation, or a function.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.Distribution`, batch [B], event [D], for features `[B, ...]`.

    Raises:
        ValueError: If an argument is not as above, or the number of features is unknown.

    Example:
        >>> head = Chain([3, 2], hidden=(16,))
        >>> head(tf.zeros([4, 8])).sample(5, seed=[0, 1]).shape
        TensorShape([5, 4, 5])
        >>> head.latents
        {'z1': (3,), 'z2': (2,)}

    References:
        Burda et al., 2016, eq. 3 and section 5, arXiv:1509.00519.
    """

    def __init__(
        self,
        latent_dims: Sequence[int],
        hidden: Sequence[Any] = (100, 100),
        activation: str | Callable = "tanh",
        **kwargs: Any,
    ):
        super().__init__(sum(checks.sizes("latent_dims", latent_dims)), **kwargs)
        self.chain = NormalChain(latent_dims, hidden, activation, dtype=self.dtype_policy)
        self.base = DiagonalNormal(self.chain.latent_dims[0], dtype=self.dtype_policy)

    def build(self, features_shape: Sequence[int | None]) -> None:
        """Builds q(z1|x) for features of this shape, `[B, ...]`, and the conditionals."""
        self.base.build(features_shape)
        self.chain.build()

    @property
    def latents(self) -> dict[str, tuple[int, ...]]:
        return self.chain.latents

    @property
    def decoder_input_dim(self) -> int:
        return self.base.latent_dim

    def decoder_input(self, z: tf.Tensor) -> tf.Tensor:
        """Returns z1 of z `[..., D]`."""
        return z[..., : self.decoder_input_dim]

    def parameters(self, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the parameters of q(z1|x); the other layers depend on x only through z1."""
        return self.base.parameters(features)

    def distribution(
        self, parameters: tuple[tf.Tensor, tf.Tensor], training: bool = False
    ) -> ChainDistribution:
        """Returns q(z|x) with these parameters."""
        return self.chain.distribution(self.base.distribution(parameters))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        config = super().get_config()
        del config["latent_dim"]  # the sum of `latent_dims`
        return {**config, **self.chain.arguments}
