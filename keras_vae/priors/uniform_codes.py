"""The uniform prior over codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_vae.distributions import codes
from keras_vae.priors.base import Infer, serializable
from keras_vae.priors.code_prior import CodePrior


@serializable
class UniformCodes(CodePrior):
    """Codes that are all equally probable, without weights.

    p(z) = prod_n 1 / K_n

    Use it for a quantizer as long as nothing is known about its codes.

    Args:
        maps: Shape of the map of codes, such as `(8, 8)`, or a tuple of such shapes, one for each
            group of codes.
        num_codes: Number K of codes, at least 2: one number for all groups, or a tuple with one
            for each.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.Distribution` over int32 codes, flat and row by row: batch [], event [N].

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> prior = UniformCodes((2, 2), num_codes=8)()
        >>> round(float(prior.log_prob([0, 1, 2, 7])), 4)  # -4 log 8
        -8.3178

    References:
        van den Oord et al., 2017, section 3.1, arXiv:1711.00937.
    """

    def __init__(self, maps: Sequence[Any], num_codes: int | Sequence[int], **kwargs: Any):
        super().__init__(codes.CodeGroups.of(maps, num_codes), **kwargs)

    def call(
        self, condition: tf.Tensor | None = None, infer: Infer | None = None
    ) -> codes.UniformCodes:
        """Returns p(z), whatever the arguments."""
        return codes.UniformCodes(self.groups, self.density_dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        one = len(self.groups.maps) == 1
        maps = self.groups.maps[0] if one else self.groups.maps
        num_codes = self.groups.num_codes[0] if one else self.groups.num_codes
        return {**super().get_config(), "maps": maps, "num_codes": num_codes}
