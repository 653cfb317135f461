"""A group of latent maps in a top-down network."""

from __future__ import annotations

import functools
from typing import Any

import keras
import tensorflow as tf

from keras_vae.core.empty_batches import of_any_batch
from keras_vae.core.head import Head
from keras_vae.core.numerics import inverse_scale, positive_scale
from keras_vae.distributions.normal import MultivariateNormalDiag
from keras_vae.distributions.top_down import Inferred, delta_kl
from keras_vae.networks.bottleneck_cell import scaled_initializer
from keras_vae.networks.cells import CellFactory
from keras_vae.networks.scales import Shape, as_maps, as_vectors, on_maps


class LatentGroup(Head):
    """The dependence of a group on the state of the pass, and of the state on the group.

    p(z_l|z_above)    = N(mu(s), sigma(s)),  of f(s)
    q(z_l|z_above, x) = N(mu + dmu(s, d), sigma dsigma(s, d)),  of f(conv(f(W f(s) + V f(d))))
    s <- cells(s + U z_l)

    with the maps d of the bottom-up network; V f(d) is computed once for all draws. Scales are
    bounded: sigma(r) = min(softplus(r) + floor, ceiling).

    Args:
        channels: Number of channels of z_l.
        delta: Whether q is relative to p, as above; otherwise q has its own mean and scale.
        scale_bounds: Floor and ceiling of sigma and dsigma.
        activation: The activation f.
        factory: Makes the cells.
        blocks: Number of cells.
        kernel_regularizer: A Keras regularizer, or None.
        **kwargs: Passed on to `keras.layers.Layer`.
    """

    def __init__(
        self,
        channels: int,
        delta: bool,
        scale_bounds: tuple[float, float],
        activation: Any,
        factory: CellFactory,
        blocks: int,
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.channels, self.delta, self.scale_bounds = channels, delta, scale_bounds
        self.activation = activation
        self.options = {"kernel_regularizer": kernel_regularizer, "dtype": self.dtype_policy}
        self._last_scale = factory.last_scale
        self.cells = factory.make_row(blocks)

    def build(self, state_shape: Shape, maps_shape: Shape) -> None:
        """Creates the layers for a state `[B, H, W, C]` and maps of the bottom-up network."""
        channels = int(state_shape[-1] or 0)
        inner = max(1, channels // 2)
        self.size: tuple[int, ...] = (*map(int, state_shape[1:3]), self.channels)  # type: ignore
        self.of_prior = self._dense(2 * self.channels, scaled_initializer(0.1))
        self.of_state = self._dense(inner)
        self.of_maps = self._dense(inner, use_bias=False)
        is_pixel = self.size[:2] == (1, 1)
        self.convolution = (
            self._dense(inner)
            if is_pixel
            else keras.layers.Conv2D(inner, 3, padding="same", **self.options)
        )
        self.of_posterior = self._dense(2 * self.channels, scaled_initializer(0.1))
        self.of_latent = self._dense(channels, scaled_initializer(self._last_scale))
        self.of_prior.build(state_shape)
        self.of_state.build(state_shape)
        self.of_maps.build(maps_shape)
        self.convolution.build((*state_shape[:-1], inner))
        self.of_posterior.build((*state_shape[:-1], inner))
        self.of_latent.build((*state_shape[:-1], self.channels))
        self.cells.build(state_shape)

    def _dense(
        self, units: int, kernel_initializer: Any = "glorot_uniform", use_bias: bool = True
    ) -> keras.layers.Dense:
        return keras.layers.Dense(
            units, use_bias=use_bias, kernel_initializer=kernel_initializer, **self.options
        )

    @property
    def recognition_layers(self) -> list[keras.layers.Layer]:
        """The layers that only q(z|x) needs."""
        return [self.of_state, self.of_maps, self.convolution, self.of_posterior]

    def context(self, maps: tf.Tensor) -> tf.Tensor:
        """Returns what the group sees of x, V f(d), given the maps of the bottom-up network."""
        return self.of_maps(self.activation(maps))

    def prior(self, state: tf.Tensor) -> MultivariateNormalDiag:
        """Returns p(z_l|z_above), event [D_l], for states `[..., H, W, C]`."""
        loc, raw_scale = self._moments(on_maps(self.of_prior, self.activation(state)))
        return MultivariateNormalDiag(loc, scale_diag=self._bounded(raw_scale))

    def infer(self, state: tf.Tensor, p: MultivariateNormalDiag, context: tf.Tensor) -> Inferred:
        """Returns q(z_l|z_above, x) and its KL, for states `[..., H, W, C]`.

        Args:
            state: The state.
            p: p(z_l|z_above), as returned by `prior`.
            context: Output of `context`, `[B, ...]`.
        """
        context = tf.cast(context, self.compute_dtype)
        hidden = self.activation(on_maps(self.of_state, self.activation(state)) + context)
        convolve = functools.partial(of_any_batch, self.convolution)
        hidden = self.activation(on_maps(convolve, hidden))
        loc, raw_scale = self._moments(on_maps(self.of_posterior, hidden))
        scale, prior_scale = self._bounded(raw_scale), p.stddev()
        if self.delta:
            shift, ratio = loc, scale
            loc, scale = p.mean() + shift, prior_scale * ratio
        else:
            shift, ratio = loc - p.mean(), scale / prior_scale
        q = MultivariateNormalDiag(loc, scale_diag=scale)
        return Inferred(q, delta_kl(shift, ratio, prior_scale))

    def merge(self, state: tf.Tensor, z: tf.Tensor, training: bool) -> tf.Tensor:
        """Returns the next state, given z_l `[..., D_l]`."""
        z = as_maps(tf.cast(z, self.compute_dtype), self.size)
        state = state + on_maps(self.of_latent, z)
        return on_maps(lambda maps: self.cells(maps, training=training), state)

    def _moments(self, maps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns locations and raw scales `[..., D_l]`."""
        loc, raw_scale = tf.split(self.to_density(maps), 2, axis=-1)
        return as_vectors(loc), as_vectors(raw_scale)

    def _bounded(self, raw_scale: tf.Tensor) -> tf.Tensor:
        """Returns the bounded scales; a raw scale of zero gives 1."""
        floor, ceiling = self.scale_bounds
        return positive_scale(raw_scale + inverse_scale(1.0, floor), floor, ceiling)
