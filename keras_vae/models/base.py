"""The base class of all models: what a subclass must define, and what it gets in return."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.freezing import freeze_inside
from keras_vae.core.numerics import checked_tensor
from keras_vae.models.parts import trainable_of
from keras_vae.objectives import ELBO, Objective
from keras_vae.terms import Latents, Terms, event_of, join_z, split_z
from keras_vae.training.model import ObjectiveModel


class LatentVariableModel(ObjectiveModel):
    """A Keras model that is trained by an objective made of log-densities.

    A subclass defines its terms with `compute_terms`, the data it accepts with `standardize` and
    `check_support`, and what `call` returns. `fit`, `evaluate`, the metrics, the controllers,
    saving, distribution and evaluation build on these methods. Layers may be built by `build` or by
    the constructor; any others are built when the model first sees data.

    Args:
        objective: What to minimize; `ELBO()` by default.
        seed: Seed of all noise in training and evaluation, an integer >= 0.
        **kwargs: Passed on to `keras.Model`.

    Example:
        The linear model p(x|z) = N(z, 1) with the exact posterior q(z|x) = N(x / 2, 1 / 2):

        >>> import tensorflow_probability as tfp
        >>> from keras_vae.core.seeds import seed_tensor
        >>> tfd = tfp.distributions
        >>> class Linear(LatentVariableModel):
        ...     def standardize(self, x, y=None):
        ...         return tf.convert_to_tensor(x), None
        ...     def check_support(self, x, y=None):
        ...         return x, y
        ...     def compute_terms(self, x, num_samples=1, training=False, seed=0, y=None):
        ...         q, p_z = tfd.Normal(x / 2.0, 0.5**0.5), tfd.Normal(0.0, 1.0)
        ...         z = q.sample(num_samples, seed=seed_tensor(seed))
        ...         log_p_x = tfd.Normal(z, 1.0).log_prob(x)
        ...         kl = tfd.kl_divergence(q, p_z)[:, tf.newaxis]
        ...         return Terms(log_p_x, p_z.log_prob(z), q.log_prob(z), kl)
        >>> log_w = Linear().log_weights(tf.constant([0.0]), num_samples=2)
        >>> bool(tf.reduce_all(abs(log_w - tfd.Normal(0.0, 2.0**0.5).log_prob(0.0)) < 1e-5))
        True
    """

    def __init__(self, objective: Objective | None = None, seed: int = 0, **kwargs: Any):
        objective = ELBO() if objective is None else objective
        super().__init__(checks.instance("objective", objective, Objective), seed, **kwargs)

    # What a subclass defines.

    def standardize(self, x: Any, y: Any = None) -> tuple[tf.Tensor, Any]:
        """Turns data as users give it into tensors that have a density.

        Raises:
            ValueError: If a dtype, a rank or a shape does not fit.
        """
        raise NotImplementedError

    def check_support(self, x: tf.Tensor, y: Any = None) -> tuple[tf.Tensor, Any]:
        """Returns standardized data; using it raises a `ValueError` if it has no density."""
        raise NotImplementedError

    def compute_terms(
        self,
        x: tf.Tensor,
        num_samples: int = 1,
        training: bool = False,
        seed: int | tf.Tensor = 0,
        y: Any = None,
    ) -> Terms:
        """Returns the log-densities of standardized data at `num_samples` samples of q(z|x).

        Args:
            x: Tensor `[B, *E]`.
            num_samples: Number S of samples of z for every x.
            training: Whether the networks run in training mode.
            seed: Integer >= 0 or stateless seed `[2]`.
            y: What the model is conditioned on, or None.
        """
        raise NotImplementedError

    @property
    def latent_event(self) -> tuple[int, ...]:
        """Shape of one z: the shape of its only group, or of a vector of all groups."""
        return event_of(self.latents)

    @property
    def is_point_mass(self) -> bool:
        """Whether q(z|x) is a single z, so that further samples of it add nothing."""
        return False

    def state_updates(self, statistics: Mapping[str, tf.Tensor]) -> Iterable[tuple[Any, tf.Tensor]]:
        """Returns what a training step assigns besides the optimizer's updates; here, nothing.

        A forward pass assigns nothing itself. It measures `Terms.statistics`, which the training
        step sums over all replicas. The step then assigns these values, but only if it is actually
        taken.

        Args:
            statistics: The sums over the batches of all replicas, by their names in the terms.

        Returns:
            Pairs of a variable, whose `aggregation` is `"only_first_replica"`, and its new value.
        """
        return ()

    @property
    def trainable_parts(self) -> dict[str, list[keras.Variable]]:
        """The trainable variables of each part of the model, by the part's name.

        No variable belongs to two parts; a variable may belong to none.
        """
        of_objective = trainable_of(**self.objective.parts)
        apart = {id(v) for own in of_objective.values() for v in own}
        rest = [v for v in self.trainable_variables if id(v) not in apart]
        return {"model": rest, **of_objective}

    @property
    def latents(self) -> Latents:
        """Shapes of the groups of z, by name, in the order in which they lie in z."""
        raise NotImplementedError

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Builds all layers, here by tracing the terms for data of this shape, `[B, ...]`."""
        x = tf.TensorSpec(input_shape, keras.config.floatx())
        trace = tf.function(lambda x: self.compute_terms(*self.standardize(x)[:1]), autograph=False)
        trace.get_concrete_function(x)
        freeze_inside(self)
        self.objective.build_for(self)
        self.built = True

    # Groups of latent variables.

    def split(self, z: Any) -> dict[str, tf.Tensor]:
        """Splits z into its groups, `[..., *shape]`, with the names and shapes of `latents`.

        Args:
            z: Latent variables `[..., D]`.

        Raises:
            ValueError: If z is not of that shape.
        """
        return split_z(checked_tensor("z", z), self.latents, self.latent_event)

    def join(self, groups: Mapping[str, Any]) -> tf.Tensor:
        """Joins groups, as `split` returns them, into z `[..., D]`.

        Args:
            groups: Tensors `[..., *shape]` with the names and shapes of `latents`.

        Raises:
            ValueError: If a name is missing or unknown, or a shape is not that of the group.
        """
        if not isinstance(groups, Mapping):
            raise checks.invalid("groups", f"must map the names {list(self.latents)}", groups)
        tensors = {name: checked_tensor("groups", group) for name, group in groups.items()}
        return join_z(tensors, self.latents, self.latent_event)

    # Importance weights.

    def log_weights(
        self, x: Any, num_samples: int = 1, seed: int | tf.Tensor = 0, y: Any = None
    ) -> tf.Tensor:
        """Returns the log importance weights of samples from the posterior.

        log w = log p(x|z) + log p(z) - log q(z|x),  z ~ q(z|x)

        Args:
            x: Data `[B, *E]`.
            num_samples: Number S of samples of z for every x.
            seed: Integer >= 0 or stateless seed `[2]`.
            y: What the model is conditioned on, for conditional models.

        Returns:
            Tensor `[S, B]`, nats.
        """
        num_samples = checks.count("num_samples", num_samples)
        x, y = self._checked(x, y)
        return self.compute_terms(x, num_samples, seed=seed, y=y).log_w

    def weighting(self, x: tf.Tensor, y: Any = None) -> Callable[[Any, tf.Tensor], tf.Tensor]:
        """Returns a function from `(num_samples, seed)` to log importance weights `[S, B]`.

        The data are standardized. Whatever all their samples share is computed only once, in
        advance; here, that is nothing.
        """
        return lambda num_samples, seed: self.compute_terms(x, num_samples, False, seed, y).log_w

    def get_config(self) -> dict[str, Any]:
        objective = keras.saving.serialize_keras_object(self.objective)
        return {**super().get_config(), "objective": objective, "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> LatentVariableModel:
        def revive(value: Any) -> Any:
            if isinstance(value, list):
                return [revive(item) for item in value]
            is_object = isinstance(value, dict) and "class_name" in value
            if not is_object:
                return value
            return keras.saving.deserialize_keras_object(value, custom_objects=custom_objects)

        return cls(**{name: revive(value) for name, value in config.items()})
