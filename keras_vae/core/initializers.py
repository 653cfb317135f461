"""Initial values of weights that Keras would round."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_vae.core.numerics import to_dtype


@keras.saving.register_keras_serializable(package="keras_vae")
class Constant(keras.initializers.Constant):
    """The same number everywhere, with all of its digits even in float64.

    `keras.initializers.Constant` first rounds the number to float32.

    Args:
        value: The number.

    Example:
        >>> float(Constant(0.1)((), "float64"))
        0.1
    """

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> tf.Tensor:
        return tf.fill(shape, to_dtype(self.value, keras.backend.standardize_dtype(dtype)))
