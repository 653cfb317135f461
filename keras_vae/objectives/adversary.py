"""What objectives with a discriminator have in common."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_vae import adversaries
from keras_vae.controllers import MovingAverage
from keras_vae.core import checks
from keras_vae.core.freezing import freeze_inside
from keras_vae.objectives.base import Objective
from keras_vae.terms import Terms
from keras_vae.training import losses

PART = "discriminator"
LECAM_DECAY = 0.99
_OUTPUTS = ("discriminator_real_output", "discriminator_fake_output")


class Verdict(NamedTuple):
    """What a discriminator makes of a batch.

    Attributes:
        adversarial: The loss of the networks that make the fakes, `[B]`, summed over the kinds of
            fakes.
        loss: The loss of the discriminator, `[B]`, including its regularization.
        measures: What goes to the logs, `[B]` each.
    """

    adversarial: tf.Tensor
    loss: tf.Tensor
    measures: dict[str, tf.Tensor]


class Adversary(Objective):
    """Base class of objectives with a discriminator, which is a separate part of the model.

    The part is named `"discriminator"`. Its loss reaches no other part, and the losses of the other
    parts do not reach it. The logs hold

    - `adversarial`: the loss of the networks that make the fakes, before any weighting;
    - `discriminator_loss`: the loss of the discriminator;
    - `discriminator_real` and `discriminator_fake`: its terms on the data and on the fakes, the
      latter a mean over the kinds of fakes;
    - `discriminator_accuracy`: how often it is right, with data and fakes counting one half each.

    Args:
        discriminator: Any Keras layer or model from the examples to judge, `[N, ...]`, to logits
            `[N, ...]`. If there are several logits per example, their losses are averaged.
        loss: One of `adversaries.LOSSES`.
        num_samples: Number S of samples of z for every x.
        r1: Weight >= 0 of R1, the penalty of the slope at the data; drivable as `"r1"` if > 0.
        lecam: Weight >= 0 of the LeCam regularization; drivable as `"lecam"` if > 0.
        **kwargs: Passed on to `keras.layers.Layer`.
    """

    loss_parts: tuple[str, ...] = (PART,)
    measure_names: tuple[str, ...] = (
        "adversarial",
        "discriminator_loss",
        "discriminator_real",
        "discriminator_fake",
        "discriminator_accuracy",
    )

    def __init__(
        self,
        discriminator: keras.layers.Layer,
        loss: str,
        num_samples: int,
        r1: float = 0.0,
        lecam: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(num_samples=num_samples, **kwargs)
        if not isinstance(discriminator, keras.layers.Layer):
            raise checks.invalid("discriminator", "must be a Keras layer or model", discriminator)
        self.discriminator = discriminator
        self.kind = checks.option("loss", loss, adversaries.LOSSES)
        self._initial_r1 = checks.number("r1", r1, minimum=0.0)
        self._initial_lecam = checks.number("lecam", lecam, minimum=0.0)
        self._scale: Callable[[tf.Tensor], tf.Tensor] | None = None
        if self._initial_r1 > 0.0:
            self.r1 = self.add_hyperparameter("r1", self._initial_r1)
        if self._initial_lecam > 0.0:
            self.lecam = self.add_hyperparameter("lecam", self._initial_lecam)
            self._averages = [self._average(output) for output in _OUTPUTS]
            self.measure_names = (*self.measure_names, *_OUTPUTS)
            self.controllers = tuple(self._averages)

    def _average(self, output: str) -> MovingAverage:
        """Returns the rule for the moving average of D at data or at fakes."""
        states = self.add_state(f"{output}_average"), self.add_state(f"{output}_seen")
        return MovingAverage(f"{output}_average", *states, measure=output, decay=LECAM_DECAY)

    @property
    def parts(self) -> Mapping[str, Sequence[keras.layers.Layer]]:
        return {PART: (self.discriminator,)}

    def judged_shape(self, model: Any) -> tuple[int, ...] | None:
        """Returns the shape of one example to judge, here x; None if it is not known."""
        head = getattr(model, "likelihood_head", None)
        return None if head is None else head.event_shape

    def build_for(self, model: Any) -> None:
        """Builds the discriminator.

        Raises:
            ValueError: If it does not accept the examples it is to judge, assigns its kernels in
                the forward pass, or has batch statistics, which replicas would not share.
        """
        logits = _build(self.discriminator, self.judged_shape(model))
        if logits is not None:
            self.check_logits(tuple(logits.shape[1:]))
        freeze_inside(self)
        _check_kernels_stay(self.discriminator)
        if model.distribute_strategy.num_replicas_in_sync > 1:
            _check_no_batch_statistics(self.discriminator)
        self._scale = getattr(getattr(model, "likelihood_head", None), "encoder_input", None)

    def check_logits(self, shape: tuple[int | None, ...]) -> None:
        """Raises a `ValueError` unless logits of one example may have this shape; here, any."""

    def scaled(self, x: tf.Tensor) -> tf.Tensor:
        """Returns data or fakes in the range that the networks of the model see."""
        return x if self._scale is None else self._scale(x)

    # What the discriminator says.

    def judge(
        self, real: tf.Tensor, fakes: Sequence[tf.Tensor], dtype: tf.DType, training: bool
    ) -> Verdict:
        """Returns the verdict of the discriminator on data and fakes.

        Args:
            real: Data, `[S, B, ...]`.
            fakes: Kinds of fakes, `[S, B, ...]` each.
            dtype: The dtype of the losses.
            training: Whether the discriminator runs in training mode.
        """
        network = functools.partial(self.discriminator, training=training)
        on_real, *on_fakes = self.see(network, [real, *fakes], dtype)
        return self.verdict(on_real, on_fakes, self.slope(real, dtype, training))

    def look(self, examples: tf.Tensor, dtype: tf.DType, training: bool) -> tf.Tensor:
        """Returns the logits `[S, B, P]` of examples `[S, B, ...]`."""
        network = functools.partial(self.discriminator, training=training)
        return self.see(network, [examples], dtype)[0]

    def see(
        self, network: Callable[[tf.Tensor], Any], kinds: Sequence[tf.Tensor], dtype: tf.DType
    ) -> list[Any]:
        """Returns what a network makes of each kind of example.

        Each kind is a batch of its own, through which gradients pass only where they are needed. A
        discriminator that does work once per call, such as normalizing its kernels, sees all kinds
        in one batch.

        Args:
            network: The discriminator, or a function of its layers, of examples `[N, ...]`.
            kinds: Kinds of examples, `[S, B, ...]` each.
            dtype: The dtype of the losses.

        Returns:
            For each kind, what the network returns, nested or not, as `[S, B, P]`.
        """
        rows = [merged(examples) for examples in kinds]
        if getattr(self.discriminator, "works_once_per_call", False):
            sizes, both = [tf.shape(one)[0] for one in rows], network(tf.concat(rows, axis=0))
            leaves = [tf.split(leaf, sizes) for leaf in tf.nest.flatten(both)]
            found = [tf.nest.pack_sequence_as(both, own) for own in zip(*leaves, strict=True)]
        else:
            found = [network(one) for one in rows]

        def split_like(examples: tf.Tensor, own: Any) -> Any:
            return tf.nest.map_structure(lambda v: split(tf.cast(v, dtype), examples), own)

        return list(map(split_like, kinds, found))

    def slope(self, real: tf.Tensor, dtype: tf.DType, training: bool) -> tf.Tensor | None:
        """Returns R1 at data `[S, B, ...]` as `[B]`, or None if it has no weight."""
        if self._initial_r1 == 0.0:
            return None
        look = functools.partial(self.look, dtype=dtype, training=training)
        penalty = adversaries.gradient_penalty(look, real, batch_dims=2)
        return tf.reduce_mean(penalty, axis=0)

    def verdict(
        self, real: tf.Tensor, fakes: Sequence[tf.Tensor], slope: tf.Tensor | None
    ) -> Verdict:
        """Returns the verdict, given logits `[S, B, P]` of the data and of each kind of fake."""
        terms = [self.discriminator_terms(real, fake) for fake in fakes]
        right = [adversaries.accuracy(real, fake, self.kind) for fake in fakes]
        on_real, on_fakes = _means(terms[0][0]), [_means(fake) for _, fake in terms]
        values = (
            self.maker_loss(real, fakes),
            on_real + tf.add_n(on_fakes) + self._regularization(real, fakes, slope),
            on_real,
            tf.add_n(on_fakes) / len(fakes),
            0.5 * (_means(right[0][0]) + _mean_of([fake for _, fake in right])),
        )
        measures = dict(zip(Adversary.measure_names, values, strict=True))
        if self._initial_lecam > 0.0:
            measures |= dict(zip(_OUTPUTS, (_means(real), _mean_of(fakes)), strict=True))
        return Verdict(measures["adversarial"], measures["discriminator_loss"], measures)

    def _regularization(
        self, real: tf.Tensor, fakes: Sequence[tf.Tensor], slope: tf.Tensor | None
    ) -> tf.Tensor:
        """Returns what the discriminator's loss contains besides its two terms, `[B]`."""
        total = tf.zeros_like(real[0, :, 0])
        if slope is not None:
            total += tf.cast(self.r1, total.dtype) * tf.cast(slope, total.dtype)
        if self._initial_lecam > 0.0:
            total += tf.cast(self.lecam, total.dtype) * self._lecam(real, fakes)
        return total

    def discriminator_terms(self, real: tf.Tensor, fake: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the two terms of the discriminator's loss, given logits `[S, B, P]`."""
        return adversaries.discriminator_losses(real, fake, self.kind)

    def maker_loss(self, real: tf.Tensor, fakes: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns the loss `[B]` of the networks that make the fakes, given logits `[S, B, P]`."""
        deceived = [adversaries.generator_loss(fake, self.kind) for fake in fakes]
        return tf.add_n([_means(loss) for loss in deceived])

    def _lecam(self, real: tf.Tensor, fakes: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns the LeCam regularization, `[B]`; zero until there are averages."""
        averages = [tf.cast(rule.variable, real.dtype) for rule in self._averages]
        terms = [adversaries.lecam(real, fake, *averages) for fake in fakes]
        total = _means(terms[0][0]) + _mean_of([fake for _, fake in terms])
        return tf.cast(self._averages[0].seen, real.dtype) * total

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "discriminator": keras.saving.serialize_keras_object(self.discriminator),
            "loss": self.kind,
            "r1": self._initial_r1,
            "lecam": self._initial_lecam,
        }


class AroundObjective(Adversary):
    """Base class of objectives that add a discriminator's term to the loss of another objective.

    Args:
        objective: The other objective.
        discriminator: As for `Adversary`.
        loss: As for `Adversary`.
        r1: As for `Adversary`.
        lecam: As for `Adversary`.
        **kwargs: Passed on to `keras.layers.Layer`.
    """

    def __init__(
        self,
        objective: Objective,
        discriminator: keras.layers.Layer,
        loss: str,
        r1: float = 0.0,
        lecam: float = 0.0,
        **kwargs: Any,
    ):
        _check_objective(objective)
        super().__init__(discriminator, loss, objective.num_samples, r1, lecam, **kwargs)
        self.objective = objective
        self.computes_with_z = self.computes_with_z or objective.computes_with_z
        self.matches_prior = self.matches_prior or objective.matches_prior
        self.loss_parts = (*objective.loss_parts, PART)
        self.measure_names = (*objective.measure_names, *self.measure_names)
        self.controllers = (*objective.controllers, *self.controllers)

    @property
    def parts(self) -> Mapping[str, Sequence[keras.layers.Layer]]:
        return {**self.objective.parts, **super().parts}

    @property
    def kl_weight(self) -> float | None:
        return self.objective.kl_weight

    def build_for(self, model: Any) -> None:
        self.objective.build_for(model)
        super().build_for(model)

    def check_trainable(self, model: Any) -> None:
        self.objective.check_trainable(model)

    def loss(self, terms: Terms) -> dict[str, tf.Tensor]:
        return self.loss_and_measures(terms)[0]

    def loss_and_measures(self, terms: Terms) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        found, measures = self.objective.loss_and_measures(terms)
        added, verdict, more = self.added(terms)
        makers = losses.by_part(found, self.objective.loss_parts)
        totals = {part: loss + added for part, loss in makers.items()}
        return {**totals, PART: verdict.loss}, {**measures, **verdict.measures, **more}

    def added(self, terms: Terms) -> tuple[tf.Tensor, Verdict, dict[str, tf.Tensor]]:
        """Returns what is added to the losses, `[B]`, the verdict, and further measures."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {**config, "objective": keras.saving.serialize_keras_object(self.objective)}


def merged(examples: tf.Tensor) -> tf.Tensor:
    """Returns examples `[S, B, ...]` as `[S B, ...]`."""
    return tf.reshape(examples, [-1, *examples.shape[2:]])


def split(values: tf.Tensor, examples: tf.Tensor) -> tf.Tensor:
    """Returns what a network makes of merged examples, `[S B, ...]`, as `[S, B, P]`."""
    size, leading = math.prod(values.shape[1:]), tf.shape(examples)[:2]
    return tf.ensure_shape(
        tf.reshape(values, tf.concat([leading, [size]], axis=0)), [*examples.shape[:2], size]
    )


def _means(values: tf.Tensor) -> tf.Tensor:
    """Returns the means over samples and logits `[B]` of values `[S, B, P]`."""
    return tf.reduce_mean(values, axis=[0, 2])


def _mean_of(kinds: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the mean over kinds of fakes of means `[B]`."""
    return tf.add_n([_means(values) for values in kinds]) / len(kinds)


def _build(discriminator: keras.layers.Layer, shape: tuple[int, ...] | None) -> Any:
    """Builds a discriminator and returns its symbolic logits, or None if no shape is known."""
    if shape is None:
        if not discriminator.built:
            rule = "must be built, as the model does not say the shape of its data"
            raise checks.invalid(PART, rule, discriminator)
        return None
    outputs = keras.tree.flatten(checks.output_of(PART, discriminator, (None, *shape)))
    if len(outputs) != 1:
        rule = "must return a single tensor of logits"
        raise checks.invalid(PART, rule, f"{discriminator!r}, which returns {len(outputs)}")
    return outputs[0]


def _check_kernels_stay(discriminator: keras.layers.Layer) -> None:
    for layer in discriminator._flatten_layers():
        if isinstance(layer, keras.layers.SpectralNormalization):
            rule = (
                "must have no keras.layers.SpectralNormalization, which assigns the kernel in the "
                "forward pass, also of steps that are not made: use networks.SpectralNormalization"
            )
            raise checks.invalid("discriminator", rule, layer.name)


def _check_no_batch_statistics(discriminator: keras.layers.Layer) -> None:
    for layer in discriminator._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization) and not layer.synchronized:
            rule = (
                "must have no BatchNormalization on several replicas, each of which would have its "
                "own statistics: use GroupNormalization, or synchronized=True"
            )
            raise checks.invalid("discriminator", rule, layer.name)


def _check_objective(objective: Any) -> None:
    checks.instance("objective", objective, Objective)
    if PART in objective.loss_parts:
        rule = "must have no discriminator itself"
        raise checks.invalid("objective", rule, type(objective).__name__)
    estimator = getattr(getattr(objective, "estimator", None), "name", None)
    if not objective.pathwise or estimator == "doubly_reparameterized":
        # The former blocks the gradient through z and the latter scales it, for every loss.
        rule = "must let the gradient of z pass as it is: estimator='reparameterized'"
        raise checks.invalid("objective", rule, f"estimator={estimator!r}")
