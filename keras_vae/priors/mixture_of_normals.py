"""A learned mixture of normals as the prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.core.numerics import inverse_scale, positive_scale
from keras_vae.priors.base import Infer, Prior, serializable

tfd = tfp.distributions


@serializable
class MixtureOfNormals(Prior):
    """A mixture of diagonal normals, all of whose parameters are learned.

    p(z) = sum_k softmax(logits)_k N(z; mu_k, diag(sigma_k)^2)

    Starts with equal weights, scales of one, and locations drawn from N(0, I).

    Args:
        latent_dim: Number D of latent dimensions.
        num_components: Number K of components.
        seed: Seed of the initial locations.
        **kwargs: Of `keras.layers.Layer`.

    Returns:
        `tfd.MixtureSameFamily`, batch [], event [D].

    Raises:
        ValueError: If `latent_dim` or `num_components` is not a positive integer, or `seed` not
            an integer >= 0.

    Example:
        >>> prior = MixtureOfNormals(2, num_components=10)()
        >>> prior.log_prob(tf.zeros([5, 2])).shape
        TensorShape([5])

    References:
        Tomczak & Welling, 2018, section 3 (as a baseline), arXiv:1705.07120.
    """

    def __init__(self, latent_dim: int, num_components: int, seed: int = 0, **kwargs: Any):
        super().__init__(latent_dim, **kwargs)
        self.num_components = checks.integer("num_components", num_components)
        self.seed = checks.integer("seed", seed, minimum=0)

    def build(
        self,
        encoder_input_shape: Sequence[int | None] | None = None,
        condition_shape: Sequence[int | None] | None = None,
    ) -> None:
        """Makes the parameters; needs no shape."""
        shape = (self.num_components, self.latent_dim)
        # Equal components would have equal gradients and stay equal for ever.
        spread = keras.initializers.RandomNormal(stddev=1.0, seed=self.seed)
        unit = keras.initializers.Constant(inverse_scale(1.0))
        self.logits = self.add_density_weight(shape[:1], "zeros", "logits")
        self.locs = self.add_density_weight(shape, spread, "locs")
        self.raw_scales = self.add_density_weight(shape, unit, "raw_scales")

    def call(
        self, condition: tf.Tensor | None = None, infer: Infer | None = None
    ) -> tfd.MixtureSameFamily:
        """Returns p(z), whatever the arguments."""
        scales = positive_scale(self.to_density(self.raw_scales))
        return tfd.MixtureSameFamily(
            tfd.Categorical(logits=self.to_density(self.logits)),
            tfd.MultivariateNormalDiag(self.to_density(self.locs), scales),
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "num_components": self.num_components,
            "seed": self.seed,
        }
