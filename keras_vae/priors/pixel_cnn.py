"""Autoregressive priors over a map of codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_vae.core import checks
from keras_vae.distributions.autoregressive_codes import AutoregressiveCodes
from keras_vae.distributions.causal import CausalAttention, GatedLayer
from keras_vae.distributions.causal_network import CausalNetwork, Layers
from keras_vae.distributions.codes import CodeGroups
from keras_vae.priors.base import Infer, serializable
from keras_vae.priors.code_prior import CodePrior


class AutoregressivePrior(CodePrior):
    """A prior over a map of codes, each drawn given all codes before it, row by row.

    A subclass chooses the layers of the network (`_make_layers`). The prior is conditional if it is
    built for a condition.

    Args:
        maps: Shape of the map of codes, `(H, W)`; `(W,)` is a single row.
        num_codes: Number K of codes.
        filters: Number of channels of the network.
        kernel_size: Side of a square, odd and >= 3; a convolution covers its earlier half.
        **kwargs: Passed on to `keras.layers.Layer`.
    """

    def __init__(
        self, maps: Sequence[int], num_codes: int, filters: int, kernel_size: int, **kwargs: Any
    ):
        shape = checks.shape("maps", maps)
        if len(shape) > 2:
            raise checks.invalid("maps", "must be (H, W), or (W,) for a single row", maps)
        super().__init__(CodeGroups.of(shape, num_codes), **kwargs)
        self.filters = checks.size("filters", filters)
        self.kernel_size = checks.integer("kernel_size", kernel_size, minimum=3)
        if not self.kernel_size % 2:
            raise checks.invalid("kernel_size", "must be odd", kernel_size)

    def _make_layers(self) -> Layers:
        raise NotImplementedError

    @property
    def rows_and_columns(self) -> tuple[int, int]:
        """Height and width of the map."""
        height, width = (1, *self.groups.maps[0])[-2:]
        return height, width

    def build(
        self,
        encoder_input_shape: Sequence[int | None] | None = None,
        condition_shape: Sequence[int | None] | None = None,
    ) -> None:
        """Creates the weights: with a condition `[B, C]` or `[B, h, w, C]`, those of p(z|c)."""
        height, width = self.rows_and_columns
        if condition_shape is not None:
            self.condition_shape = _checked_condition(tuple(condition_shape), (height, width))
        self.network = CausalNetwork(
            (height, width),
            self.groups.num_codes[0],
            self.filters,
            self._make_layers(),
            dtype=self.density_dtype,
        )
        features = None if self.condition_shape is None else self.condition_shape[-1]
        self.network.build(condition_dim=features)
        self.built = True

    def call(
        self, condition: tf.Tensor | None = None, infer: Infer | None = None
    ) -> AutoregressiveCodes:
        """Returns p(z), or p(z|c) for a condition `[B, C]` or `[..., h, w, C]`.

        A prior that was built without a condition ignores any condition.
        """
        if self.condition_shape is None:
            return AutoregressiveCodes(self.network)
        if condition is None:
            rule = f"must be given: this {type(self).__name__} was built for one"
            raise checks.invalid("condition", rule, None)
        features = self.to_density(condition)
        if len(self.condition_shape) == 2:
            features = features[..., tf.newaxis, tf.newaxis, :]
        return AutoregressiveCodes(self.network, features)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        own = {"maps": self.groups.maps[0], "num_codes": self.groups.num_codes[0]}
        return {
            **super().get_config(),
            **own,
            "filters": self.filters,
            "kernel_size": self.kernel_size,
        }


def _checked_condition(
    shape: tuple[int | None, ...], maps: tuple[int, int]
) -> tuple[int | None, ...]:
    fits = len(shape) == 2 or (len(shape) == 4 and shape[1:3] in (maps, (1, 1)))
    if not fits or shape[-1] is None:
        rule = f"must be (batch, C) or (batch, {maps[0]}, {maps[1]}, C), with C known"
        raise checks.invalid("condition_shape", rule, shape)
    return shape


@serializable
class PixelCNN(AutoregressivePrior):
    """A gated PixelCNN over a map of codes.

    p(z) = prod_n p(z_n | z_1, ..., z_{n-1}), row by row

    Each layer has a vertical stack, which sees the rows above, and a horizontal stack, which sees
    the codes to the left and the vertical stack, so that there is no blind spot. A code depends on
    codes at most `num_layers * (kernel_size // 2) + 1` rows above it, and about as many columns
    away. This distance should cover the whole map: the defaults reach 17. There is no batch
    normalization. The probabilities are nearly uniform at the start. The network works in the dtype
    of densities even under mixed precision.

    Train it with `keras_vae.PriorModel`. It is p(z|c) if it is given labels as a condition
    `[B, C]`, or if a `Hierarchy` builds it for the map above.

    Args:
        maps: Shape of the map of codes, `(H, W)`; `(W,)` is a single row.
        num_codes: Number K of codes, at least 2.
        filters: Number of channels of both stacks.
        num_layers: Number of gated layers.
        kernel_size: Side of a square, odd and >= 3; a convolution covers its earlier half.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.Distribution` over int32 codes, flat and row by row: batch [] or that of the condition,
        event [H W]. `log_prob` is in nats; `sample` caches what the layers have computed.

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> prior = PixelCNN((4, 4), num_codes=8, filters=16, num_layers=2)()
        >>> z = prior.sample(3, seed=1)
        >>> z.shape, prior.log_prob(z).shape
        (TensorShape([3, 16]), TensorShape([3]))

    References:
        van den Oord et al., 2016, section 2, arXiv:1606.05328; van den Oord et al., 2017, section
        3.3 (over codes), arXiv:1711.00937.
    """

    def __init__(
        self,
        maps: Sequence[int],
        num_codes: int,
        filters: int = 64,
        num_layers: int = 8,
        kernel_size: int = 5,
        **kwargs: Any,
    ):
        super().__init__(maps, num_codes, filters, kernel_size, **kwargs)
        self.num_layers = checks.integer("num_layers", num_layers)

    def _make_layers(self) -> Layers:
        return [
            GatedLayer(self.filters, self.kernel_size, dtype=self.density_dtype)
            for _ in range(self.num_layers)
        ]

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "num_layers": self.num_layers}


@serializable
class PixelSNAIL(AutoregressivePrior):
    """A PixelCNN with self-attention: every code sees all codes before it at once.

    p(z) = prod_n p(z_n | z_1, ..., z_{n-1}), row by row

    Every block consists of gated layers, like those of `PixelCNN`, and a layer of causal attention
    over all positions so far. The convolutions see what is near and the attention sees what is far
    away, so that a few layers are enough. Otherwise, it is like `PixelCNN`.

    Args:
        maps: Shape of the map of codes, `(H, W)`; `(W,)` is a single row.
        num_codes: Number K of codes, at least 2.
        filters: Number of channels of both stacks.
        num_blocks: Number of blocks.
        layers_per_block: Number of gated layers before the attention of a block.
        kernel_size: Side of a square, odd and >= 3; a convolution covers its earlier half.
        num_heads: Number of heads of the attention.
        head_dim: Number of dimensions of the queries, keys and values of each head.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.Distribution` over int32 codes, flat and row by row: batch [] or that of the condition,
        event [H W].

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> prior = PixelSNAIL((4, 4), num_codes=8, filters=16, num_blocks=1)()
        >>> prior.sample(3, seed=1).shape
        TensorShape([3, 16])

    References:
        Chen et al., 2018, arXiv:1712.09763; over codes: Razavi et al., 2019, section 3.2,
        arXiv:1906.00446.
    """

    def __init__(
        self,
        maps: Sequence[int],
        num_codes: int,
        filters: int = 64,
        num_blocks: int = 2,
        layers_per_block: int = 3,
        kernel_size: int = 5,
        num_heads: int = 4,
        head_dim: int = 16,
        **kwargs: Any,
    ):
        super().__init__(maps, num_codes, filters, kernel_size, **kwargs)
        self.num_blocks = checks.integer("num_blocks", num_blocks)
        self.layers_per_block = checks.integer("layers_per_block", layers_per_block)
        self.num_heads = checks.integer("num_heads", num_heads)
        self.head_dim = checks.integer("head_dim", head_dim)

    def _make_layers(self) -> Layers:
        dtype, layers = self.density_dtype, []
        for _ in range(self.num_blocks):
            for _ in range(self.layers_per_block):
                layers.append(GatedLayer(self.filters, self.kernel_size, dtype=dtype))
            layers.append(CausalAttention(self.filters, self.num_heads, self.head_dim, dtype=dtype))
        return layers

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        names = ("num_blocks", "layers_per_block", "num_heads", "head_dim")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
