"""A penalty on the largest singular values of kernels."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.head import serializable


@serializable
class SpectralNorm(keras.regularizers.Regularizer):
    """The largest singular value of a kernel, times a weight: a bound on how much a layer grows.

    penalty = weight * sigma_max(W),  W the kernel as a matrix [inputs, outputs]

    Deep hierarchies are stabler with it, as the KL of a group can change without bound where small
    changes of x become large ones of its parameters. The value is found by power iteration from a
    start that never changes, so there is no state to save.

    Args:
        weight: Factor >= 0; NVAE has 0.01 to 0.1, in nats.
        iterations: Of the power iteration; more are more exact.

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> round(float(SpectralNorm(0.1, iterations=20)(tf.linalg.diag([3.0, 1.0]))), 4)
        0.3

    References:
        Vahdat and Kautz, 2020, section 3.2, arXiv:2007.03898; Yoshida and Miyato, 2017,
        arXiv:1705.10941.
    """

    def __init__(self, weight: float = 0.01, iterations: int = 4):
        self.weight = checks.number("weight", weight, minimum=0.0)
        self.iterations = checks.integer("iterations", iterations)

    def __call__(self, kernel: Any) -> tf.Tensor:
        """Returns the penalty of a kernel `[..., outputs]`, a scalar."""
        kernel = tf.convert_to_tensor(kernel)
        matrix = tf.reshape(kernel, [-1, kernel.shape[-1]])  # [I, O]
        held = tf.stop_gradient(matrix)
        v = tf.random.stateless_normal([kernel.shape[-1]], [0, 1], dtype=kernel.dtype, alg="philox")
        for _ in range(self.iterations):
            u = tf.math.l2_normalize(tf.linalg.matvec(held, v), epsilon=1e-24)
            v = tf.math.l2_normalize(tf.linalg.matvec(held, u, transpose_a=True), epsilon=1e-24)
        sigma = tf.reduce_sum(u * tf.linalg.matvec(matrix, v))
        return tf.cast(self.weight, sigma.dtype) * sigma

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {"weight": self.weight, "iterations": self.iterations}
