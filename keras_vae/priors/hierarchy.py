"""A prior over several maps of codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.distributions.codes import CodeGroups
from keras_vae.distributions.hierarchical_codes import CodeFeatures, HierarchicalCodes
from keras_vae.priors.base import Infer, Prior, serializable
from keras_vae.priors.code_prior import CodePrior
from keras_vae.priors.pixel_cnn import AutoregressivePrior

tfd = tfp.distributions


@serializable
class Hierarchy(CodePrior):
    """A prior over maps of codes from the top down, each given all the maps above it.

    p(z) = p(z_top) p(z_bottom | z_top),  z = [z_top, z_bottom]

    The prior of the bottom map is conditional on features of the codes above, which are embedded,
    convolved and repeated to the size of its map. With a `Hierarchy` as the top, there are three or
    more maps. If labels are given as a condition, they reach every map.

    Args:
        top: Prior over the map or maps above: a `PixelCNN`, a `PixelSNAIL` or a `Hierarchy`.
        bottom: Prior over the map below: a `PixelCNN` or a `PixelSNAIL`.
        filters: Number of features computed from the codes above.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.Distribution` over int32 codes, the maps one after another, each row by row: batch []
        or that of the condition, event [N]. `log_prob_by_group` is the density of each map.

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> from keras_vae.priors import PixelCNN
        >>> top, bottom = (PixelCNN((n, n), 8, filters=16, num_layers=2) for n in (2, 4))
        >>> prior = Hierarchy(top=top, bottom=bottom)()
        >>> z = prior.sample(3, seed=1)
        >>> z.shape, prior.log_prob_by_group(z).shape
        (TensorShape([3, 20]), TensorShape([3, 2]))

    References:
        Razavi et al., 2019, section 3.2 and algorithm 2, arXiv:1906.00446.
    """

    def __init__(self, top: Prior, bottom: Prior, filters: int = 64, **kwargs: Any):
        if not isinstance(top, (AutoregressivePrior, Hierarchy)):
            raise checks.invalid("top", "must be a PixelCNN, a PixelSNAIL or a Hierarchy", top)
        if not isinstance(bottom, AutoregressivePrior):
            raise checks.invalid("bottom", "must be a PixelCNN or a PixelSNAIL", bottom)
        above, below = top.groups, bottom.groups
        groups = CodeGroups(above.maps + below.maps, above.num_codes + below.num_codes)
        super().__init__(groups, **kwargs)
        self.top, self.bottom = top, bottom
        self.filters = checks.size("filters", filters)
        self.features = CodeFeatures(
            above, bottom.rows_and_columns, self.filters, dtype=self.density_dtype
        )

    def build(
        self,
        encoder_input_shape: Sequence[int | None] | None = None,
        condition_shape: Sequence[int | None] | None = None,
    ) -> None:
        """Creates the weights: with a condition `[B, C]`, those of p(z|c)."""
        given = None if condition_shape is None else tuple(condition_shape)
        if given is not None and (len(given) != 2 or given[1] is None):
            raise checks.invalid("condition_shape", "must be (batch, C), with C known", given)
        self.condition_shape = given
        width = self.filters + (0 if given is None else int(given[1] or 0))
        self.top.build_for("top", given)
        self.bottom.build_for("bottom", (None, *self.bottom.rows_and_columns, width))
        self.features.build()
        self.built = True

    def call(
        self, condition: tf.Tensor | None = None, infer: Infer | None = None
    ) -> HierarchicalCodes:
        """Returns p(z), or p(z|c) for a condition `[B, C]`."""
        if self.condition_shape is None:
            condition = None

        def below(above: tf.Tensor) -> tfd.Distribution:
            return self.bottom(self._features_of(above, condition))

        return HierarchicalCodes(self.top(condition), below, self.groups)

    def _features_of(self, above: tf.Tensor, condition: tf.Tensor | None) -> tf.Tensor:
        """Returns the condition of the bottom map, `[..., H, W, F (+ C)]`, for the codes above."""
        features = self.features(above)
        if condition is None:
            return features
        labels = self.to_density(condition)[:, tf.newaxis, tf.newaxis]  # [B, 1, 1, C]
        # Adding zeros broadcasts both.
        parts = features + tf.zeros_like(labels[..., :1]), labels + tf.zeros_like(features[..., :1])
        return tf.concat(parts, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        parts = {
            name: keras.saving.serialize_keras_object(part)
            for name, part in (("top", self.top), ("bottom", self.bottom))
        }
        return {**super().get_config(), **parts, "filters": self.filters}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Hierarchy:
        """Returns a prior with these arguments, in which Keras has serialized the two priors."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name]) for name in ("top", "bottom")
        }
        return cls(**{**config, **parts})
