"""A masked autoregressive flow as the prior."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.distributions.flows import autoregressive_networks, masked_autoregressive_flow
from keras_vae.priors.base import Infer, Prior, serializable

tfd = tfp.distributions


@serializable
class AutoregressiveFlow(Prior):
    """A masked autoregressive flow from the standard normal.

    u ~ N(0, I), z_d = m_d(z_{<d}) + s_d(z_{<d}) u_d, num_flows times
    log p(z) = log N(u; 0, I) - sum_d log s_d

    The density takes one pass through each masked network; a draw takes D passes. The flow starts
    close to the standard normal. The networks work in the dtype of densities even under mixed
    precision.

    Args:
        latent_dim: Number D of latent dimensions.
        num_flows: Number of steps; the order of the dimensions is reversed between steps.
        hidden_units: Width of each hidden layer of the masked networks.
        activation: Activation of the masked networks: the name of a Keras activation, or a
            function.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.TransformedDistribution`, batch [], event [D].

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> prior = AutoregressiveFlow(2, hidden_units=(16,))()
        >>> prior.log_prob(tf.zeros([5, 2])).shape
        TensorShape([5])

    References:
        Papamakarios et al., 2017, arXiv:1705.07057.
    """

    def __init__(
        self,
        latent_dim: int,
        num_flows: int = 2,
        hidden_units: Sequence[int] = (128, 128),
        activation: str | Callable = "relu",
        **kwargs: Any,
    ):
        super().__init__(latent_dim, **kwargs)
        self.num_flows = checks.integer("num_flows", num_flows)
        self.hidden_units = checks.sizes("hidden_units", hidden_units)
        self.activation = checks.activation("activation", activation)
        self.networks = autoregressive_networks(
            self.latent_dim,
            self.num_flows,
            hidden_units=self.hidden_units,
            activation=self.activation,
            dtype=self.density_dtype,
        )

    def build(
        self,
        encoder_input_shape: Sequence[int | None] | None = None,
        condition_shape: Sequence[int | None] | None = None,
    ) -> None:
        """Builds the masked networks; needs no shape."""
        for network in self.networks:
            network.build((None, self.latent_dim))

    def call(
        self, condition: tf.Tensor | None = None, infer: Infer | None = None
    ) -> tfd.TransformedDistribution:
        """Returns p(z), whatever the arguments."""
        zeros = tf.zeros(self.event_shape, self.density_dtype)
        base = tfd.MultivariateNormalDiag(zeros, tf.ones_like(zeros))
        return tfd.TransformedDistribution(base, masked_autoregressive_flow(self.networks))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "num_flows": self.num_flows,
            "hidden_units": self.hidden_units,
            "activation": keras.activations.serialize(self.activation),
        }
