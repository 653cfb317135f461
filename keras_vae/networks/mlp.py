"""Fully connected encoder and decoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.networks.chain import Chain
from keras_vae.networks.output_bias import OutputBias


@serializable
class MLPEncoder(Chain):
    """Dense layers on the flattened x; the default is the one-layer model of Burda et al.

    h_0 = flatten(x), h_i = activation(W_i h_{i-1} + b_i)

    Args:
        hidden_units: Width of each layer; the last one is the number F of features.
        activation: Name of a Keras activation, or a function.
        **kwargs: Passed on to `keras.Model`.

    Returns:
        Tensor `[B, F]`, features, for x `[B, ...]`.

    Raises:
        ValueError: If an argument, or the shape of x, is not as above.

    Example:
        >>> MLPEncoder((64, 32))(keras.ops.zeros([2, 28, 28, 1])).shape
        TensorShape([2, 32])

    References:
        Burda et al., 2016, section 5, arXiv:1509.00519.
    """

    def __init__(
        self,
        hidden_units: Sequence[int] = (200, 200),
        activation: str | Callable = "tanh",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.hidden_units = checks.sizes("hidden_units", hidden_units)
        self.activation = checks.activation("activation", activation)
        self.set_layers([keras.layers.Flatten(dtype=self.dtype_policy), *_dense(self)])

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), **_mlp_config(self)}


@serializable
class MLPDecoder(Chain):
    """Dense layers from z to the parameters of p(x|z).

    h_0 = z, h_i = activation(W_i h_{i-1} + b_i), parameters = reshape(W h) + bias

    Args:
        shape: Shape of the parameters of one datum: the `params_shape` of the likelihood.
        hidden_units: Width of each hidden layer.
        activation: Name of a Keras activation, or a function.
        **kwargs: Passed on to `keras.Model`.

    Returns:
        Tensor `[B, *shape]`, unbounded parameters, for z `[B, D]`, or for maps
        `[B, ...]`, which are flattened.

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> MLPDecoder((28, 28, 1), (32, 64))(keras.ops.zeros([2, 8])).shape
        TensorShape([2, 28, 28, 1])

    References:
        Burda et al., 2016, section 5, arXiv:1509.00519.
    """

    takes_vectors = True

    def __init__(
        self,
        shape: Sequence[int],
        hidden_units: Sequence[int] = (200, 200),
        activation: str | Callable = "tanh",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.shape = checks.shape("shape", shape)
        self.hidden_units = checks.sizes("hidden_units", hidden_units)
        self.activation = checks.activation("activation", activation)
        policy = self.dtype_policy
        self.set_layers(
            [
                *_dense(self),
                keras.layers.Dense(math.prod(self.shape), use_bias=False, dtype=policy),
                keras.layers.Reshape(self.shape, dtype=policy),
                OutputBias(dtype=policy),
            ]
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "shape": self.shape, **_mlp_config(self)}


def _dense(network: MLPEncoder | MLPDecoder) -> list[keras.layers.Layer]:
    return [
        keras.layers.Dense(units, activation=network.activation, dtype=network.dtype_policy)
        for units in network.hidden_units
    ]


def _mlp_config(network: MLPEncoder | MLPDecoder) -> dict[str, Any]:
    activation = keras.activations.serialize(network.activation)
    return {"hidden_units": network.hidden_units, "activation": activation}
