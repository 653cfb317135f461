"""The normal likelihood, for real data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.core.initializers import Constant
from keras_vae.core.numerics import SCALE_CEILING, SCALE_FLOOR, inverse_scale, positive_scale
from keras_vae.likelihoods.base import Likelihood, serializable

tfd = tfp.distributions

SHARED, PER_DIMENSION = "shared", "per_dimension"


def _check_scale(scale: Any) -> float | str:
    if scale in (SHARED, PER_DIMENSION):
        return scale
    try:
        return checks.number("scale", scale, minimum=0.0, exclusive=True)
    except ValueError:
        rule = f"must be a finite number > 0 or one of {[SHARED, PER_DIMENSION]}"
        raise checks.invalid("scale", rule, scale) from None


@serializable
class Normal(Likelihood):
    """Independent normal variables: the mean from the decoder, the scale fixed or learned.

    log p(x|z) = sum_e -(x_e - m_e)^2 / (2 s_e^2) - log s_e - log(2 pi) / 2,  m = decoder(z)

    A learned scale is a weight of this layer, the same for every z; its optimum is the root mean
    square of x - m. It is softplus(weight) + 1e-4, at most 1e4.

    Args:
        shape: Shape E of one datum.
        scale: Standard deviation s, in units of x: a number > 0 to keep it fixed, `"shared"` to
            learn one for all elements, `"per_dimension"` to learn one for each.
        initial_scale: Where a learned scale starts, in units of x. An optimizer moves the weight by
            about its learning rate a step, so start near the spread of the data.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.Independent` of means `[..., *E]`: batch [...], event [*E]; `log_prob` in nats.

    Raises:
        ValueError: If `shape` is not a non-empty sequence of positive integers, `scale` is neither
            a number > 0 nor a known option, or `initial_scale` is outside (1e-4, 1e4).

    Example:
        >>> p = Normal((2,), scale="shared", initial_scale=2.0)(tf.zeros([1, 2]))
        >>> round(float(p.log_prob([[0.0, 2.0]])[0]), 4)
        -3.7242

    References:
        Kingma & Welling, 2014, appendix C.2, arXiv:1312.6114.
        Rybkin et al., 2021, section 3 (a learned shared scale), arXiv:2006.13202.
    """

    def __init__(
        self,
        shape: Sequence[int],
        scale: float | str = 1.0,
        *,
        initial_scale: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(shape, **kwargs)
        self._scale = _check_scale(scale)
        self.initial_scale = checks.number(
            "initial_scale", initial_scale, SCALE_FLOOR, SCALE_CEILING, exclusive=True
        )
        self.raw_scale = None

    @property
    def scale(self) -> tf.Tensor:
        """The current standard deviation: Tensor [], or [*E] if `"per_dimension"`; units of x."""
        if not isinstance(self._scale, str):
            return self.to_density(self._scale)
        if self.raw_scale is None:
            return tf.fill(self._scale_shape, self.to_density(self.initial_scale))
        return positive_scale(tf.convert_to_tensor(self.raw_scale))

    @property
    def _scale_shape(self) -> tuple[int, ...]:
        return self.shape if self._scale == PER_DIMENSION else ()

    def build(self, params_shape: Sequence[int | None]) -> None:
        """Checks the decoder's output shape and adds the weight of a learned scale."""
        super().build(params_shape)
        if isinstance(self._scale, str):
            start = Constant(inverse_scale(self.initial_scale))
            self.raw_scale = self.add_density_weight(self._scale_shape, start, "raw_scale")

    def call(self, params: tf.Tensor) -> tfd.Independent:
        """Returns p(x|z) for means `[..., *E]`."""
        return self.independent(tfd.Normal(self.to_density(params), self.scale))

    def params_from_mean(self, mean: tf.Tensor) -> tf.Tensor:
        """Returns `mean` itself: Tensor `[*E]`."""
        return self.to_density(mean)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "scale": self._scale,
            "initial_scale": self.initial_scale,
        }
