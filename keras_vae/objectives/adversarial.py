"""Any objective combined with a discriminator of its reconstructions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_vae import adversaries
from keras_vae.controllers import ScheduledValue
from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.objectives.adversary import AroundObjective, Verdict
from keras_vae.objectives.base import Objective, draws_of
from keras_vae.objectives.perceptual import PerceptualDistance
from keras_vae.schedules import Piecewise
from keras_vae.terms import Draws, Path, Terms
from keras_vae.training import losses
from keras_vae.training.replicas import global_batch_size, sum_over_replicas


@serializable
class Adversarial(AroundObjective):
    """Any objective plus a discriminator that its reconstructions have to deceive.

    loss = objective + weight lambda G(x') + perceptual_weight sum_l mean (phi_l(x) - phi_l(x'))^2
    loss of the discriminator = D(x, x') + r1 ||grad_x D(x)||^2 / 2 + lecam R_LC

    x' is the mean of p(x|z), z ~ q(z|x). With `ELBO(beta=1e-6)`, a Laplace likelihood and a
    `PatchDiscriminator`, this is the autoencoder of latent diffusion models; with the objective of
    a `VQVAE`, it is VQGAN. For a logit D(x), G and D are:

    - `"hinge"`: G = -D(x'), D = [(1 - D(x))_+ + (1 + D(x'))_+] / 2;
    - `"non_saturating"`: G = softplus(-D(x')), D = softplus(-D(x)) + softplus(D(x'));
    - `"least_squares"`: G = (D(x') - 1)^2 / 2, D = [(D(x) - 1)^2 + D(x')^2] / 2.

    G is of order one, whereas an objective is a sum over pixels, hundreds of nats. `adaptive=True`
    finds the weight at which the two pull equally at the decoder's last kernel W,
    λ = clip(||grad_W objective|| / (||grad_W G|| + 1e-4), 0, 1e4), using the gradients of the whole
    batch on all replicas. This runs the decoder once more; without it, λ is 1. On several replicas,
    XLA cannot compile it, as XLA does not support sums over replicas.

    The discriminator is the part `"discriminator"` of the model: `optimizers.by_part` gives it its
    own optimizer, pace and start. Each step updates all parts at once, with gradients of the same
    forward pass. In the logs, `elbo`, `reconstruction` and `kl` are those of the pixel model. The
    logs also hold `adversarial`, which is G; `adversarial_weight`, its weight in the loss;
    `discriminator_loss`, with its two terms `discriminator_real` and `discriminator_fake`;
    `discriminator_accuracy`; and, with a perceptual network, `perceptual`.

    Args:
        objective: The objective, such as `ELBO()` or `GECO(...)`, without a discriminator.
        discriminator: Any Keras layer or model from images, as the encoder sees them, to logits,
            such as `networks.PatchDiscriminator()`.
        loss: `"hinge"`, `"non_saturating"` or `"least_squares"`.
        weight: Weight >= 0 of G, drivable as `"weight"`.
        adaptive: Whether the weight is multiplied by λ, which is that of the whole batch, whatever
            the weights of its examples.
        perceptual: φ, any Keras model, or a list of layers of one model, whose outputs are the φ_l,
            or None. Its weights are frozen, and the gradient flows through it to x'.
        perceptual_weight: Weight >= 0 of the distance between features, drivable by its name.
        weight_start: Number of the optimizer step before which the weight of G is 0.
        r1: Weight >= 0 of R1, drivable as `"r1"` if > 0.
        lecam: Weight >= 0 of the LeCam regularization, drivable as `"lecam"` if > 0:
            R_LC = (D(x) - a')^2 + (D(x') - a)^2, a and a' moving averages (decay 0.99) of D at data
            and at reconstructions.
        **kwargs: Passed on to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is not as above; when the objective is given to a model, if the
            discriminator does not accept the model's data, or `adaptive` finds no kernel in its
            decoder.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Laplace((8, 8, 1)),
        ...     objective=Adversarial(kv.objectives.ELBO(), kv.networks.PatchDiscriminator((4,))))
        >>> adam = {part: keras.optimizers.Adam(1e-3) for part in ("default", "discriminator")}
        >>> model.compile(kv.optimizers.by_part(model, **adam, start={"discriminator": 2}))
        >>> history = model.fit(tf.zeros([64, 8, 8, 1]), verbose=0)
        >>> sorted(history.history)[:4]
        ['adversarial', 'adversarial_weight', 'discriminator_accuracy', 'discriminator_fake']

    References:
        Esser et al., 2021, section 3.1 and eq. 7, arXiv:2012.09841 (VQGAN, the adaptive weight);
        Rombach et al., 2022, appendix G, arXiv:2112.10752; Mescheder et al., 2018, eq. 9,
        arXiv:1801.04406 (R1); Tseng et al., 2021, eq. 5, arXiv:2104.03310 (LeCam).
    """

    def __init__(
        self,
        objective: Objective,
        discriminator: keras.layers.Layer,
        loss: str = "hinge",
        weight: float = 1.0,
        adaptive: bool = False,
        perceptual: Any = None,
        *,
        perceptual_weight: float = 1.0,
        weight_start: int = 0,
        r1: float = 0.0,
        lecam: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(objective, discriminator, loss, r1, lecam, **kwargs)
        self._initial_weight = checks.number("weight", weight, minimum=0.0)
        self.weight = self.add_hyperparameter("weight", self._initial_weight)
        self.adaptive = checks.flag("adaptive", adaptive)
        self.measure_names = (*self.measure_names, "adversarial_weight")
        self.weight_start = checks.integer("weight_start", weight_start, minimum=0)
        if self.weight_start:
            self._started = self.add_state("adversarial_started")
            start = Piecewise([self.weight_start], [0.0, 1.0])
            rule = ScheduledValue("adversarial_started", self._started, start)
            self.controllers = (*self.controllers, rule)
        self._initial_perceptual_weight = checks.number(
            "perceptual_weight", perceptual_weight, minimum=0.0
        )
        self._distance = None if perceptual is None else PerceptualDistance(perceptual)
        if self._distance is not None:
            value = self._initial_perceptual_weight
            self.perceptual_weight = self.add_hyperparameter("perceptual_weight", value)
            self.measure_names = (*self.measure_names, "perceptual")
        self._kernel: Callable[[], keras.Variable] | None = None

    def build_for(self, model: Any) -> None:
        if self._distance is not None:
            layers = model._flatten_layers(include_self=False, recursive=False)
            learning = [layer for layer in layers if layer is not model.objective]
            self._distance.check_apart(self.discriminator, *learning)
        super().build_for(model)
        if self._distance is not None:
            self._distance.build_network(self.judged_shape(model))
        if self.adaptive:
            kernel = _last_kernel(model.trainable_parts.get("decoder", []))
            self._kernel = lambda: kernel  # Not an attribute, which would be saved twice.

    def added(self, terms: Terms) -> tuple[tf.Tensor, Verdict, dict[str, tf.Tensor]]:
        draws, dtype = draws_of(terms, "Adversarial"), terms.log_p_x.dtype
        x, fakes = self.scaled(draws.x), self.scaled(draws.p_x.mean())
        verdict = self.judge(x[tf.newaxis], [fakes], dtype, draws.training)
        weight = self._weight(terms, dtype)
        added = weight * verdict.adversarial
        measures = {"adversarial_weight": weight + tf.zeros_like(verdict.adversarial)}
        if self._distance is not None:
            measures["perceptual"] = self._perceptual(x, fakes)
            added += tf.cast(self.perceptual_weight, dtype) * measures["perceptual"]
        return added, verdict, measures

    def _perceptual(self, x: tf.Tensor, fakes: tf.Tensor) -> tf.Tensor:
        """Returns the distance between the features, `[B]`."""
        assert self._distance is not None
        return tf.reduce_mean(self._distance(x, fakes), axis=0)

    def _weight(self, terms: Terms, dtype: tf.DType) -> tf.Tensor:
        """Returns the weight of G in the loss, a scalar without gradient."""
        weight = tf.cast(self.weight, dtype)
        if self.weight_start:
            weight *= tf.cast(self._started, dtype)
        return weight * self._balance(terms) if self.adaptive else weight

    def _balance(self, terms: Terms) -> tf.Tensor:
        """Returns λ for the whole batch on all replicas: a scalar."""
        if self._kernel is None:
            rule = "must be False: the objective belongs to no model whose decoder it knows"
            raise checks.invalid("adaptive", rule, True)
        kernel, draws = self._kernel(), draws_of(terms, "Adversarial")
        size = global_batch_size(draws.x)
        with tf.GradientTape(persistent=True) as tape:
            pair = self._losses_of_decoder(terms, draws)
            totals = [tf.reduce_sum(loss) / tf.cast(size, loss.dtype) for loss in pair]
        slopes = [tf.cast(tape.gradient(total, kernel), total.dtype) for total in totals]
        return adversaries.adaptive_weight(*sum_over_replicas(slopes))

    def _losses_of_decoder(self, terms: Terms, draws: Draws) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the losses `[B]` that depend on W, by running the decoder once more."""
        z = tf.stop_gradient(draws.z)
        p_x = draws.likelihood(z)
        held = draws._replace(z=z, p_x=p_x, path=Path(), rescore=lambda terms: terms)
        found, _ = self.objective.loss_and_measures(
            terms._replace(log_p_x=p_x.log_prob(draws.x), draws=held)
        )
        makers = losses.by_part(found, self.objective.loss_parts)
        reconstruction = makers.get("decoder", makers[""])
        x, fakes = self.scaled(draws.x), self.scaled(p_x.mean())
        if self._distance is not None:
            weight = tf.cast(self.perceptual_weight, reconstruction.dtype)
            reconstruction += weight * self._perceptual(x, fakes)
        logits = self.look(fakes, reconstruction.dtype, draws.training)
        deceived = adversaries.generator_loss(logits, self.kind)
        return reconstruction, tf.reduce_mean(deceived, axis=[0, 2])

    def get_config(self) -> dict[str, Any]:
        distance = self._distance
        network = distance and keras.saving.serialize_keras_object(distance.network)
        return {
            **super().get_config(),
            "weight": self._initial_weight,
            "adaptive": self.adaptive,
            "perceptual": network,
            "perceptual_weight": self._initial_perceptual_weight,
            "weight_start": self.weight_start,
        }


def _last_kernel(variables: Sequence[keras.Variable]) -> keras.Variable:
    """Returns the last kernel of a decoder, or raises."""
    kernels = [variable for variable in variables if variable.name.endswith("kernel")]
    if not kernels:
        rule = "must be False for a model without a decoder whose last kernel it could look at"
        raise checks.invalid("adaptive", rule, True)
    return kernels[-1]
