"""The objective of VAE-GAN: a reconstruction in the eyes of a discriminator."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.core.seeds import fold, purpose, seed_tensor
from keras_vae.objectives.adversary import PART, Adversary
from keras_vae.objectives.base import draws_of, draws_of_prior
from keras_vae.terms import Terms

_LOG_2_PI = math.log(2.0 * math.pi)


@serializable
class LearnedSimilarity(Adversary):
    """The KL plus the reconstruction of a discriminator's features in place of pixels (VAE-GAN).

    similarity = E_q[-log N(f(x); f(x'), I)],  f a hidden layer of the discriminator
    loss = beta KL(q(z|x) || p(z)) + similarity                         of encoder and prior
    loss of the decoder = beta KL(q(z|x) || p(z)) + gamma similarity + G(x') + G(x_p)
    loss of the discriminator = D(x, x', x_p),  x_p decoded from z ~ p(z)

    x' and x_p are means of p(x|z). With `"non_saturating"`, G(x') = softplus(-D(x')) and
    D = softplus(-D(x)) + softplus(D(x')) + softplus(D(x_p)); the other losses are those of
    `Adversarial`. The discriminator learns from D alone, because features in which all images are
    alike would make the similarity small. The KL moves only a decoder that shares weights with the
    prior, as that of a `HierarchicalVAE` does. For G, the paper's decoder minimizes
    -softplus(D(x')), which has the same fixed points but a gradient that vanishes where the
    discriminator wins.

    The logs hold `feature_reconstruction`, the similarity in nats; `adversarial`, G(x') + G(x_p);
    `discriminator_loss` and its terms, `discriminator_real` and `discriminator_fake` (the mean over
    the two kinds of fakes); and `discriminator_accuracy`. `elbo`, `reconstruction` and `kl` are
    those of the pixel model, which nothing here fits: -log p(x|z) of its likelihood is only
    measured.

    Args:
        discriminator: A discriminator of images, as the encoder sees them: one of
            `keras_vae.networks`, whose features are those of its last convolution, or a functional
            or sequential Keras model.
        gamma: γ >= 0, the weight of the similarity against G for the decoder, drivable as
            `"gamma"`. The default suits features of spectrally normalized layers; those after a
            group normalization differ more and call for a smaller γ.
        beta: Weight β >= 0 of the KL, drivable as `"beta"`.
        loss: `"hinge"`, `"non_saturating"` or `"least_squares"`.
        feature_layer: Name of the layer of the discriminator whose output is f; by default, the
            last convolution for those of `keras_vae.networks`, and the last layer but one for
            others.
        num_samples: Number S of samples of z for every x.
        r1: Weight >= 0 of R1, the penalty of the slope at the data; drivable as `"r1"` if > 0.
        lecam: Weight >= 0 of the LeCam regularization; drivable as `"lecam"` if > 0.
        **kwargs: Passed on to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is not as above; when the objective is given to a model, if the
            discriminator does not accept the model's data or has no such layer, or the likelihood
            learns a scale.

    Example:
        >>> objective = LearnedSimilarity(keras.Sequential(
        ...     [keras.layers.Flatten(), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)]))
        >>> objective.loss_parts
        ('decoder', 'discriminator')

    References:
        Larsen et al., 2016, eq. 8 and algorithm 1, arXiv:1512.09300.
    """

    loss_parts = ("decoder", PART)
    measure_names = ("feature_reconstruction", *Adversary.measure_names)

    def __init__(
        self,
        discriminator: keras.layers.Layer,
        gamma: float = 1.0,
        *,
        beta: float = 1.0,
        loss: str = "non_saturating",
        feature_layer: str | None = None,
        num_samples: int = 1,
        r1: float = 0.0,
        lecam: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(discriminator, loss, num_samples, r1, lecam, **kwargs)
        self._initial_gamma = checks.number("gamma", gamma, minimum=0.0)
        self._initial_beta = checks.number("beta", beta, minimum=0.0)
        self.gamma = self.add_hyperparameter("gamma", self._initial_gamma)
        self.beta = self.add_hyperparameter("beta", self._initial_beta)
        self.feature_layer = feature_layer
        self._judge: Callable[..., Any] | None = None

    def build_for(self, model: Any) -> None:
        super().build_for(model)
        learned = getattr(model, "likelihood_head", None)
        if learned is not None and learned.trainable_variables:
            rule = "must have no weights of its own, such as a learned scale: nothing trains them"
            raise checks.invalid("likelihood", rule, [v.path for v in learned.trainable_variables])
        self._judge = _with_features(self.discriminator, self.feature_layer)

    def loss(self, terms: Terms) -> dict[str, tf.Tensor]:
        return self.loss_and_measures(terms)[0]

    def loss_and_measures(self, terms: Terms) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        draws, dtype = draws_of(terms, "LearnedSimilarity"), terms.log_p_x.dtype
        x, fakes = self.scaled(draws.x)[tf.newaxis], self.scaled(draws.p_x.mean())
        z = draws_of_prior(draws, fold(seed_tensor(draws.seed), purpose("prior")))
        of_prior = self.scaled(draws.likelihood(z).mean())
        judge = functools.partial(self._checked_judge(), training=draws.training)
        seen = self.see(judge, [x, fakes, of_prior], dtype)
        (real, features), (fake, fake_features), (other, _) = seen
        verdict = self.verdict(real, [fake, other], self.slope(x, dtype, draws.training))
        similarity = _similarity(features, fake_features)
        gamma, kl = tf.cast(self.gamma, dtype), tf.cast(self.beta, dtype) * terms.kl_total
        losses = {
            "": kl + similarity,
            "decoder": kl + gamma * similarity + verdict.adversarial,
            PART: verdict.loss,
        }
        return losses, {"feature_reconstruction": similarity, **verdict.measures}

    def _checked_judge(self) -> Callable[..., Any]:
        """Returns the function of images to logits and features."""
        if self._judge is None:
            rule = "must belong to a model, which builds its discriminator"
            raise checks.invalid("objective", rule, self.name)
        return self._judge

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "gamma": self._initial_gamma,
            "beta": self._initial_beta,
            "feature_layer": self.feature_layer,
            "num_samples": self.num_samples,
        }


def _similarity(features: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Returns -log N(f; f', I) `[B]` of features `[1, B, F]` and `[S, B, F]`, nats."""
    nats = 0.5 * (tf.square(features - others) + _LOG_2_PI)
    return tf.reduce_mean(tf.reduce_sum(nats, axis=-1), axis=0)


def _with_features(discriminator: Any, name: str | None) -> Callable[..., Any]:
    """Returns the discriminator as a function of images to logits and features."""
    if hasattr(discriminator, "judge"):
        if name is not None:
            rule = "must be None for a network of keras_vae, of which f is the last convolution"
            raise checks.invalid("feature_layer", rule, name)
        return lambda images, training: discriminator.judge(images)
    try:
        last = discriminator.layers[-1].input if name is None else None
        features = last if name is None else discriminator.get_layer(name).output
        judge = keras.Model(discriminator.inputs, [discriminator.outputs[0], features])
    except (AttributeError, IndexError, ValueError) as error:
        rule = f"must name a layer of a functional or sequential discriminator: {error}"
        raise checks.invalid("feature_layer", rule, name) from error
    if any(features is image for image in discriminator.inputs):
        rule = "must name a hidden layer: what goes into the last layer is the image itself"
        raise checks.invalid("feature_layer", rule, name)
    return judge
