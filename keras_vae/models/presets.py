"""Presets: a `VAE` with the objective of a method, under its name in the literature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_vae.core.head import serializable
from keras_vae.likelihoods import Likelihood
from keras_vae.models.vae import VAE
from keras_vae.objectives import ELBO, GECO, ImportanceWeighted, LearnedSimilarity, Objective
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
        **kwargs: Passed on to `VAE`, such as `seed`.

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
        return _with_arguments_for_objective(super().get_config(), {"beta": self._initial_beta})


@serializable
class IWAE(VAE):
    """A VAE trained by the importance-weighted bound: `objective=ImportanceWeighted(num_samples)`.

    loss = -log 1/K sum_k p(x, z_k) / q(z_k|x),  z_k ~ q(z|x)

    Args:
        encoder: Any Keras layer or model from x to features.
        decoder: Any Keras layer or model from z to the parameters of p(x|z).
        posterior: Head of q(z|x).
        likelihood: Head of p(x|z).
        prior: Head of p(z); `StandardNormal(D)` by default.
        num_samples: Number K of samples.
        estimator: How the encoder's gradient is estimated, one of those of `ImportanceWeighted`.
        **kwargs: Passed on to `VAE`, such as `seed`.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.IWAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)),
        ...     num_samples=5, estimator="doubly_reparameterized")
        >>> model.objective.num_samples
        5

    References:
        Burda et al., 2016, eq. 8, arXiv:1509.00519.
    """

    def __init__(
        self,
        encoder: keras.layers.Layer,
        decoder: keras.layers.Layer,
        posterior: Posterior,
        likelihood: Likelihood,
        prior: Prior | None = None,
        *,
        num_samples: int = 50,
        estimator: str = "reparameterized",
        **kwargs: Any,
    ):
        objective = ImportanceWeighted(num_samples, estimator)
        super().__init__(encoder, decoder, posterior, likelihood, prior, objective, **kwargs)
        self._arguments = {"num_samples": objective.num_samples, "estimator": estimator}

    def get_config(self) -> dict[str, Any]:
        return _with_arguments_for_objective(super().get_config(), self._arguments)


@serializable
class GECOVAE(VAE):
    """A VAE that minimizes the rate under a constraint: `VAE(..., objective=GECO(constraint))`.

    loss = KL(q(z|x) || p(z)) + lambda C

    `callbacks.GECO` adjusts λ until C = 0.

    Args:
        encoder: Any Keras layer or model from x to features.
        decoder: Any Keras layer or model from z to the parameters of p(x|z).
        posterior: Head of q(z|x).
        likelihood: Head of p(x|z).
        prior: Head of p(z); `StandardNormal(D)` by default.
        constraint: What the reconstruction must satisfy, as `GECO` takes it.
        bound: `ELBO()`, the default, or `ImportanceWeighted(K)`.
        initial_multiplier: λ at the start, > 0: a number, or one for each constraint.
        **kwargs: Passed on to `VAE`, such as `seed`.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.GECOVAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)),
        ...     constraint=kv.objectives.SquaredError(kappa=2.0))
        >>> model.compile("adam")
        >>> history = model.fit(
        ...     keras.ops.zeros([64, 8, 8, 1]), verbose=0, callbacks=[kv.callbacks.GECO()])
        >>> sorted(history.history)
        ['constraint', 'constraint_ma', 'elbo', 'kl', 'lambda', 'loss', 'reconstruction']

    References:
        Rezende and Viola, 2018, arXiv:1810.00597.
    """

    def __init__(
        self,
        encoder: keras.layers.Layer,
        decoder: keras.layers.Layer,
        posterior: Posterior,
        likelihood: Likelihood,
        prior: Prior | None = None,
        *,
        constraint: Any,
        bound: Objective | None = None,
        initial_multiplier: float | Sequence[float] = 1.0,
        **kwargs: Any,
    ):
        objective = GECO(constraint, bound, initial_multiplier)
        super().__init__(encoder, decoder, posterior, likelihood, prior, objective, **kwargs)

    def get_config(self) -> dict[str, Any]:
        given = self.objective.get_config()
        arguments = {name: given[name] for name in ("constraint", "bound", "initial_multiplier")}
        return _with_arguments_for_objective(super().get_config(), arguments)


@serializable
class VAEGAN(VAE):
    """A VAE that reconstructs features of a discriminator: `objective=LearnedSimilarity(...)`.

    similarity = E_q[-log N(f(x); f(x'), I)],  f a hidden layer of the discriminator D
    loss of the encoder = KL(q(z|x) || p(z)) + similarity
    loss of the decoder = gamma similarity + softplus(-D(x')) + softplus(-D(x_p))
    loss of the discriminator = softplus(-D(x)) + softplus(D(x')) + softplus(D(x_p))

    x' and x_p are the means of p(x|z) at z ~ q(z|x) and at z ~ p(z). `optimizers.by_part` gives
    each of the three parts its own optimizer and pace; `callbacks.Equilibrium` keeps them in
    balance.

    Args:
        encoder: Any Keras layer or model from x to features.
        decoder: Any Keras layer or model from z to the parameters of p(x|z).
        posterior: Head of q(z|x).
        likelihood: Head of p(x|z), whose mean is the image; its density is only measured.
        prior: Head of p(z); `StandardNormal(D)` by default.
        discriminator: Any Keras model from images to logits, as `LearnedSimilarity` takes it, such
            as `networks.ConvDiscriminator()`.
        gamma: Weight >= 0 of the similarity against the discriminator, for the decoder; the default
            suits features of spectrally normalized layers.
        loss: `"non_saturating"`, `"hinge"` or `"least_squares"`.
        feature_layer: Name of the layer of the discriminator whose output is f; None for the last
            hidden one.
        beta: Weight >= 0 of the KL.
        num_samples: Number S of samples of z for every x.
        r1: Weight >= 0 of R1, the penalty of the discriminator's slope at the data.
        lecam: Weight >= 0 of the LeCam regularization.
        **kwargs: Passed on to `VAE`, such as `seed`.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.VAEGAN(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)),
        ...     discriminator=kv.networks.ConvDiscriminator((4,), dense_units=8))
        >>> adam = {part: keras.optimizers.Adam(3e-4) for part in model.trainable_parts}
        >>> model.compile(kv.optimizers.by_part(model, **adam))
        >>> history = model.fit(
        ...     keras.ops.zeros([64, 8, 8, 1]), verbose=0, callbacks=[kv.callbacks.Equilibrium()])
        >>> sorted(history.history)[2:5]
        ['discriminator_accuracy', 'discriminator_fake', 'discriminator_loss']

    References:
        Larsen et al., 2016, algorithm 1, arXiv:1512.09300.
    """

    def __init__(
        self,
        encoder: keras.layers.Layer,
        decoder: keras.layers.Layer,
        posterior: Posterior,
        likelihood: Likelihood,
        prior: Prior | None = None,
        *,
        discriminator: keras.layers.Layer,
        gamma: float = 1.0,
        loss: str = "non_saturating",
        feature_layer: str | None = None,
        beta: float = 1.0,
        num_samples: int = 1,
        r1: float = 0.0,
        lecam: float = 0.0,
        **kwargs: Any,
    ):
        objective = LearnedSimilarity(
            discriminator,
            gamma,
            beta=beta,
            loss=loss,
            feature_layer=feature_layer,
            num_samples=num_samples,
            r1=r1,
            lecam=lecam,
        )
        super().__init__(encoder, decoder, posterior, likelihood, prior, objective, **kwargs)

    def get_config(self) -> dict[str, Any]:
        given = self.objective.get_config()
        own = ("discriminator", "gamma", "loss", "feature_layer")
        names = (*own, "beta", "num_samples", "r1", "lecam")
        arguments = {name: given[name] for name in names}
        return _with_arguments_for_objective(super().get_config(), arguments)


def _with_arguments_for_objective(
    config: dict[str, Any], arguments: dict[str, Any]
) -> dict[str, Any]:
    """Returns a configuration in which the objective is replaced by the arguments that make it."""
    return {name: value for name, value in config.items() if name != "objective"} | arguments
