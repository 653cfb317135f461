"""What every likelihood has in common."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.core.head import Head
from keras_vae.core.numerics import is_real

tfd = tfp.distributions

# A separate package, because the posteriors also have a `Bernoulli` and a `Categorical`, and Keras
# keeps one class per registered name.
serializable = keras.saving.register_keras_serializable(package="keras_vae.likelihoods")

# Probabilities are kept this far from 0 and 1 when they become logits, as in Burda et al., 2016.
MEAN_MARGIN = 1e-3


@dataclasses.dataclass(frozen=True)
class Support:
    """The set of values to which a likelihood gives a density, element by element.

    Args:
        low: Smallest value.
        high: Largest value.
        integer: Whether the support contains only whole numbers.

    Example:
        >>> print(Support(0.0, 1.0))
        in [0, 1]
        >>> bool(Support(0.0, 1.0).contains(tf.constant([0.5, float("nan")])))
        False
    """

    low: float = -math.inf
    high: float = math.inf
    integer: bool = False

    @property
    def num_values(self) -> float:
        """Number of values that an element can have; infinite for real numbers."""
        return self.high - self.low + 1 if self.integer else math.inf

    def __str__(self) -> str:
        """Completes the sentence "x must be ..."."""
        kind = "whole numbers " if self.integer else ""
        if math.isinf(self.low) and math.isinf(self.high):
            return f"{kind or 'finite'}".strip()
        return f"{kind}in [{self.low:g}, {self.high:g}]"

    def contains(self, x: tf.Tensor) -> tf.Tensor:
        """Returns whether every element of `x` belongs to the support: a boolean scalar.

        NaN and infinities never do.
        """
        return tf.reduce_all(self.holds(x))

    def holds(self, x: tf.Tensor) -> tf.Tensor:
        """Returns, for every element of `x`, whether it belongs to the support."""
        inside = (x >= max(self.low, x.dtype.min)) & (x <= min(self.high, x.dtype.max))
        if self.integer:
            inside &= tf.equal(x, tf.round(x))
        return inside


class _Independent(tfd.Independent):
    """`tfd.Independent` that sums over one axis, which XLA does faster than over several."""

    def _log_prob(self, value: tf.Tensor, **kwargs: Any) -> tf.Tensor:
        axes = tf.get_static_value(self.reinterpreted_batch_ndims)
        log_prob = self.distribution.log_prob(value, **kwargs)
        shape = tf.shape(log_prob)
        flat = tf.concat([shape[:-axes], [tf.reduce_prod(shape[-axes:])]], axis=0)
        return tf.reduce_sum(tf.reshape(log_prob, flat), axis=-1)

    def _mean(self, **kwargs: Any) -> tf.Tensor:
        mean = super()._mean(**kwargs)
        # TFP broadcasts some means to a shape that is unknown in the graph.
        mean.set_shape(self.batch_shape.concatenate(self.event_shape))
        return mean


class Likelihood(Head):
    """A head for p(x|z), from parameters given by the decoder to a `tfd.Distribution` over x.

    A subclass sets `support`, implements `call`, and overrides whatever is special about it. The
    layer is built for parameters `[batch, *params_shape]`; once built, it takes any leading
    dimensions.

    Args:
        shape: Shape E of one datum x, without the batch.
        **kwargs: Passed on to `keras.layers.Layer`.

    Raises:
        ValueError: If `shape` is not a non-empty sequence of positive integers.

    Example:
        >>> class Laplace(Likelihood):
        ...     def call(self, params):
        ...         return self.independent(tfd.Laplace(self.to_density(params), 1.0))
        >>> round(float(Laplace((2,))(tf.zeros([1, 2])).log_prob([[0.0, 1.0]])[0]), 4)
        -2.3863
    """

    support = Support()

    def __init__(self, shape: Sequence[int], **kwargs: Any):
        # Without autocast, float32 parameters stay float32 under a mixed-precision policy.
        super().__init__(autocast=False, **kwargs)
        self.shape = checks.shape("shape", shape)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one datum as the distribution sees it."""
        return self.shape

    @property
    def params_shape(self) -> tuple[int, ...]:
        """Shape that a decoder's output must have, without the batch."""
        return self.shape

    @property
    def discrete_dimensions(self) -> int | None:
        """Number of dimensions by which bits/dim divides, or None if bits/dim is not reported.

        It is meant for data with finitely many values, such as pixels 0..255 and classes. For a
        density, bits/dim would depend on the unit of x; and binary data are reported in nats.
        """
        return math.prod(self.shape) if 2 < self.support.num_values < math.inf else None

    def standardize(self, x: Any) -> tf.Tensor:
        """Turns data as given by users into the tensor `[B, *event_shape]` that has a density.

        Casting rounds to `density_dtype`: in float32, whole numbers beyond 2**24 become the nearest
        float32, and numbers beyond its range become infinity, which no support contains.

        Args:
            x: Tensor or array `[B, *E]` of floats, integers or booleans.

        Returns:
            Tensor `[B, *event_shape]` of `density_dtype`.

        Raises:
            ValueError: If the dtype is not real, or the rank or shape does not fit.
        """
        x = self._to_real("x", x)
        expected = tf.TensorShape([None, *self.event_shape])
        if not x.shape.is_compatible_with(expected):
            raise self._shape_error(x.shape)
        return self.to_density(tf.ensure_shape(x, expected))

    def encoder_input(self, x: tf.Tensor) -> tf.Tensor:
        """Maps a standardized `x` to the range that a network should see; unchanged by default."""
        return x

    def params_from_mean(self, mean: tf.Tensor) -> tf.Tensor:
        """Returns decoder outputs for which the distribution has (about) the given mean.

        Args:
            mean: Tensor `[*event_shape]`, the mean of standardized data.

        Returns:
            Tensor `[*params_shape]`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not say which parameters give a mean."
        )

    def independent(self, distribution: tfd.Distribution) -> tfd.Independent:
        """Makes the last `len(shape)` batch dimensions of `distribution` its event."""
        return _Independent(distribution, reinterpreted_batch_ndims=len(self.shape))

    def build(self, params_shape: Sequence[int | None]) -> None:
        """Creates the weights for parameters `[..., *params_shape]`."""
        self.built = True

    def check_params_shape(self, params_shape: Sequence[int | None]) -> None:
        """Raises a `ValueError` unless a decoder's output has shape `[batch, *params_shape]`."""
        rank = len(self.params_shape)
        if tuple(params_shape[-rank:]) != self.params_shape or len(params_shape) != rank + 1:
            raise ValueError(
                f"Argument `decoder` must return tensors of shape [batch, *params_shape] with "
                f"params_shape={self.params_shape}, as {type(self).__name__}(shape={self.shape}) "
                "requires. Build it with that shape, such as "
                "keras_vae.networks.ConvDecoder(likelihood.params_shape). "
                f"Received: a decoder with output shape {tuple(params_shape)}"
            )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "shape": self.shape}

    def _to_real(self, argument: str, x: Any) -> tf.Tensor:
        try:
            x = tf.convert_to_tensor(x)
        except (TypeError, ValueError) as error:
            kind = getattr(x, "dtype", type(x).__name__)
            raise ValueError(
                f"Argument `{argument}` must hold real numbers. Received: dtype={kind}"
            ) from error
        if is_real(x.dtype):
            return x
        raise ValueError(
            f"Argument `{argument}` must hold real numbers. Received: dtype={x.dtype.name}"
        )

    def _shape_error(self, shape: tf.TensorShape) -> ValueError:
        expected = ", ".join(map(str, ("batch", *self.event_shape)))
        return ValueError(
            f"Argument `x` must have shape [{expected}], as {type(self).__name__}"
            f"(shape={self.shape}) requires. Received: shape={shape}{self._shape_hint(shape)}"
        )

    def _shape_hint(self, shape: tf.TensorShape) -> str:
        without_channel = tf.TensorShape([None, *self.event_shape[:-1]])
        if self.event_shape[-1] == 1 and shape.is_compatible_with(without_channel):
            return ". Add the channel axis: x[..., None]"
        if shape.is_compatible_with(self.event_shape):
            return ". Add the batch axis: x[None]"
        return ""
