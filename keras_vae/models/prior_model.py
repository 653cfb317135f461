"""A prior over codes as a model that is trained by `fit`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.core.freezing import freeze_inside
from keras_vae.core.head import serializable
from keras_vae.core.seeds import fold, purpose, seed_tensor
from keras_vae.distributions.codes import CodeGroups
from keras_vae.models import generation
from keras_vae.models.base import LatentVariableModel
from keras_vae.models.labels import Labels, NoLabels
from keras_vae.models.parts import serialized, trainable_of
from keras_vae.priors import CodePrior
from keras_vae.terms import Latents, Terms
from keras_vae.training.support import inside

tfd = tfp.distributions


@serializable
class PriorModel(LatentVariableModel):
    """A prior over codes as a model of codes, trained by maximum likelihood.

    loss = -log p(codes)

    Its data are codes: integers `[B, N]`, as returned by `model.codes(x)` or
    `evaluation.encode_codes`. There are no latent variables, so the ELBO is log p(codes) itself and
    the KL is zero. The logs also hold `nats_per_code` and `bits_per_dim`, which here is bits per
    code. The constructor builds the model. Called on codes, the model returns their
    log-probabilities.

    The given `prior` itself is trained: after `fit`, `model.with_prior(prior)` is a model that has
    learned which codes occur where.

    Args:
        prior: Prior over codes, one of `keras_vae.priors`, such as a `PixelCNN`.
        condition: For p(codes|y), the number of classes of integer labels y, or a Keras model with
            a known input shape from y to features `[B, C]`; None for p(codes).
        seed: Seed of the model, an integer >= 0.
        **kwargs: Passed on to `keras.Model`, such as `name`.

    Raises:
        ValueError: If an argument is not as above, or the prior was built for another condition.

    Example:
        >>> import keras_vae as kv
        >>> prior = kv.priors.PixelCNN((2, 2), num_codes=8, filters=16, num_layers=2)
        >>> model = kv.PriorModel(prior)
        >>> model.compile("adam")
        >>> history = model.fit(tf.zeros([64, 4], tf.int32), epochs=1, verbose=0)
        >>> sorted(history.history)
        ['bits_per_dim', 'elbo', 'kl', 'loss', 'nats_per_code', 'reconstruction']
        >>> model.sample(3, seed=1).shape
        TensorShape([3, 4])

    References:
        van den Oord et al., 2017, section 3.3, arXiv:1711.00937; Razavi et al., 2019, algorithm 2,
        arXiv:1906.00446.
    """

    measure_names = ("nats_per_code",)

    def __init__(
        self,
        prior: CodePrior,
        condition: int | keras.layers.Layer | None = None,
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(seed=seed, **kwargs)
        self.prior_head = checks.instance("prior", prior, CodePrior)
        self.labels = NoLabels()
        if condition is not None:
            self.labels = Labels(condition, prior.density_dtype)
        self.condition = getattr(self.labels, "layer", None)
        prior.build_for("prior", self.labels.features_shape)
        freeze_inside(self)
        self.build((None, prior.groups.size))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Lets Keras record the shape of the codes; the constructor has already built the prior."""
        self.built = True

    @property
    def trainable_parts(self) -> dict[str, list[keras.Variable]]:
        given = () if self.condition is None else (self.condition,)
        return trainable_of(condition=given, prior=(self.prior_head,), **self.objective.parts)

    @property
    def latents(self) -> Latents:
        """Empty, as there are no latent variables: the codes are the data."""
        return {}

    @property
    def discrete_dimensions(self) -> int:
        """Number N of codes, so that `bits_per_dim` appears in the logs."""
        return self.prior_head.groups.size

    # Data.

    def standardize(self, x: Any, y: Any = None) -> tuple[tf.Tensor, Any]:
        """Turns codes `[B, N]`, and labels for a condition, into floating-point tensors.

        Raises:
            ValueError: If a dtype, a rank or a shape does not fit.
        """
        x = self._codes(x)
        return x, self.labels.standardize(y, x.shape[0])

    def _codes(self, x: Any) -> tf.Tensor:
        x, size = tf.convert_to_tensor(x), self.prior_head.groups.size
        if not (x.dtype.is_integer or x.dtype.is_floating):
            raise checks.invalid("x", "must hold codes, which are whole numbers", x.dtype.name)
        if not x.shape.is_compatible_with([None, size]):
            rule = f"must hold codes of shape [batch, {size}], the maps one after another"
            raise ValueError(f"Argument `x` {rule}. Received: shape={tuple(x.shape)}")
        # As floats, like all data of models; floats represent every code exactly.
        return self.prior_head.to_density(tf.ensure_shape(x, [None, size]))

    def check_support(self, x: tf.Tensor, y: Any = None) -> tuple[tf.Tensor, Any]:
        """Returns standardized data; using it raises a `ValueError` if a code does not exist."""
        support = CodeSupport(self.prior_head.groups)
        rule = f"must be {support}, the codes of {type(self.prior_head).__name__}"
        return inside(support, "x", rule, x), self.labels.supported(y)

    # Densities and draws.

    def prior(self, y: Any = None) -> tfd.Distribution:
        """Returns p(codes): a distribution with event [N] and batch [], or [B] given labels."""
        return self._prior(self.labels.standardize(y))

    def _prior(self, y: Any, training: bool = False) -> tfd.Distribution:
        condition = self.labels.features(y, training)
        return self.prior_head(condition=condition, training=training)

    def compute_terms(
        self,
        x: tf.Tensor,
        num_samples: int = 1,
        training: bool = False,
        seed: int | tf.Tensor = 0,
        y: Any = None,
    ) -> Terms:
        """Returns the terms of standardized codes: log p(codes), and zeros."""
        log_p = self._prior(y, training).log_prob(x)  # [B]
        repeated = tf.broadcast_to(log_p, [num_samples, tf.shape(log_p)[0]])
        zeros = tf.zeros_like(repeated)
        each = {"nats_per_code": -log_p / self.prior_head.groups.size}
        return Terms(repeated, zeros, zeros, kl=tf.zeros_like(log_p)[:, tf.newaxis], measured=each)

    def weighting(self, x: tf.Tensor, y: Any = None) -> Callable[[Any, tf.Tensor], tf.Tensor]:
        log_w = self.compute_terms(x, y=y).log_w  # [1, B]
        return lambda size, seed: tf.repeat(log_w, size, axis=0)

    def call(self, x: tf.Tensor, y: Any = None, training: bool = False) -> tf.Tensor:
        """Returns log p(codes) `[B]` in nats, for codes as `fit` takes them."""
        x, y = self.standardize(x, y)
        return self._prior(y, training).log_prob(x)

    def sample(
        self,
        num_samples: int,
        seed: int | tf.Tensor = 0,
        y: Any = None,
        *,
        temperature: float | Mapping[str, float] = 1.0,
        given: Mapping[str, Any] | None = None,
    ) -> tf.Tensor:
        """Draws codes.

        Args:
            num_samples: Number M of draws.
            seed: Integer >= 0 or stateless seed `[2]`; the same seed gives the same draws.
            y: Labels `[M]`, or one for all, for a model with a condition.
            temperature: What the logits of every code are divided by, >= 0; at 0, the most probable
                codes are taken. A single number, or numbers for some of the maps, by name.
            given: Maps of codes by name (`prior.latents`), each `[M, *shape]`, or `[*shape]` for
                all draws.

        Returns:
            Tensor `[M, N]` of int32.

        Raises:
            ValueError: If an argument is not as above, or the prior has no temperature or cannot
                draw some maps alone.
        """
        if not isinstance(num_samples, tf.Tensor):
            num_samples = checks.count("num_samples", num_samples)
        y = self.labels.of_draws(y, num_samples)
        seed = fold(seed_tensor(seed), purpose("z"))
        latents = self.prior_head.latents
        return generation.draw_latents(
            self._prior(y), latents, num_samples, seed, temperature, given
        )

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), **serialized(self, "prior", "condition")}
        del config["objective"]  # always the ELBO, which is the likelihood here
        return config


@dataclasses.dataclass(frozen=True)
class CodeSupport:
    """The codes that are valid, in maps that may differ in their number of codes.

    Args:
        groups: The layout of the codes.

    Example:
        >>> print(CodeSupport(CodeGroups.of(((1,), (2,)), (8, 16))))
        whole numbers in [0, 7] and, map by map, [0, 15]
    """

    groups: CodeGroups

    def __str__(self) -> str:
        """Completes the sentence "x must be ..."."""
        ranges = [f"[0, {count - 1}]" for count in dict.fromkeys(self.groups.num_codes)]
        return f"whole numbers in {' and, map by map, '.join(ranges)}"

    def contains(self, x: tf.Tensor) -> tf.Tensor:
        """Returns whether every element of codes `[..., N]` is a valid code: a boolean scalar."""
        return tf.reduce_all(self.holds(x))

    def holds(self, x: tf.Tensor) -> tf.Tensor:
        """Returns for every element of codes `[..., N]` whether it is a valid code; NaN is not."""
        return (x >= 0) & (x < tf.cast(self.groups.counts, x.dtype)) & tf.equal(x, tf.round(x))
