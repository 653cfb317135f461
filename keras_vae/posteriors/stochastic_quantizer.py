"""Quantization that draws the codes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.core.initializers import Constant
from keras_vae.distributions import discrete
from keras_vae.posteriors.base import serializable
from keras_vae.posteriors.codebook import scores, vectors_of_length_one
from keras_vae.posteriors.discrete import DiscretePosterior
from keras_vae.posteriors.vector_map import VectorMap

tfd = tfp.distributions


@serializable
class StochasticQuantizer(VectorMap, DiscretePosterior):
    """Draws a code for each vector of a map; near codes are the most probable.

    h_p = W f_p + b,  q(k_p|x) ~ exp(-|h_p - e_k|^2 / (2 s^2))

    z has a one-hot row for each position, and the decoder gets the vectors e_k that these rows
    select, as a map `[B, *maps, code_dim]`. The scale s is learned together with the vectors, by
    gradients. It starts so wide that many codes are drawn, and shrinks as the encoder becomes more
    certain, so that no restarts, commitment or annealing are needed. Use it as a posterior of
    `keras_vae.VAE`, best with `priors.Categorical`. The bound is exact in the codes: the published
    objective has one more term, because there the vectors themselves are noisy.

    Draws carry a gradient only with a temperature, as for `Categorical`.

    Args:
        maps: Shape of the map of codes, such as `(8, 8)`.
        codebook_size: Number K of codes, at least 2.
        code_dim: Number D of dimensions of their vectors.
        initial_scale: The scale s at the start, > 0.
        temperature: Temperature of the relaxed draws in training, > 0; None for whole draws.
        straight_through: Whether relaxed draws are rounded to whole draws in the forward pass.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.Independent` over one-hot rows, batch [B], event [N, K], row by row of the map.

    Raises:
        ValueError: If an argument is not as above, or the features are a map of another size.

    Example:
        >>> head = StochasticQuantizer((4, 4), codebook_size=16, code_dim=3, temperature=0.5)
        >>> q = head(tf.zeros([2, 4, 4, 8]))
        >>> q.sample().shape, head.decoder_input(q.sample()).shape
        (TensorShape([2, 16, 16]), TensorShape([2, 4, 4, 3]))

    References:
        Takida et al., 2022, section 3 (one scale for all), arXiv:2205.07547.
    """

    whole = discrete.OneHotCategorical
    relaxed = discrete.RelaxedOneHotCategorical

    def __init__(
        self,
        maps: Sequence[int],
        codebook_size: int,
        code_dim: int,
        *,
        initial_scale: float = 1.0,
        temperature: float | None = None,
        straight_through: bool = False,
        **kwargs: Any,
    ):
        self.maps = checks.shape("maps", maps)
        self.codebook_size = checks.size("codebook_size", codebook_size, minimum=2)
        self.code_dim = checks.size("code_dim", code_dim)
        self.initial_scale = checks.number("initial_scale", initial_scale, 0.0, exclusive=True)
        size = math.prod(self.maps)
        super().__init__(size, temperature=temperature, straight_through=straight_through, **kwargs)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one z: `(N, K)`."""
        return (self.latent_dim, self.codebook_size)

    def build(self, features_shape: Sequence[int | None]) -> None:
        """Builds the projection of features of this shape, `[B, ...]`, and the codebook."""
        self.build_projection(features_shape)
        options: dict[str, Any] = {"dtype": self.density_dtype, "autocast": False}
        self.embeddings = self.add_weight(
            shape=(self.codebook_size, self.code_dim),
            initializer=vectors_of_length_one(self.code_dim),
            name="embeddings",
            **options,
        )
        start = Constant(math.log(self.initial_scale))
        self.log_scale = self.add_weight(shape=(), initializer=start, name="log_scale", **options)
        self.built = True

    def parameters(self, features: tf.Tensor) -> tf.Tensor:
        """Returns the logits, `[B, N, K]`."""
        distances = scores(self.project(features), tf.convert_to_tensor(self.embeddings))
        return -0.5 * tf.exp(-2.0 * tf.convert_to_tensor(self.log_scale)) * distances

    def decoder_input(self, z: tf.Tensor) -> tf.Tensor:
        """Returns the vectors that one-hot rows `[..., N, K]` select; relaxed rows mix several."""
        vectors = tf.convert_to_tensor(self.embeddings)
        return self.as_map(tf.einsum("...pk,kd->...pd", self.to_density(z), vectors))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        config = super().get_config()
        del config["latent_dim"]  # the number of positions
        names = ("maps", "codebook_size", "code_dim", "initial_scale")
        return {**config, **{name: getattr(self, name) for name in names}}
