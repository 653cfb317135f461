"""Objectives with a critic of the codes: FactorVAE, and adversarial posteriors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_vae import adversaries
from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.core.seeds import fold, purpose, seed_tensor
from keras_vae.objectives.adversary import AroundObjective, Verdict
from keras_vae.objectives.base import Objective, draws_of, draws_of_prior
from keras_vae.objectives.elbo import ELBO
from keras_vae.terms import Terms
from keras_vae.training import replicas


class LatentAdversary(AroundObjective):
    """Base class of objectives whose discriminator, the critic, looks at z and not at x."""

    computes_with_z = True

    @property
    def critic(self) -> keras.layers.Layer:
        """The discriminator, by its usual name here."""
        return self.discriminator

    def judged_shape(self, model: Any) -> tuple[int, ...] | None:
        try:
            return model.latent_event
        except NotImplementedError:
            return None

    def check_logits(self, shape: tuple[int | None, ...]) -> None:
        if shape not in ((), (1,)):
            rule = "must return a single logit for each z, which it may have to flatten"
            raise checks.invalid("critic", rule, f"one that returns the shape {shape}")

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        critic = config.pop("discriminator")
        return {**config, "critic": critic}


@serializable
class FactorVAE(LatentAdversary):
    """The ELBO plus the total correlation of the codes, as estimated by a critic (FactorVAE).

    loss = -ELBO + gamma TC,  TC = KL(q(z) || prod_d q(z_d)) ~ E_q(z)[log D(z) / (1 - D(z))]
    loss of the critic = -(log D(z) + log(1 - D(z'))) / 2,  z' the z of the batch, permuted

    The critic returns the logit of D(z), the probability that z is a code and not one whose
    dimensions were permuted over the batch, each independently. Everything comes from one forward
    pass, whereas the paper draws a second batch for z'. The batch is that of all replicas. The
    critic is the part `"discriminator"` of the model; the paper trains it with
    `Adam(1e-4, beta_1=0.5, beta_2=0.9)`, and everything else with `Adam(1e-4)` (see
    `optimizers.by_part`).

    The logs hold `adversarial`, the estimate of the total correlation in nats; `discriminator_loss`
    and its two terms, `discriminator_real` (on z) and `discriminator_fake` (on z'); and
    `discriminator_accuracy`. At a total correlation of zero, the accuracy is 1/2.

    Args:
        critic: Any Keras layer or model from z `[N, D]` to logits `[N, 1]`; one-hot z, `[N, D, K]`,
            has to be flattened first.
        gamma: γ >= 0, drivable as `"gamma"`.
        objective: The objective that the total correlation is added to; `ELBO()` by default.
        r1: Weight >= 0 of R1, the penalty of the critic's slope at z; drivable if > 0.
        lecam: Weight >= 0 of the LeCam regularization; drivable if > 0.
        **kwargs: Passed on to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is not as above; when the objective is given to a model, if the
            critic does not accept the model's z.

    Example:
        >>> import keras_vae as kv
        >>> critic = keras.Sequential(
        ...     [keras.layers.Dense(32, "leaky_relu"), keras.layers.Dense(1)])
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)),
        ...     objective=FactorVAE(critic, gamma=10.0))
        >>> model.compile("adam")
        >>> "adversarial" in model.fit(tf.zeros([64, 8, 8, 1]), verbose=0).history
        True

    References:
        Kim and Mnih, 2018, eq. 2-3 and algorithm 2, arXiv:1802.05983.
    """

    def __init__(
        self,
        critic: keras.layers.Layer,
        gamma: float = 10.0,
        *,
        objective: Objective | None = None,
        r1: float = 0.0,
        lecam: float = 0.0,
        **kwargs: Any,
    ):
        objective = ELBO() if objective is None else objective
        super().__init__(objective, critic, "non_saturating", r1, lecam, **kwargs)
        self._initial_gamma = checks.number("gamma", gamma, minimum=0.0)
        self.gamma = self.add_hyperparameter("gamma", self._initial_gamma)

    def added(self, terms: Terms) -> tuple[tf.Tensor, Verdict, dict[str, tf.Tensor]]:
        draws = draws_of(terms, "FactorVAE")
        permuted = _permute_batch(draws.z, fold(seed_tensor(draws.seed), purpose("permutation")))
        verdict = self.judge(draws.z, [permuted], terms.log_p_x.dtype, draws.training)
        return tf.cast(self.gamma, verdict.loss.dtype) * verdict.adversarial, verdict, {}

    def maker_loss(self, real: tf.Tensor, fakes: Sequence[tf.Tensor]) -> tf.Tensor:
        return tf.reduce_mean(real, axis=[0, 2])  # log D / (1 - D) is the logit.

    def discriminator_terms(self, real: tf.Tensor, fake: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        on_real, on_fake = super().discriminator_terms(real, fake)
        return 0.5 * on_real, 0.5 * on_fake

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["loss"]
        return {**config, "gamma": self._initial_gamma}


@serializable
class AdversarialPosterior(LatentAdversary):
    """The distortion plus a critic that holds the aggregate posterior to the prior (AAE, WAE-GAN).

    loss = distortion + weight G(z),  z ~ q(z|x)
    loss of the critic = D(z_p, z) + r1 ||grad D(z_p)||^2 / 2 + lecam R_LC,  z_p ~ p(z)

    For the critic, draws of the prior are the data and codes are the fakes; G and D are those of
    `Adversarial`. The adversarial autoencoder has weight 1 and no KL; the Wasserstein autoencoder
    WAE-GAN has a squared error, the weight λ, and a posterior whose scale may vanish (WAE-MMD is
    `InfoVAE(alpha=1, lambda_=..., kernel="imq")`). Nothing here bounds log p(x): `elbo` in the logs
    is still that of the model, with its KL, and it is low because no KL is minimized.

    The critic is the part `"discriminator"` of the model. The logs hold `adversarial`, which is G;
    `discriminator_loss` and its terms, `discriminator_real` (on draws of the prior) and
    `discriminator_fake` (on codes); and `discriminator_accuracy`.

    Args:
        critic: Any Keras layer or model from z `[N, D]` to logits `[N, 1]`.
        weight: Weight >= 0 of G, drivable as `"weight"`.
        loss: `"hinge"`, `"non_saturating"` or `"least_squares"`.
        objective: The objective that the critic's term is added to; by default `ELBO(beta=0.0)`,
            the distortion, whose β can be driven.
        r1: Weight >= 0 of R1, the penalty of the critic's slope at draws of the prior; drivable
            if > 0.
        lecam: Weight >= 0 of the LeCam regularization; drivable if > 0.
        **kwargs: Passed on to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is not as above; when the objective is given to a model, if the
            critic does not accept the model's z; when the model is compiled, if the prior learns
            and β is 0.

    Example:
        >>> import keras_vae as kv
        >>> critic = keras.Sequential(
        ...     [keras.layers.Dense(32, "leaky_relu"), keras.layers.Dense(1)])
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)),
        ...     objective=AdversarialPosterior(critic))
        >>> list(model.trainable_parts)
        ['encoder', 'decoder', 'prior', 'discriminator']

    References:
        Makhzani et al., 2016, section 2, arXiv:1511.05644 (AAE); Tolstikhin et al., 2018,
        algorithm 1, arXiv:1711.01558 (WAE-GAN).
    """

    matches_prior = True

    def __init__(
        self,
        critic: keras.layers.Layer,
        weight: float = 1.0,
        loss: str = "non_saturating",
        *,
        objective: Objective | None = None,
        r1: float = 0.0,
        lecam: float = 0.0,
        **kwargs: Any,
    ):
        objective = ELBO(beta=0.0) if objective is None else objective
        super().__init__(objective, critic, loss, r1, lecam, **kwargs)
        self._initial_weight = checks.number("weight", weight, minimum=0.0)
        self.weight = self.add_hyperparameter("weight", self._initial_weight)

    def check_trainable(self, model: Any) -> None:
        super().check_trainable(model)
        head = getattr(model, "prior_head", None)
        learned = [] if head is None else head.trainable_variables
        beta = self.objective.hyperparameters.get("beta")
        if learned and beta is not None and float(beta) == 0.0:
            rule = (
                "must have no weights that learn, as nothing trains them without a KL (beta > 0): "
                "set `prior.trainable = False`"
            )
            raise checks.invalid("prior", rule, type(head).__name__)

    def added(self, terms: Terms) -> tuple[tf.Tensor, Verdict, dict[str, tf.Tensor]]:
        draws = draws_of(terms, "AdversarialPosterior")
        of_prior = draws_of_prior(draws, fold(seed_tensor(draws.seed), purpose("prior")))
        verdict = self.judge(of_prior, [draws.z], terms.log_p_x.dtype, draws.training)
        return tf.cast(self.weight, verdict.loss.dtype) * verdict.adversarial, verdict, {}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weight": self._initial_weight}


def _permute_batch(z: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Returns z `[S, B, D, ...]`, each dimension permuted over the batch of all replicas.

    A one-hot dimension, `[S, B, D, K]`, is permuted as a whole.
    """
    # The seed of the first replica, so that all replicas permute alike.
    seed = replicas.gather(tf.convert_to_tensor(seed)[tf.newaxis])[0]
    whole = replicas.gather(z, axis=1)
    rows = tf.broadcast_to(tf.range(tf.shape(whole)[1])[:, tf.newaxis], tf.shape(whole)[:3])
    rows = tf.ensure_shape(rows, whole.shape[:3])
    columns = tf.linalg.matrix_transpose(adversaries.permute_dimensions(rows, seed))  # [S, D, B]
    others = range(3, whole.shape.rank)
    permuted = tf.gather(tf.transpose(whole, [0, 2, 1, *others]), columns, axis=2, batch_dims=2)
    permuted = tf.transpose(permuted, [0, 2, 1, *others])
    return tf.gather(permuted, replicas.gathered_rows(tf.shape(z)[1]), axis=1)
