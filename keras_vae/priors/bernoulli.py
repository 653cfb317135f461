"""A prior of binary variables."""

from __future__ import annotations

from keras_vae.distributions import discrete
from keras_vae.priors.base import serializable
from keras_vae.priors.discrete import DiscretePrior


@serializable
class Bernoulli(DiscretePrior):
    """Independent binary variables, uniform or with learned logits.

    p(z) = prod_d Bernoulli(z_d; sigmoid(l_d)),  l = 0 unless learned

    Args:
        latent_dim: Number D of latent variables.
        learned: Whether the logits are learned, starting from 0.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.Independent` over 0 and 1, batch [], event [D].

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> prior = Bernoulli(2)()
        >>> round(float(prior.log_prob([0.0, 1.0])), 4)  # -2 log 2
        -1.3863
    """

    whole = discrete.Bernoulli
