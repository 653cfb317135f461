"""A posterior that is drawn from the top down, like the prior."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.numerics import positive_scale
from keras_vae.distributions.chain import NormalChain
from keras_vae.distributions.ladder import Ladder as LadderDistribution
from keras_vae.posteriors.base import serializable
from keras_vae.posteriors.diagonal_normal import DiagonalNormal
from keras_vae.posteriors.grouped import GroupedPosterior

Parameters = tuple[tuple[tf.Tensor, tf.Tensor], ...]


@serializable
class Ladder(GroupedPosterior):
    """Stochastic layers drawn from the top down, each the product of an estimate and a conditional.

    q(z|x) = q(zL|x) prod_l q(z_l|z_{l+1}, x),  z = [z1, ..., zL]
    q(z_l|z_{l+1}, x) ~ N(z_l; mu_l(x), s_l(x)^2) p(z_l|z_{l+1})

    The estimates (mu_l, s_l) are linear in the features of their level, which
    `keras_vae.networks.LadderEncoder` computes from x. The conditionals, `top_down`, are normals
    with independent dimensions, whose parameters are computed by perceptrons. A
    `keras_vae.LadderVAE` shares them with its prior, a `keras_vae.priors.Chain`; otherwise the head
    has its own. Given the groups above, the KL of each group from such a prior has a closed form.
    The decoder is given z1 only.

    Args:
        latent_dims: Numbers of dimensions of z1, ..., zL; their sum is D.
        hidden: Width of the features of each level. The perceptron of p(z_l|z_{l+1}) has the width
            of level l + 1.
        depth: Number of hidden layers of each perceptron.
        activation: Name of a Keras activation, or a function.
        top_down: Conditionals to share, those of a `keras_vae.priors.Chain(...).chain`, or None for
            the head's own. Of the models that share them, only a `LadderVAE` can be saved.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.Distribution`, batch [B], event [D], for features `[B, F]`; F is the sum of the widths.

    Raises:
        ValueError: If an argument is not as above, or the features have another size.

    Example:
        >>> head = Ladder([3, 2], hidden=(16, 8))
        >>> head(tf.zeros([4, 24])).sample(5, seed=[0, 1]).shape
        TensorShape([5, 4, 5])
        >>> head.latents
        {'z1': (3,), 'z2': (2,)}

    References:
        Soenderby et al., 2016, eq. 13-19, arXiv:1602.02282.
    """

    def __init__(
        self,
        latent_dims: Sequence[int],
        hidden: Sequence[int],
        depth: int = 2,
        activation: str | Callable = "leaky_relu",
        top_down: NormalChain | None = None,
        **kwargs: Any,
    ):
        dims = checks.sizes("latent_dims", latent_dims)
        super().__init__(sum(dims), **kwargs)
        self.hidden = checked_widths(hidden, dims)
        self.depth = checks.integer("depth", depth)
        if top_down is None:
            widths = perceptron_widths(self.hidden, self.depth)
            top_down = NormalChain(dims, widths, activation, True, dtype=self.dtype_policy)
        self.top_down = checks.instance("top_down", top_down, NormalChain)
        if not top_down.reverse or top_down.latent_dims != dims:
            rule = f"must be drawn from the top down, with the latent_dims {dims}"
            found = f"latent_dims={top_down.latent_dims}, reverse={top_down.reverse}"
            raise checks.invalid("top_down", rule, found)
        self.estimates = [DiagonalNormal(size, dtype=self.dtype_policy) for size in dims]

    def build(self, features_shape: Sequence[int | None]) -> None:
        """Builds the estimates for features `[B, F]`, and the conditionals."""
        if self.flat_shape(features_shape)[1] != sum(self.hidden):
            rule = f"must have {sum(self.hidden)} features, those of levels of {self.hidden}"
            raise checks.invalid("features_shape", rule, tuple(features_shape))
        for estimate, width in zip(self.estimates, self.hidden, strict=True):
            estimate.build((None, width))
        if not self.top_down.built:
            self.top_down.build()

    @property
    def latents(self) -> dict[str, tuple[int, ...]]:
        return self.top_down.latents

    @property
    def decoder_input_dim(self) -> int:
        return self.estimates[0].latent_dim

    def decoder_input(self, z: tf.Tensor) -> tf.Tensor:
        """Returns z1 of z `[..., D]`."""
        return z[..., : self.decoder_input_dim]

    def parameters(self, features: tf.Tensor) -> Parameters:
        """Returns mu and the scale before its softplus for every level, each `[B, D_l]`."""
        levels = tf.split(self.flatten(features), self.hidden, axis=-1)
        pairs = zip(self.estimates, levels, strict=True)
        return tuple(estimate.parameters(level) for estimate, level in pairs)

    def distribution(self, parameters: Parameters, training: bool = False) -> LadderDistribution:
        """Returns q(z|x) with these parameters."""
        estimates = [(loc, positive_scale(raw_scale)) for loc, raw_scale in parameters]
        return LadderDistribution(estimates, self.top_down.conditionals)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, without shared conditionals."""
        config, chain = super().get_config(), self.top_down.arguments
        del config["latent_dim"]  # the sum of `latent_dims`
        own = {"latent_dims": chain["latent_dims"], "activation": chain["activation"]}
        return {**config, **own, "hidden": self.hidden, "depth": self.depth}


def checked_widths(hidden: Any, latent_dims: Sequence[int]) -> tuple[int, ...]:
    """Returns the widths of the levels; raises unless there is one for each level."""
    widths, levels = checks.sizes("hidden", hidden), checks.sizes("latent_dims", latent_dims)
    if len(widths) != len(levels):
        rule = f"must have a width for each of latent_dims, {levels}"
        raise checks.invalid("hidden", rule, widths)
    return widths


def perceptron_widths(hidden: Sequence[int], depth: int) -> tuple[tuple[int, ...], ...]:
    """Returns the widths of each conditional's perceptron in a ladder, the one of z1 first."""
    return tuple((width,) * depth for width in hidden[1:])
