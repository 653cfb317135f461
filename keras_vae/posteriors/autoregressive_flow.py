"""An inverse autoregressive flow as the posterior."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.distributions.flows import autoregressive_networks, masked_autoregressive_flow
from keras_vae.posteriors.base import Posterior, serializable
from keras_vae.posteriors.diagonal_normal import DiagonalNormal

tfd = tfp.distributions
tfb = tfp.bijectors


@serializable
class AutoregressiveFlow(Posterior):
    """An inverse autoregressive flow on top of a diagonal normal.

    z_0 ~ N(mu(h), diag(sigma(h))^2)
    z_k = (z_{k-1} - m_k(z_{k-1}; h)) / s_k(z_{k-1}; h), with m_kd, s_kd functions of z_{<d} and h
    log q(z_K|x) = log N(z_0) + sum_k sum_d log s_kd

    Drawing takes one pass through each masked network. So does the density of the posterior's own
    draws, because TFP caches their inverse. The density at any other z takes D passes. The flow
    starts close to the diagonal normal. The masked networks work in the dtype of densities even
    under mixed precision, because a map rounded to eight bits would not match its log-determinant.

    Args:
        latent_dim: Number D of latent dimensions.
        num_flows: Number of steps; the order of the dimensions is reversed between steps.
        hidden_units: Width of each hidden layer of the masked networks.
        activation: Activation of the masked networks: the name of a Keras activation, or a
            function.
        moment_samples: Number of draws used to estimate the mean and the standard deviation.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.TransformedDistribution`, batch [B], event [D], for features `[B, ...]`.

    Raises:
        ValueError: If an argument is not as above, or the number of features is unknown.

    Example:
        >>> q = AutoregressiveFlow(2, hidden_units=(16,))(tf.zeros([3, 8]))
        >>> q.log_prob(q.sample(5, seed=[0, 1])).shape
        TensorShape([5, 3])

    References:
        Kingma et al., 2016, arXiv:1606.04934.
    """

    def __init__(
        self,
        latent_dim: int,
        num_flows: int = 2,
        hidden_units: Sequence[int] = (128, 128),
        activation: str | Callable = "relu",
        moment_samples: int = 256,
        **kwargs: Any,
    ):
        super().__init__(latent_dim, **kwargs)
        self.num_flows = checks.integer("num_flows", num_flows)
        self.hidden_units = checks.sizes("hidden_units", hidden_units)
        self.activation = checks.activation("activation", activation)
        self.moment_samples = checks.integer("moment_samples", moment_samples, minimum=2)
        self.base = DiagonalNormal(self.latent_dim, dtype=self.dtype_policy, name="base")
        self.networks = autoregressive_networks(
            self.latent_dim,
            self.num_flows,
            hidden_units=self.hidden_units,
            activation=self.activation,
            dtype=self.density_dtype,
        )

    def build(self, features_shape: Sequence[int | None]) -> None:
        """Builds the base and the masked networks for features of this shape, `[B, ...]`."""
        shape = self.flat_shape(features_shape)
        self.base.build(shape)
        for network in self.networks:
            network.build((None, self.latent_dim), shape)

    def parameters(self, features: tf.Tensor) -> tuple[Any, tf.Tensor]:
        """Returns the parameters of the base, and the features h for the masked networks."""
        return self.base.parameters(features), self.to_density(self.flatten(features))

    def distribution(
        self, parameters: tuple[Any, tf.Tensor], training: bool = False
    ) -> tfd.TransformedDistribution:
        """Returns q(z|x) with these parameters."""
        base, features = parameters
        flow = masked_autoregressive_flow(self.networks, features)
        return tfd.TransformedDistribution(self.base.distribution(base), tfb.Invert(flow))

    def mean(self, q: tfd.Distribution) -> tf.Tensor:
        """Returns a Monte Carlo estimate of E_q[z], the same in every call: Tensor `[B, D]`."""
        return tf.reduce_mean(self._moment_draws(q), axis=0)

    def stddev(self, q: tfd.Distribution) -> tf.Tensor:
        """Returns a Monte Carlo estimate of the standard deviations: Tensor `[B, D]`."""
        return tf.math.reduce_std(self._moment_draws(q), axis=0)

    def _moment_draws(self, q: tfd.Distribution) -> tf.Tensor:
        return q.sample(self.moment_samples, seed=tf.constant([0, 0]))  # [S, B, D]

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "num_flows": self.num_flows,
            "hidden_units": self.hidden_units,
            "activation": keras.activations.serialize(self.activation),
            "moment_samples": self.moment_samples,
        }
