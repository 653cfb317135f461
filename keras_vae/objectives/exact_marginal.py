"""The exact log p(x) of models with discrete latent variables."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_vae import bounds
from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.distributions import discrete
from keras_vae.objectives.base import Objective, draws_of
from keras_vae.terms import Terms


@serializable
class ExactMarginal(Objective):
    """The negative log-likelihood itself, computed as a sum over all values of a discrete z.

    loss = -log p(x) = -log sum_z p(z) p(x|z)

    With N = K^D or 2^D values, the decoder sees N of them, whatever the batch (N B in a conditional
    model), and the likelihood sees N B pairs, so this pays only if N is small.

    q(z|x) plays no part in the loss. With `fit_posterior`, the loss also has the gradient of

    KL(p(z|x) || q(z|x)) = sum_z p(z|x) (log p(z|x) - log q(z|x)),  p(z|x) held

    which does not affect the decoder and the prior. The encoder thus learns the exact posterior
    while the value remains -log p(x). Otherwise, the encoder and the posterior learn nothing.

    Args:
        fit_posterior: Whether the encoder learns the exact posterior.
        max_points: The largest N that is allowed.
        **kwargs: Passed on to `keras.layers.Layer`.

    Raises:
        ValueError: If `max_points` is not a positive integer; at the first step, if the prior is
            not one of independent discrete variables, or N is larger.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((8,)),
        ...     decoder=kv.networks.MLPDecoder((2,), (8,)),
        ...     posterior=kv.posteriors.Categorical(2, num_classes=3),
        ...     prior=kv.priors.Categorical(2, num_classes=3, learned=True),
        ...     likelihood=kv.likelihoods.Normal((2,)),
        ...     objective=ExactMarginal())
        >>> ExactMarginal().loss(model.compute_terms(tf.zeros([5, 2]))).shape
        TensorShape([5])

    References:
        Bornschein and Bengio, 2015, section 2.3, arXiv:1406.2751 (the gradient of the encoder,
        there by importance sampling).
    """

    pathwise = False

    def __init__(self, fit_posterior: bool = True, max_points: int = 4096, **kwargs: Any):
        super().__init__(**kwargs)
        self.fit_posterior = checks.flag("fit_posterior", fit_posterior)
        self.max_points = checks.integer("max_points", max_points)

    def loss(self, terms: Terms) -> tf.Tensor:
        draws = draws_of(terms, type(self).__name__)
        points = tf.cast(discrete.support(draws.p_z, self.max_points), draws.z.dtype)
        z = points[:, tf.newaxis]  # [N, 1, D] or [N, 1, D, K]: one for all examples
        log_joint = draws.p_z.log_prob(z) + draws.likelihood(z).log_prob(draws.x)  # [N, B]
        loss = -tf.reduce_logsumexp(log_joint, axis=0)
        # Without any gradient, Keras would warn at every trace, as if weights were left out by
        # mistake.
        weight = bounds.normalized_weights(log_joint) * float(self.fit_posterior)
        cross_entropy = -tf.reduce_sum(weight * draws.q.log_prob(z), axis=0)
        return bounds.with_gradient_of(loss, cross_entropy)

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "fit_posterior": self.fit_posterior}
        return {**config, "max_points": self.max_points}
