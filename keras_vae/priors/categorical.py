"""A prior of categorical variables."""

from __future__ import annotations

from typing import Any

from keras_vae.core import checks
from keras_vae.distributions import discrete
from keras_vae.priors.base import serializable
from keras_vae.priors.discrete import DiscretePrior


@serializable
class Categorical(DiscretePrior):
    """Independent categorical variables as one-hot rows, uniform or with learned logits.

    p(z) = prod_d Categorical(z_d; softmax(l_d)),  l = 0 unless learned

    Args:
        latent_dim: Number D of latent variables.
        num_classes: Number K of classes of each variable, at least 2.
        learned: Whether the logits are learned, starting from equal values.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.Independent` over one-hot rows, batch [], event [D, K].

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> import tensorflow as tf
        >>> prior = Categorical(2, num_classes=4)()
        >>> round(float(prior.log_prob(tf.one_hot([3, 0], 4))), 4)  # -2 log 4
        -2.7726

    References:
        Jang et al., 2017, section 4.2 (uniform), arXiv:1611.01144.
    """

    whole = discrete.OneHotCategorical

    def __init__(self, latent_dim: int, num_classes: int, learned: bool = False, **kwargs: Any):
        super().__init__(latent_dim, learned, **kwargs)
        self.num_classes = checks.size("num_classes", num_classes, minimum=2)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one z: `(D, K)`."""
        return (self.latent_dim, self.num_classes)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "num_classes": self.num_classes}
