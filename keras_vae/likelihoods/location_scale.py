"""What likelihoods with a location and a scale have in common: a fixed or learned scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.core.initializers import Constant
from keras_vae.core.numerics import SCALE_CEILING, SCALE_FLOOR, inverse_scale, positive_scale
from keras_vae.likelihoods.base import Likelihood

tfd = tfp.distributions

SHARED, PER_DIMENSION = "shared", "per_dimension"


class LocationScale(Likelihood):
    """A likelihood with a location from the decoder and a scale that is the same for every z.

    A subclass defines the distribution of an element in `elements`. See `Normal`.
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

    def elements(self, location: tf.Tensor, scale: tf.Tensor) -> tfd.Distribution:
        """Returns the distributions of the elements of x, batch `[..., *E]`."""
        raise NotImplementedError

    @property
    def scale(self) -> tf.Tensor:
        """The current scale, in units of x: Tensor [], or [*E] if `"per_dimension"`."""
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
        """Returns p(x|z) for locations `[..., *E]`."""
        return self.independent(self.elements(self.to_density(params), self.scale))

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


def _check_scale(scale: Any) -> float | str:
    if isinstance(scale, str) and scale in (SHARED, PER_DIMENSION):
        return scale
    try:
        return checks.number("scale", scale, minimum=0.0, exclusive=True)
    except ValueError:
        rule = f"must be a finite number > 0 or one of {[SHARED, PER_DIMENSION]}"
        raise checks.invalid("scale", rule, scale) from None
