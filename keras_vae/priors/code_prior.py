"""What the priors over codes have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.distributions.codes import CodeGroups, checked_codes
from keras_vae.priors.base import Prior


class CodePrior(Prior):
    """A head for p(z) over codes: int32 vectors `[N]`, the maps one after another.

    Args:
        groups: The layout of the codes.
        **kwargs: Passed on to `keras.layers.Layer`.

    Attributes:
        groups: The layout of the codes.
        condition_shape: Shape of the condition that it was built for, or None.

    Example:
        >>> from keras_vae.distributions import codes
        >>> class Uniform(CodePrior):
        ...     def call(self, condition=None, infer=None):
        ...         return codes.UniformCodes(self.groups, self.density_dtype)
        >>> Uniform(codes.CodeGroups.of((2, 2), 8))().event_shape
        TensorShape([4])
    """

    discrete = True

    def __init__(self, groups: CodeGroups, **kwargs: Any):
        super().__init__(checks.instance("groups", groups, CodeGroups).size, **kwargs)
        self.groups = groups
        self.condition_shape: tuple[int | None, ...] | None = None

    @property
    def latents(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the maps by name, in their order within z."""
        return self.groups.latents

    def check_draws(self, z: Any) -> None:
        """Raises a `ValueError` unless all draws are codes."""
        broken = z[z != np.round(z)]
        if broken.size:
            raise checks.invalid("z", "must hold codes, which are whole numbers", float(broken[0]))
        checked_codes("z", tf.constant(z, tf.int64), self.groups.counts)

    def build_for(self, argument: str, condition_shape: tuple[int | None, ...] | None) -> None:
        """Builds the prior; raises if it was built for another condition or takes none.

        Args:
            argument: Name of the argument by which the prior was given.
            condition_shape: Shape `[B, ...]` of the condition, or None.

        Raises:
            ValueError: If the prior was not built for this condition.
        """
        if not self.built:
            self.build(condition_shape=condition_shape)
        found = self.condition_shape
        if (found and found[1:]) != (condition_shape and condition_shape[1:]):
            rule = f"must be new, or built for a condition of shape {condition_shape}"
            name = type(self).__name__
            raise checks.invalid(argument, rule, f"a {name} built for {found}")

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, except for the layout."""
        config = super().get_config()
        del config["latent_dim"]  # the number of codes in all maps
        return config
