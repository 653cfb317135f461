"""Codes that are drawn one after another, each given those before it."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from keras_vae.core.seeds import sampling_seed
from keras_vae.distributions.causal_network import CausalNetwork
from keras_vae.distributions.codes import CodeGroups, Codes, which_exist
from keras_vae.distributions.groups import with_temperature


class AutoregressiveCodes(Codes):
    """A map of codes, each a categorical variable given the codes before it, row by row.

    log p(z) = sum_n log softmax(l_n / T)_{z_n},  l_n = f(z_1, ..., z_{n-1}; condition)

    The density takes one pass through the network. Draws are made in one `tf.while_loop`, in which
    every layer remembers what it has computed, so that a code costs one position of the network.

    Args:
        network: The network f.
        condition: Features `[..., h, w, F]` for the network, with h and w those of the map or 1;
            the batch is [...]. None for a network without a condition.
        temperature: The temperature T >= 0 of every code; at 0, the most probable code is certain.

    Example:
        >>> from keras_vae.distributions.causal import GatedLayer
        >>> network = CausalNetwork((2, 2), 3, 8, [GatedLayer(8, 3)])
        >>> network.build()
        >>> p = AutoregressiveCodes(network)
        >>> z = p.sample(5, seed=[0, 1])
        >>> z.shape, p.log_prob(z).shape
        (TensorShape([5, 4]), TensorShape([5]))

    References:
        van den Oord et al., 2016, eq. 1, arXiv:1606.05328.
    """

    def __init__(
        self,
        network: CausalNetwork,
        condition: tf.Tensor | None = None,
        temperature: float | tf.Tensor = 1.0,
    ):
        parameters = dict(locals())
        self.network, self.condition, self.temperature = network, condition, temperature
        groups = CodeGroups((network.maps,), (network.num_codes,))
        batch_shape = [] if condition is None else condition.shape[:-3]
        super().__init__(groups, network.compute_dtype, batch_shape, parameters)

    def _batch_shape_tensor(self) -> tf.Tensor:
        if self.condition is None:
            return tf.constant([], tf.int32)
        return tf.shape(self.condition)[:-3]

    def logits(self, z: tf.Tensor) -> tf.Tensor:
        """Returns the logits `[..., N, K]` of every code of z `[..., N]` given those before it."""
        z = tf.cast(z, tf.int32)
        static = tf.broadcast_static_shape(z.shape[:-1], self.batch_shape)
        leading = tf.broadcast_dynamic_shape(tf.shape(z)[:-1], self.batch_shape_tensor())
        size = self.groups.size
        codes = tf.reshape(tf.broadcast_to(z, tf.concat([leading, [size]], 0)), [-1, size])
        logits = self.network(codes, self._condition_of(leading))  # [R, N, K]
        logits = tf.reshape(logits, tf.concat([leading, tf.shape(logits)[1:]], axis=0))
        logits.set_shape([*static, size, self.network.num_codes])
        return logits / self._positive_temperature()

    def _condition_of(self, leading: tf.Tensor) -> tf.Tensor | None:
        """Returns the condition of each of the R maps in these dimensions, `[R, h, w, F]`."""
        if self.condition is None:
            return None
        maps = self.condition.shape[-3:]
        each = tf.broadcast_to(self.condition, tf.concat([leading, maps], axis=0))
        return tf.reshape(each, [-1, *maps])

    def _positive_temperature(self) -> tf.Tensor:
        # Dividing by the smallest number would overflow; this one is small enough for certainty.
        return tf.maximum(tf.cast(self.temperature, self.density_dtype), 1e-6)

    def log_prob_by_group(self, z: tf.Tensor) -> tf.Tensor:
        logits = self.logits(z)  # [..., N, K]
        z = tf.broadcast_to(z, tf.shape(logits)[:-1])
        known = which_exist(z, self.network.num_codes)
        labels = tf.where(known, tf.cast(z, tf.int32), 0)
        log_p = -tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return self.groups.sum_by_group(tf.where(known, log_p, -math.inf))

    def _sample_n(self, n: Any, seed: Any = None) -> tf.Tensor:
        seed = sampling_seed(seed)
        leading = tf.concat([[n], self.batch_shape_tensor()], axis=0)
        rows = tf.reduce_prod(leading)
        codes = self.network.draw(rows, self._condition_of(leading), self.temperature, seed)
        codes = tf.reshape(codes, tf.concat([leading, [self.groups.size]], axis=0))
        codes.set_shape([tf.get_static_value(n), *self.batch_shape, self.groups.size])
        return codes


@with_temperature.register
def _(p: AutoregressiveCodes, temperature: float) -> AutoregressiveCodes:
    return AutoregressiveCodes(p.network, p.condition, temperature * p.temperature)
