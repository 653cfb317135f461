"""The categorical likelihood, for classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.distributions.discrete import OneHotCategorical
from keras_vae.likelihoods.base import MEAN_MARGIN, Likelihood, Support, serializable

tfd = tfp.distributions


@dataclasses.dataclass(frozen=True)
class OneHotSupport(Support):
    """Rows along the last axis that consist of zeros and a single one.

    Args:
        num_classes: Number K of classes, the length of a row.

    Example:
        >>> print(OneHotSupport(num_classes=3))
        whole numbers in [0, 2] or one-hot rows of 3 classes
        >>> bool(OneHotSupport(num_classes=3).contains(tf.constant([[0.5, 0.5, 0.0]])))
        False
    """

    low: float = 0.0
    high: float = 1.0
    integer: bool = True
    num_classes: int = 2

    @property
    def num_values(self) -> float:
        """Number of classes that an element can be."""
        return self.num_classes

    def __str__(self) -> str:
        """Completes the sentence "x must be ..."."""
        last = self.num_classes - 1
        return f"whole numbers in [0, {last}] or one-hot rows of {self.num_classes} classes"

    def contains(self, x: tf.Tensor) -> tf.Tensor:
        """Returns whether every row of `x` is one-hot: a boolean scalar."""
        return super().contains(x) & tf.reduce_all(tf.equal(tf.reduce_sum(x, axis=-1), 1.0))


@serializable
class Categorical(Likelihood):
    """Independent classes with logits from the decoder.

    log p(x|z) = sum_e l_{e, x_e} - logsumexp_k l_{e, k},  l = decoder(z)

    Data are whole numbers `[B, *E]` in 0..K-1, of any real dtype, or one-hot rows `[B, *E, K]`; the
    rank decides which. Rows of soft probabilities are rejected. Networks see one-hot floats.

    Args:
        shape: Shape E of one datum as whole numbers, without the axis of classes.
        num_classes: Number K of classes, at least 2.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.Independent` for logits `[..., *E, K]`: batch [...], event [*E, K] of one-hot rows;
        `mean()` returns the probabilities of the classes; `log_prob` in nats.

    Raises:
        ValueError: If `shape` is not a non-empty sequence of positive integers, or `num_classes`
            is not an integer >= 2.

    Example:
        >>> likelihood = Categorical((2,), num_classes=4)
        >>> x = likelihood.standardize([[0, 3]])
        >>> round(float(likelihood(tf.zeros([1, 2, 4])).log_prob(x)[0]), 4)
        -2.7726
    """

    def __init__(self, shape: Sequence[int], num_classes: int, **kwargs: Any):
        super().__init__(shape, **kwargs)
        self.num_classes = checks.size("num_classes", num_classes, minimum=2)
        self.support = OneHotSupport(num_classes=self.num_classes)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one datum as one-hot rows: `(*shape, num_classes)`."""
        return (*self.shape, self.num_classes)

    @property
    def params_shape(self) -> tuple[int, ...]:
        """Shape of the logits of one datum: `(*shape, num_classes)`."""
        return self.event_shape

    def standardize(self, x: Any) -> tf.Tensor:
        """Turns classes `[B, *E]` or one-hot rows `[B, *E, K]` into one-hot floats.

        A number that is not a class becomes a row filled with that number, so that the check of the
        support detects it and its message shows it.

        Args:
            x: Tensor or array of floats, integers or booleans.

        Returns:
            Tensor `[B, *E, K]` of `density_dtype`.

        Raises:
            ValueError: If the dtype is not real, or the rank or shape does not fit.
        """
        x = self._to_real("x", x)
        if x.shape.rank != len(self.shape) + 1:
            return super().standardize(x)
        expected = tf.TensorShape([None, *self.shape])
        if not x.shape.is_compatible_with(expected):
            raise self._shape_error(x.shape)
        return self._one_hot(tf.ensure_shape(x, expected))

    def _one_hot(self, x: tf.Tensor) -> tf.Tensor:
        # Compare in a dtype that represents both x and every class exactly.
        x = tf.cast(x, tf.float64 if x.dtype.is_floating else tf.int64)
        index = tf.cast(x, tf.int64)
        last = tf.constant(self.num_classes - 1, x.dtype)
        is_class = (x >= 0) & (x <= last) & tf.equal(tf.cast(index, x.dtype), x)
        rows = tf.one_hot(index, self.num_classes, dtype=self.density_dtype)
        return tf.where(is_class[..., None], rows, self.to_density(x)[..., None])

    def call(self, params: tf.Tensor) -> tfd.Independent:
        """Returns p(x|z) for logits `[..., *E, K]`."""
        logits = self.to_density(params)
        return self.independent(OneHotCategorical(logits=logits, dtype=logits.dtype))

    def params_from_mean(self, mean: tf.Tensor) -> tf.Tensor:
        """Returns the logs `[*E, K]` of the class frequencies, each at least 1e-3 / K."""
        return tf.math.log(tf.maximum(self.to_density(mean), MEAN_MARGIN / self.num_classes))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "num_classes": self.num_classes}

    def _shape_error(self, shape: tf.TensorShape) -> ValueError:
        classes = ", ".join(map(str, ("batch", *self.shape)))
        return ValueError(
            f"Argument `x` must have shape [{classes}] of whole numbers or [{classes}, "
            f"{self.num_classes}] of one-hot rows, as {type(self).__name__}(shape={self.shape}, "
            f"num_classes={self.num_classes}) requires. Received: shape={shape}"
        )
