"""Bounds on the largest singular values of kernels: by division, or by a penalty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.core.numerics import density_dtype

_SQUARINGS = 7
_KINDS = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


@serializable
class SpectralRegularizer(keras.regularizers.Regularizer):
    """A penalty on a kernel's largest singular value, which limits how much a layer amplifies.

    penalty = weight * sigma_max(W),  W the kernel as a matrix of its last axis

    It makes deep hierarchies more stable, because the KL of a group can change without bound where
    small changes of x become large changes of its parameters.

    Args:
        weight: Factor >= 0; NVAE uses 0.01 to 0.1, in nats.

    Raises:
        ValueError: If the weight is negative.

    Example:
        >>> round(float(SpectralRegularizer(0.1)(tf.linalg.diag([3.0, 1.0]))), 4)
        0.3

    References:
        Vahdat and Kautz, 2020, section 3.2, arXiv:2007.03898; Yoshida and Miyato, 2017,
        arXiv:1705.10941.
    """

    def __init__(self, weight: float = 0.01):
        self.weight = checks.number("weight", weight, minimum=0.0)

    def __call__(self, kernel: Any) -> tf.Tensor:
        """Returns the penalty of a kernel `[..., outputs]`, a scalar."""
        sigma = largest_singular_value(tf.convert_to_tensor(kernel))
        return tf.cast(self.weight, sigma.dtype) * sigma

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {"weight": self.weight}


@serializable
class SpectralNormalization(keras.layers.Layer):
    """A dense layer or a convolution with its kernel divided by its largest singular value.

    y = activation(layer(x) / sigma(W) + bias),  W the kernel as a matrix of its last axis

    A dense layer then stretches distances by a factor of at most one, and a convolution by a small
    factor that depends on how its patches overlap, so the slope of a discriminator is bounded. σ is
    recomputed in every call, to the precision of 128 power iterations, with its gradient. Hence
    there is no state: unlike `keras.layers.SpectralNormalization`, which assigns the kernel in its
    forward pass, it is the same on all replicas, after a skipped step, and in evaluation.

    Args:
        layer: `Dense` or a convolution, without activation and without bias. If it is not built
            yet, it gets the dtype policy of this layer.
        use_bias: Whether a bias is added after the division.
        activation: Name of a Keras activation, or a function.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        Tensor of the same shape as the output of the layer.

    Raises:
        ValueError: If the layer is not of this kind.

    Example:
        >>> layer = SpectralNormalization(keras.layers.Dense(3, use_bias=False))
        >>> y = layer(tf.ones([2, 4]))
        >>> matrix = layer.layer.kernel / layer.sigma()
        >>> round(float(tf.linalg.svd(matrix, compute_uv=False)[0]), 4)
        1.0

    References:
        Miyato et al., 2018, eq. 8 and algorithm 1, arXiv:1802.05957.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        use_bias: bool = True,
        activation: str | Callable | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        linear = isinstance(layer, _KINDS) and not layer.use_bias
        if not linear or layer.activation is not keras.activations.linear:
            rule = "must be a Dense or a convolution without activation, with use_bias=False"
            raise checks.invalid("layer", rule, layer)
        if not layer.built:
            layer.dtype_policy = self.dtype_policy
        self.layer = layer
        self.use_bias = checks.flag("use_bias", use_bias)
        self.activation = checks.activation("activation", activation)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Builds the layer and adds the bias."""
        if not self.layer.built:
            self.layer.build(input_shape)
        if self.use_bias:
            shape = (self.layer.kernel.shape[-1],)
            self.bias = self.add_weight(shape=shape, initializer="zeros", name="bias")

    def sigma(self) -> tf.Tensor:
        """Returns the largest singular value of the kernel, a scalar with a gradient."""
        kernel = tf.cast(
            tf.convert_to_tensor(self.layer.kernel.value), density_dtype(self.variable_dtype)
        )
        return largest_singular_value(kernel)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the output of the layer with the normalized kernel."""
        outputs = self.layer(inputs)
        # A kernel of zeros stays one: half precision has no smaller bound.
        sigma = tf.maximum(self.sigma(), 1e-6)
        outputs = outputs / tf.cast(sigma, outputs.dtype)
        return self.activation(outputs + self.bias if self.use_bias else outputs)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Returns the shape of the output for inputs of this shape."""
        return tuple(self.layer.compute_output_shape(input_shape))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "layer": keras.saving.serialize_keras_object(self.layer),
            "use_bias": self.use_bias,
            "activation": keras.activations.serialize(self.activation),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SpectralNormalization:
        layer = keras.saving.deserialize_keras_object(config["layer"])
        return cls(**{**config, "layer": layer})


def largest_singular_value(kernel: tf.Tensor) -> tf.Tensor:
    """Returns the largest singular value of a kernel as a matrix of its last axis, a scalar.

    It is computed from powers of the smaller Gram matrix: by repeated squaring, n small products do
    the work of 2^n power iterations. The singular vector is a column of the last power: the one
    with the largest diagonal element, because it cannot be orthogonal to the singular vector. The
    gradient is u v^T, with the singular vector held constant.

    Args:
        kernel: Tensor `[..., outputs]`.

    Example:
        >>> round(float(largest_singular_value(tf.linalg.diag([3.0, 1.0]))), 4)
        3.0
    """
    matrix = tf.reshape(kernel, [-1, kernel.shape[-1]])
    tall = matrix.shape[0] >= matrix.shape[1]
    gram = tf.matmul(matrix, matrix, transpose_a=tall, transpose_b=not tall)
    power = tf.stop_gradient(gram)
    for _ in range(_SQUARINGS):
        power = tf.math.divide_no_nan(power, tf.linalg.trace(power))
        power = tf.matmul(power, power)
    column = tf.gather(power, tf.argmax(tf.linalg.diag_part(power)), axis=1)
    vector = tf.math.divide_no_nan(column, tf.norm(column))[:, tf.newaxis]
    square = tf.squeeze(tf.matmul(vector, tf.matmul(gram, vector), transpose_a=True))
    return tf.sqrt(tf.maximum(square, 1e-30))
