"""Multivariate normals whose draws are fast under XLA, too."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


class MultivariateNormalDiag(tfd.MultivariateNormalDiag):
    """`tfd.MultivariateNormalDiag` with draws that are fast under XLA.

    z = loc + scale_diag * noise,  noise ~ N(0, I)

    Example:
        >>> MultivariateNormalDiag(tf.zeros([3, 2]), tf.ones([3, 2])).sample(5, seed=[0, 1]).shape
        TensorShape([5, 3, 2])
    """

    def _call_sample_n(self, sample_shape: Any, seed: Any = None, **kwargs: Any) -> tf.Tensor:
        return _draws(self, sample_shape, seed, **kwargs)


class MultivariateNormalTriL(tfd.MultivariateNormalTriL):
    """`tfd.MultivariateNormalTriL` with draws that are fast under XLA.

    z = loc + scale_tril noise,  noise ~ N(0, I)

    Example:
        >>> MultivariateNormalTriL(tf.zeros([3, 2]), tf.eye(2)).sample(5, seed=[0, 1]).shape
        TensorShape([5, 3, 2])
    """

    def _call_sample_n(self, sample_shape: Any, seed: Any = None, **kwargs: Any) -> tf.Tensor:
        return _draws(self, sample_shape, seed, **kwargs)


def _draws(normal: Any, sample_shape: Any, seed: Any, **kwargs: Any) -> tf.Tensor:
    """Returns draws by the Philox generator, named to TensorFlow.

    TFP leaves the choice to TensorFlow. Under XLA on a CPU that gives the same numbers, more than
    ten times as slowly: of the step of a small model they would take half the time.
    """
    sample_shape = tf.reshape(tf.cast(sample_shape, tf.int32), [-1])
    # In the order of TFP, whose numbers these are: the batch comes last.
    parts = (sample_shape, normal.event_shape_tensor(), normal.batch_shape_tensor())
    shape, seed = tf.concat(parts, axis=0), tfp.random.sanitize_seed(seed)
    noise = tf.random.stateless_normal(shape, seed, dtype=normal.dtype, alg="philox")
    axes, moved = list(range(noise.shape.rank)), sample_shape.shape[0]
    noise = tf.transpose(noise, [*axes[:moved], *axes[moved + 1 :], moved])
    noise = normal._set_sample_static_shape(noise, sample_shape)
    # By the bijector, which remembers the way back for the density of these draws.
    return normal.bijector.forward(noise, **kwargs)
