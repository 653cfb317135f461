"""The ladder variational autoencoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.likelihoods import Likelihood
from keras_vae.models import sharing
from keras_vae.models.parts import serialized, trainable_of
from keras_vae.models.vae import VAE
from keras_vae.networks import LadderEncoder, MLPDecoder
from keras_vae.objectives import Objective
from keras_vae.posteriors import Ladder
from keras_vae.posteriors.ladder import checked_widths, perceptron_widths
from keras_vae.priors import Chain, Prior


@serializable
class LadderVAE(VAE):
    """A VAE with several stochastic layers, inferred from the top down, just as they are generated.

    p(x, z) = p(x|z1) p(z1|z2) ... p(z_{L-1}|zL) N(zL; 0, I)
    q(z|x) = q(zL|x) prod_l q(z_l|z_{l+1}, x)
    q(z_l|z_{l+1}, x) ~ N(z_l; mu_l(x), s_l(x)^2) p(z_l|z_{l+1})

    A deterministic pass upwards from x gives an estimate (mu_l, s_l) of each layer. On the way
    down, inference multiplies it by the prior's own conditional, so that posterior and prior share
    its weights. All networks are multilayer perceptrons. Raise β from 0 to 1 over many passes
    through the data (`callbacks.KLAnnealing`); otherwise, the upper layers are switched off at the
    start and do not come back.

    Args:
        latent_dims: Numbers of dimensions of z1, ..., zL, starting with the layer next to x.
        hidden: Widths of the perceptrons between the layers: x and z1, z1 and z2, ...
        likelihood: Head of p(x|z), one of `keras_vae.likelihoods`.
        depth: Number of hidden layers of each perceptron.
        activation: Name of a Keras activation, or a function.
        objective: What to minimize; `ELBO()` by default.
        seed: Seed of the noise in training and evaluation, an integer >= 0.
        **kwargs: Passed on to `keras.Model`, such as `name`.

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.LadderVAE(
        ...     latent_dims=(3, 2), hidden=(16, 8), likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> model.latents
        {'z1': (3,), 'z2': (2,)}
        >>> model.compile("adam")
        >>> history = model.fit(keras.ops.zeros([64, 8, 8, 1]), verbose=0)
        >>> model.sample(4, temperature=0.8).shape
        TensorShape([4, 8, 8, 1])

    References:
        Soenderby et al., 2016, arXiv:1602.02282.
    """

    def __init__(
        self,
        latent_dims: Sequence[int],
        hidden: Sequence[int],
        likelihood: Likelihood,
        *,
        depth: int = 2,
        activation: str | Callable = "leaky_relu",
        objective: Objective | None = None,
        seed: int = 0,
        **kwargs: Any,
    ):
        checks.instance("likelihood", likelihood, Likelihood)
        hidden, depth = checked_widths(hidden, latent_dims), checks.integer("depth", depth)
        options = {"activation": activation, "dtype": likelihood.dtype_policy}
        prior = Chain(latent_dims, perceptron_widths(hidden, depth), **options)
        super().__init__(
            encoder=LadderEncoder(hidden, depth, **options),
            decoder=MLPDecoder(likelihood.params_shape, hidden[:1] * depth, **options),
            posterior=Ladder(latent_dims, hidden, depth, top_down=prior.chain, **options),
            likelihood=likelihood,
            prior=prior,
            objective=objective,
            seed=seed,
            **kwargs,
        )

    @property
    def trainable_parts(self) -> dict[str, list[keras.Variable]]:
        """The trainable variables of each part; those that the posterior shares are the prior's."""
        encoder, decoder = (self.encoder, self.posterior_head), (self.decoder, self.likelihood_head)
        own = {"prior": (self.prior_head,), "encoder": encoder, "decoder": decoder}
        parts = trainable_of(**own, **self.objective.parts)
        return {
            name: parts[name] for name in ("encoder", "decoder", "prior", *self.objective.parts)
        }

    def with_prior(self, prior: Prior) -> VAE:
        """Returns a `VAE` that shares all parts of this model but its prior; see `VAE.with_prior`.

        The posterior keeps its conditionals, which belong to the prior that this model was trained
        with.
        """
        self.check_prior(prior)
        return sharing.with_prior(self, prior, VAE)

    def get_config(self) -> dict[str, Any]:
        config, head = super(VAE, self).get_config(), self.posterior_head.get_config()
        own = {name: head[name] for name in ("latent_dims", "hidden", "depth", "activation")}
        return {**config, **own, **serialized(self, "likelihood")}
