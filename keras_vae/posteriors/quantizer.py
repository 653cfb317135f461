"""What every quantizer has in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from keras_vae.core import checks
from keras_vae.distributions.codes import CodeGroups, PointMass
from keras_vae.posteriors.base import Posterior
from keras_vae.posteriors.codebook import Batch
from keras_vae.posteriors.vector_map import VectorMap


class Quantized(NamedTuple):
    """The result of quantizing the features of B examples.

    Attributes:
        codes: The codes of all groups, int32 `[B, N]`.
        embedded: What the decoder gets, `[B, *decoder_input_shape]`: exactly the embedding of the
            codes, with the gradient that the quantizer passes on.
        commitment: Sum of the squared distances between z and what it was quantized to, without a
            gradient to the latter, `[B]`.
        penalty: Any other term of the loss, `[B]`.
        statistics: Sums over the batch from which the state of the quantizer is updated, by name;
            empty outside of training.
    """

    codes: tf.Tensor
    embedded: tf.Tensor
    commitment: tf.Tensor
    penalty: tf.Tensor
    statistics: Mapping[str, tf.Tensor]


class Quantizer(Posterior):
    """A posterior that is a single vector of codes for each x.

    q(z|x) = 1 for the codes z of the features of x

    It is trained by `keras_vae.VQVAE`, which calls `quantize_features`, because a point mass
    carries no gradient. A subclass defines what features are quantized to, what the decoder gets
    for given codes (`embed`), and how the statistics of a batch update its state.

    Args:
        groups: How the codes are laid out in z.
        **kwargs: Passed on to `keras.layers.Layer`.

    Attributes:
        groups: How the codes are laid out in z: shapes and numbers of codes by group.

    Example:
        Use the signs of features as codes, and pass the gradient on:

        >>> from keras_vae.posteriors.straight_through import straight_through
        >>> class Signs(Quantizer):
        ...     decoder_input_shape = (3,)
        ...     def quantize_features(self, features, batch=None):
        ...         codes, zeros = tf.cast(features > 0.0, tf.int32), 0.0 * features[:, 0]
        ...         embedded = straight_through(features, self.embed(codes))
        ...         return Quantized(codes, embedded, zeros, zeros, {})
        ...     def embed(self, codes):
        ...         return 2.0 * tf.cast(codes, tf.float32) - 1.0
        >>> head = Signs(CodeGroups.of((3,), 2))
        >>> head(tf.constant([[0.3, -2.0, 0.1]])).sample().numpy().tolist()
        [[1, 0, 1]]
    """

    discrete = True
    is_point_mass = True

    def __init__(self, groups: CodeGroups, **kwargs: Any):
        super().__init__(checks.instance("groups", groups, CodeGroups).size, **kwargs)
        self.groups = groups

    @property
    def codebooks(self) -> list[Any]:
        """The codebooks that k-means can set, from the top on, if there are any."""
        return []

    @property
    def sizes_of_codebooks(self) -> list[tuple[int, int]]:
        """Number of positions and of codes of each group whose codes k-means can set."""
        return list(zip(self.groups.sizes, self.num_codes, strict=True)) if self.codebooks else []

    @property
    def z_dtype(self) -> str:
        """The dtype of codes."""
        return "int32"

    @property
    def latents(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the maps by name, in their order within z."""
        return self.groups.latents

    @property
    def num_codes(self) -> tuple[int, ...]:
        """Number of codes of each group."""
        return self.groups.num_codes

    @property
    def reparameterized(self) -> bool:
        """Whether gradients pass through the samples drawn in training: not through codes."""
        return False

    def quantize_features(self, features: tf.Tensor, batch: Batch | None = None) -> Quantized:
        """Returns the codes of features `[B, ...]` and what the loss needs with them.

        Args:
            features: Output of the encoder.
            batch: Place of the batch among those of all replicas; None if it stands for itself.
        """
        raise NotImplementedError

    def embed(self, codes: tf.Tensor) -> tf.Tensor:
        """Returns what the decoder gets for codes `[..., N]`: `[..., *decoder_input_shape]`."""
        raise NotImplementedError

    def state_updates(self, sums: Mapping[str, tf.Tensor]) -> Iterable[tuple[Any, tf.Tensor]]:
        """Returns pairs of a variable and its next value, given sums over all replicas."""
        return ()

    def initialize(self, features: tf.Tensor, seed: int) -> None:
        """Sets the codebooks by k-means on the vectors quantized for features `[B, ...]`."""
        raise NotImplementedError

    # As a posterior.

    def parameters(self, features: tf.Tensor) -> tf.Tensor:
        """Returns the codes, int32 `[B, N]`."""
        return self.quantize_features(features).codes

    def distribution(self, parameters: tf.Tensor, training: bool = False) -> PointMass:
        """Returns the point mass at codes `[B, N]`."""
        return PointMass(parameters, self.groups, self.density_dtype)

    def decoder_input(self, z: tf.Tensor) -> tf.Tensor:
        """Returns what the decoder gets for codes `[..., N]`: their vectors."""
        return self.embed(z)

    def stddev(self, q: PointMass) -> tf.Tensor:
        """Returns zeros `[B, N]`: there is no spread."""
        return tf.zeros_like(q.codes, self.density_dtype)

    def summary(self, q: PointMass) -> dict[str, tf.Tensor]:
        """Returns the codes, under that name."""
        return {"codes": q.codes}

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        config = super().get_config()
        del config["latent_dim"]  # the number of codes in all maps
        return config


class MapQuantizer(VectorMap, Quantizer):
    """A quantizer of a single map of vectors z, which are linear in the features.

    Features that are a map of this size, `[B, *maps, C]`, are projected position by position, and
    all others as a whole.

    Args:
        maps: Shape of the map, such as `(8, 8)`.
        code_dim: Number D of dimensions of the vectors.
        num_codes: Number of codes of each group; every group has a map of this shape.
        **kwargs: Passed on to `keras.layers.Layer`.
    """

    def __init__(self, maps: Sequence[int], code_dim: int, num_codes: Sequence[int], **kwargs: Any):
        self.maps = checks.shape("maps", maps)
        self.code_dim = checks.size("code_dim", code_dim)
        one = len(num_codes) == 1
        layout = CodeGroups.of(self.maps if one else [self.maps] * len(num_codes), num_codes)
        super().__init__(layout, **kwargs)

    def build(self, features_shape: Sequence[int | None]) -> None:
        """Builds the projection for features of this shape, `[B, ...]`, and the codebooks."""
        self.build_projection(features_shape)
        self.build_codebooks()
        self.built = True

    def build_codebooks(self) -> None:
        """Creates the codebooks, if there are any."""

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "maps": self.maps}


def squared_distances(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Returns the sum of squared differences for each example of `[B, P, D]`: `[B]`."""
    return tf.reduce_sum(tf.square(a - b), axis=[1, 2])


def prefixed(name: str, statistics: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns the statistics of one of several codebooks, with this prefix to their names.

    Example:
        >>> prefixed("top", {"counts": 1})
        {'top/counts': 1}
    """
    return {f"{name}/{key}": value for key, value in statistics.items()}


def of_prefix(name: str, statistics: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns the statistics that `prefixed` was given with this name.

    Example:
        >>> of_prefix("top", {"top/counts": 1, "bottom/counts": 2})
        {'counts': 1}
    """
    start = f"{name}/"
    found = ((key, value) for key, value in statistics.items() if key.startswith(start))
    return {key.removeprefix(start): value for key, value in found}
