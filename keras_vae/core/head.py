"""The common base of posteriors, priors and likelihoods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_vae.core.hyperparameters import Steerable
from keras_vae.core.numerics import density_dtype, to_dtype

serializable = keras.saving.register_keras_serializable(package="keras_vae")


class Head(Steerable):
    """A layer that turns tensors into a `tfd.Distribution`.

    Parameters of the distribution are cast to `density_dtype` before it is created, so that
    densities are float32 under a mixed-precision policy and float64 under a float64 policy.
    """

    @property
    def density_dtype(self) -> str:
        """`"float64"` for a float64 layer, `"float32"` for any other."""
        return density_dtype(self.variable_dtype)

    def to_density(self, value: Any) -> tf.Tensor:
        """Casts a tensor, an array, or a number to `density_dtype`."""
        return to_dtype(value, self.density_dtype)

    def add_density_weight(self, shape: Sequence[int], initializer: Any, name: str) -> Any:
        """Adds a trainable parameter of the distribution, kept out of autocasting."""
        return self.add_weight(
            shape=shape,
            initializer=initializer,
            dtype=self.density_dtype,
            autocast=False,
            name=name,
        )
