"""A posterior that is drawn from the top down, as the prior is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.core.numerics import positive_scale
from keras_vae.distributions.chain import NormalChain
from keras_vae.distributions.ladder import Ladder as LadderDistribution
from keras_vae.posteriors.base import Posterior, serializable
from keras_vae.posteriors.diagonal_normal import DiagonalNormal

Parameters = tuple[tuple[tf.Tensor, tf.Tensor], ...]


@serializable
class Ladder(Posterior):
    """Stochastic layers from the top down, each the product of an estimate and a conditional.

    q(z|x) = q(zL|x) prod_l q(z_l|z_{l+1}, x),  z = [z1, ..., zL]
    q(z_l|z_{l+1}, x) ~ N(z_l; mu_l(x), s_l(x)^2) p(z_l|z_{l+1})

    The estimates (mu_l, s_l) are linear in the features of their level, which
    `keras_vae.networks.LadderEncoder` makes of x. The conditionals are normals with independent
    dimensions, whose parameters are those of perceptrons: `top_down`. A `keras_vae.LadderVAE`
    shares them with its prior, a `keras_vae.priors.Chain`; without sharing, they are the head's
    own. Given the groups above, the KL of each group from such a prior has a closed form. The
    decoder is given z1 alone.

    Args:
        latent_dims: Numbers of dimensions of z1, ..., zL; z has D, their sum.
        hidden: Widths of the features of all levels. The perceptron of p(z_l|z_{l+1}) has the
            width of level l + 1.
        depth: Number of hidden layers of each perceptron.
        activation: Name of a Keras activation, or a function.
        top_down: Conditionals to share, or None for own ones.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.Distribution`, batch [B], event [D], for features `[B, F]`, F the sum of the widths.

    Raises:
        ValueError: If an argument is not as above, or features have another size.

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
            widths = perceptrons(self.hidden, self.depth)
            top_down = NormalChain(dims, widths, activation, True, dtype=self.dtype_policy)
        self.top_down = top_down
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
        """Returns mu and the scale before its softplus of every level, each `[B, D_l]`."""
        levels = tf.split(self.flatten(features), self.hidden, axis=-1)
        pairs = zip(self.estimates, levels, strict=True)
        return tuple(estimate.parameters(level) for estimate, level in pairs)

    def distribution(self, parameters: Parameters, training: bool = False) -> LadderDistribution:
        """Returns q(z|x) of its parameters."""
        estimates = [(loc, positive_scale(raw_scale)) for loc, raw_scale in parameters]
        return LadderDistribution(estimates, self.top_down.conditionals)

    def mean(self, q: tfp.distributions.Distribution) -> tf.Tensor:
        """Returns the mean of q(zL|x), then of each layer at the mean of the one above.

        Only that of zL is a marginal mean, unless the conditionals are linear: Tensor `[B, D]`.
        """
        return q.means_along()

    def stddev(self, q: tfp.distributions.Distribution) -> tf.Tensor:
        """Returns the scales of the layers, each given the mean of the layer above: `[B, D]`.

        Only those of zL are marginal standard deviations.
        """
        return q.stddevs_along()

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, without conditionals that are shared."""
        config, chain = super().get_config(), self.top_down.arguments
        del config["latent_dim"]  # the sum of `latent_dims`
        own = {"latent_dims": chain["latent_dims"], "activation": chain["activation"]}
        return {**config, **own, "hidden": self.hidden, "depth": self.depth}


def checked_widths(hidden: Any, latent_dims: Sequence[int]) -> tuple[int, ...]:
    """Returns the widths of the levels, or raises unless there is one for each."""
    widths, levels = checks.sizes("hidden", hidden), checks.sizes("latent_dims", latent_dims)
    if len(widths) != len(levels):
        rule = f"must have a width for each of latent_dims, {levels}"
        raise checks.invalid("hidden", rule, widths)
    return widths


def perceptrons(hidden: Sequence[int], depth: int) -> tuple[tuple[int, ...], ...]:
    """Returns the widths of the perceptron of each conditional of a ladder, that of z1 first."""
    return tuple((width,) * depth for width in hidden[1:])
