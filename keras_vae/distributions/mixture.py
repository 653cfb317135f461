"""Mixtures with a fast density if the components are diagonal normals."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.distributions.normal import log_densities

tfd = tfp.distributions


class MixtureSameFamily(tfd.MixtureSameFamily):
    """`tfd.MixtureSameFamily` that computes its density by matrix products where possible.

    log p(z) = logsumexp_k(log w_k + log p_k(z))

    Example:
        >>> weights = tfd.Categorical(logits=tf.zeros([3]))
        >>> normals = tfd.MultivariateNormalDiag(tf.zeros([3, 2]), tf.ones([3, 2]))
        >>> MixtureSameFamily(weights, normals).log_prob(tf.zeros([4, 5, 2])).shape
        TensorShape([4, 5])
    """

    def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
        components = self.components_distribution
        is_diagonal = isinstance(components, tfd.MultivariateNormalDiag)
        if not is_diagonal or components.batch_shape.rank != 1 or components.event_shape.rank != 1:
            return super()._log_prob(x)
        flat = tf.reshape(x, [-1, components.event_shape[0]])  # [N, D]
        logits = tf.cast(self.mixture_distribution.logits_parameter(), tf.float64)
        log_joint = tf.nn.log_softmax(logits) + log_densities(components, flat)  # [N, K]
        log_prob = tf.cast(tf.reduce_logsumexp(log_joint, axis=-1), self.dtype)
        return tf.ensure_shape(tf.reshape(log_prob, tf.shape(x)[:-1]), x.shape[:-1])
