"""The discretized logistic mixture likelihood, for 8-bit pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.core.numerics import positive_scale
from keras_vae.likelihoods.base import Likelihood, Support, serializable

tfd = tfp.distributions

MAX_PIXEL = 255.0
HALF_RANGE = MAX_PIXEL / 2  # pixels per unit of the decoder's [-1, 1]


class _DiscretizedLogistic(tfd.Distribution):
    """A logistic variable rounded to whole numbers and clipped to 0..255.

    P(x) = F((x + 1/2 - loc) / scale) - F((x - 1/2 - loc) / scale),  F = sigmoid

    with F(-inf) in place of the lower edge of 0 and F(inf) in place of the upper edge of 255.
    """

    def __init__(self, loc: tf.Tensor, scale: tf.Tensor, name: str = "DiscretizedLogistic"):
        parameters = dict(locals())
        self._loc, self._scale = loc, scale
        super().__init__(
            dtype=loc.dtype,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def _parameter_properties(cls, dtype: Any, num_classes: Any = None) -> dict[str, Any]:
        return {"loc": tfp.util.ParameterProperties(), "scale": tfp.util.ParameterProperties()}

    def _event_shape(self) -> tf.TensorShape:
        return tf.TensorShape([])

    def _event_shape_tensor(self) -> tf.Tensor:
        return tf.constant([], tf.int32)

    def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
        # F(u) - F(l) = F(u) (1 - F(l)) (1 - exp(l - u)), and u - l = 1 / scale for every x: a sum
        # of three logarithms without cancellation. In units of pixels, the edges x +- 1/2 are
        # exact, so that neighbours share an edge and the probabilities sum to one.
        upper = (x + 0.5 - self._loc) / self._scale
        lower = (x - 0.5 - self._loc) / self._scale
        log_below_upper = -tf.math.softplus(-upper)
        log_above_lower = -tf.math.softplus(lower)
        log_width = tfp.math.log1mexp(1.0 / self._scale)
        inside = log_below_upper + log_above_lower + log_width
        at_edge = tf.where(x < 0.5, log_below_upper, log_above_lower)
        return tf.where((x < 0.5) | (x > MAX_PIXEL - 0.5), at_edge, inside)

    def _sample_n(self, n: tf.Tensor, seed: Any = None) -> tf.Tensor:
        shape = tf.concat([[n], self.batch_shape_tensor()], axis=0)
        noise = tfd.Logistic(tf.zeros([], self.dtype), 1.0).sample(shape, seed=seed)
        return tf.clip_by_value(tf.round(self._loc + self._scale * noise), 0.0, MAX_PIXEL)

    def _mean(self) -> tf.Tensor:
        # The sum over k of P(X > k) = F((loc - k - 1/2) / scale), as an integral over [0, 255].
        below, above = self._loc / self._scale, (self._loc - MAX_PIXEL) / self._scale
        mean = self._scale * (tf.math.softplus(below) - tf.math.softplus(above))
        return tf.clip_by_value(mean, 0.0, MAX_PIXEL)


class _Mixture(tfd.MixtureSameFamily):
    """`tfd.MixtureSameFamily` with a mean that works with more than 5 axes on a CPU."""

    def _mean(self) -> tf.Tensor:
        weights = tf.exp(tf.nn.log_softmax(self.mixture_distribution.logits))  # [..., M]
        means = self.components_distribution.mean()  # [..., M, C]
        return tf.reduce_sum(weights[..., None] * means, axis=-2)


@serializable
class DiscretizedLogisticMixture(Likelihood):
    """Pixels 0..255 from a mixture of logistic variables, rounded and clipped.

    log p(x|z) = sum_pixels logsumexp_m( log w_m + sum_c log P(x_c; loc_mc, scale_mc) )
    P(x; loc, scale) = F((x + 1/2 - loc) / scale) - F((x - 1/2 - loc) / scale),  F = sigmoid

    where 0 and 255 include the tails, so that the 256 probabilities sum to one. The last axis of
    `shape` holds the channels of a pixel: they share the component m and are independent given it
    (PixelCNN++ additionally has coefficients between the channels). For vectors of independent
    numbers, use a shape `(N, 1)`.

    The decoder's last axis holds `[w: M logits | loc: M x C | raw scale: M x C]`. Its loc are in
    units of [-1, 1], pixel = 127.5 (loc + 1), and so is scale = softplus(raw) + 1e-4, at most 1e4;
    `encoder_input` maps pixels to the same units.

    `mean()` is the mean before rounding, which differs from the exact mean by less than 1/2: by
    nearly that much for scales near zero, by about 0.01 at a scale of one pixel, and (in float32)
    by 0.04 at the largest scale. `sample` is exact. A model logs `bits_per_dim`,
    -elbo / (ln 2 * dimensions). A suitable decoder is
    `keras_vae.networks.ConvDecoder(likelihood.params_shape)`.

    Args:
        shape: Shape E of one datum, `(..., C)`.
        num_components: Number M of components.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.Independent` for parameters `[..., *params_shape]`: batch [...], event [*E] of
        integer-valued floats; `log_prob` in nats.

    Raises:
        ValueError: If `shape` is not a non-empty sequence of positive integers, or
            `num_components` is not a positive integer.

    Example:
        >>> likelihood = DiscretizedLogisticMixture((8, 8, 3), num_components=5)
        >>> likelihood.params_shape
        (8, 8, 35)
        >>> x = likelihood.standardize(tf.fill([1, 8, 8, 3], tf.constant(120, tf.uint8)))
        >>> nats = -likelihood(tf.zeros([1, 8, 8, 35])).log_prob(x)
        >>> bits_per_dim = nats / (tf.math.log(2.0) * 8 * 8 * 3)
        >>> round(float(bits_per_dim[0]), 2)
        8.47

    References:
        Salimans et al., 2017, eq. 1-2, arXiv:1701.05517.
    """

    support = Support(0.0, MAX_PIXEL, integer=True)

    def __init__(self, shape: Sequence[int], num_components: int, **kwargs: Any):
        super().__init__(shape, **kwargs)
        self.num_components = checks.size("num_components", num_components)

    @property
    def params_shape(self) -> tuple[int, ...]:
        """Shape of the parameters of one datum: `(..., M * (1 + 2 * C))`."""
        return (*self.shape[:-1], self.num_components * (1 + 2 * self.shape[-1]))

    def encoder_input(self, x: tf.Tensor) -> tf.Tensor:
        """Maps pixels 0..255 to [-1, 1]."""
        return x / HALF_RANGE - 1.0

    def call(self, params: tf.Tensor) -> tfd.Independent:
        """Returns p(x|z) for parameters `[..., *params_shape]`."""
        per_channel = self.num_components * self.shape[-1]
        logits, loc, raw_scale = tf.split(
            self.to_density(params), [self.num_components, per_channel, per_channel], axis=-1
        )
        components = _DiscretizedLogistic(
            self._by_component(HALF_RANGE * (loc + 1.0)),
            self._by_component(HALF_RANGE * positive_scale(raw_scale)),
        )
        pixels = _Mixture(
            tfd.Categorical(logits=logits),
            tfd.Independent(components, reinterpreted_batch_ndims=1),
        )
        return tfd.Independent(pixels, reinterpreted_batch_ndims=len(self.shape) - 1)

    def _by_component(self, values: tf.Tensor) -> tf.Tensor:
        shape = [self.num_components, self.shape[-1]]
        return tf.reshape(values, tf.concat([tf.shape(values)[:-1], shape], axis=0))

    def params_from_mean(self, mean: tf.Tensor) -> tf.Tensor:
        """Returns parameters `[*params_shape]` with every loc at `mean` and zeros elsewhere.

        The scale softplus(0) is wide, so the mean of the distribution lies between `mean` and the
        middle of the range.
        """
        loc = tf.tile(
            self.encoder_input(self.to_density(mean)),
            [1] * (len(self.shape) - 1) + [self.num_components],
        )
        logits = tf.zeros_like(loc[..., : self.num_components])
        return tf.concat([logits, loc, tf.zeros_like(loc)], axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "num_components": self.num_components}
