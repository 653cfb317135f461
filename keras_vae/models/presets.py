"""A `VAE` with the objective of a method, by its name in the literature."""

from __future__ import annotations

from typing import Any

import keras

from keras_vae.core.head import serializable
from keras_vae.likelihoods import Likelihood
from keras_vae.models.vae import VAE
from keras_vae.objectives import ELBO
from keras_vae.posteriors import Posterior
from keras_vae.priors import Prior


@serializable
class BetaVAE(VAE):
    """A VAE whose KL is weighted by β: `VAE(..., objective=ELBO(beta=beta))`.

    loss = -E_q[log p(x|z)] + beta * KL(q(z|x) || p(z))

    Args:
        encoder: Any Keras layer or model from x to features.
        decoder: Any Keras layer or model from z to the parameters of p(x|z).
        posterior: Head of q(z|x).
        likelihood: Head of p(x|z).
        prior: Head of p(z); `StandardNormal(D)` by default.
        beta: Weight of the KL, >= 0.
        **kwargs: Of `VAE`, such as `seed`.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.BetaVAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)),
        ...     beta=2.0)
        >>> float(model.objective.beta)
        2.0

    References:
        Higgins et al., 2017, eq. 4, "beta-VAE".
    """

    def __init__(
        self,
        encoder: keras.layers.Layer,
        decoder: keras.layers.Layer,
        posterior: Posterior,
        likelihood: Likelihood,
        prior: Prior | None = None,
        *,
        beta: float = 4.0,
        **kwargs: Any,
    ):
        objective = ELBO(beta=beta)
        super().__init__(encoder, decoder, posterior, likelihood, prior, objective, **kwargs)
        self._initial_beta = float(beta)

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "beta": self._initial_beta}
        del config["objective"]
        return config
