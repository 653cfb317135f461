"""What the priors of discrete variables have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.priors.base import Infer, Prior

tfd = tfp.distributions


class DiscretePrior(Prior):
    """A prior of independent discrete variables, uniform or with learned logits.

    Args:
        latent_dim: Number D of latent variables.
        learned: Whether the logits are learned, starting from equal values.
        **kwargs: Passed on to `keras.layers.Layer`.

    Attributes:
        whole: The distribution of one variable, constructed from logits.
    """

    discrete = True
    whole: type[tfd.Distribution]

    def __init__(self, latent_dim: int, learned: bool = False, **kwargs: Any):
        super().__init__(latent_dim, **kwargs)
        self.learned = checks.flag("learned", learned)

    def build(
        self,
        encoder_input_shape: Sequence[int | None] | None = None,
        condition_shape: Sequence[int | None] | None = None,
    ) -> None:
        """Creates the logits, if they are learned; needs no shape."""
        if self.learned:
            self.logits = self.add_density_weight(self.event_shape, "zeros", "logits")

    def call(
        self, condition: tf.Tensor | None = None, infer: Infer | None = None
    ) -> tfd.Independent:
        """Returns p(z), whatever the arguments."""
        logits = self.logits if self.learned else tf.zeros(self.event_shape)
        logits = self.to_density(tf.convert_to_tensor(logits))
        each = self.whole(logits=logits, dtype=logits.dtype)
        return tfd.Independent(each, reinterpreted_batch_ndims=1)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "learned": self.learned}
