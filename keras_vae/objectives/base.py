"""What every objective has in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_vae.controllers import Controller
from keras_vae.core import checks
from keras_vae.core.hyperparameters import Steerable
from keras_vae.terms import Draws, Terms


class Objective(Steerable):
    """Turns log-densities into one loss per example.

    It is a layer so that the numbers it holds (β, free bits, ...) are weights: saved, restored,
    mirrored on replicas, and driven by controllers.

    Args:
        num_samples: Number S of samples of z that it needs for every x.
        **kwargs: Passed on to `keras.layers.Layer`.

    Attributes:
        num_samples: Number S of samples of z that it needs for every x.
        measure_names: Names of what it measures besides the loss, for the logs.
        pathwise: Whether its gradient passes through the samples of z, so that a posterior that
            cannot be reparameterized would learn nothing from it.
        computes_with_z: Whether it uses z as numbers to compute with, which codes are not.
        loss_parts: Parts of the model that minimize a loss of their own, named as in
            `model.trainable_parts`. `loss` then returns a mapping with the loss of each of these
            parts and, under `""`, the loss of all others, which is the one in the logs. An
            estimator that changes the gradient on its way back through z does so for the loss of
            every part.
        matches_prior: Whether it holds q(z) to the prior by other means than a KL, whose weight may
            then be zero.
        controllers: Its own rules, which run at every training step without a callback.

    Example:
        >>> class Rate(Objective):
        ...     def loss(self, terms):
        ...         return terms.kl_total
        >>> zeros = tf.zeros([1, 1])
        >>> Rate().loss(Terms(zeros, zeros, zeros, kl=tf.constant([[1.0, 2.0]]))).numpy()
        array([3.], dtype=float32)
    """

    measure_names: tuple[str, ...] = ()
    pathwise: bool = True
    computes_with_z: bool = False
    loss_parts: tuple[str, ...] = ()
    matches_prior: bool = False
    controllers: Sequence[Controller] = ()

    def __init__(self, num_samples: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_samples = checks.count("num_samples", num_samples)
        self.built = True

    @property
    def parts(self) -> Mapping[str, Sequence[keras.layers.Layer]]:
        """Its own layers that are trained with the model, by the name of their part; here, none."""
        return {}

    def build_for(self, model: Any) -> None:
        """Builds its own layers for a model whose other parts are built; only the first call does.

        Args:
            model: The `LatentVariableModel` whose objective it is.
        """

    def check_trainable(self, model: Any) -> None:
        """Raises a `ValueError` if it trains only a part of what would learn; called by `compile`.

        Args:
            model: The `LatentVariableModel` whose objective it is.
        """

    @property
    def kl_weight(self) -> float | None:
        """The weight of the KL in the loss, unless it is β, or there is none."""
        return None

    def loss(self, terms: Terms) -> tf.Tensor | Mapping[str, tf.Tensor]:
        """Returns the loss of each example, which the optimizer minimizes: Tensor `[B]`, nats.

        With `loss_parts`, a mapping from `""` and each of these parts to such a tensor.
        """
        raise NotImplementedError

    def loss_and_measures(self, terms: Terms) -> tuple[Any, dict[str, tf.Tensor]]:
        """Returns the loss `[B]`, and the measures that `measure_names` lists, each `[B]`."""
        return self.loss(terms), {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Objective:
        """Returns the objective of a configuration, in which layers may be configurations, too."""

        def revive(value: Any) -> Any:
            is_object = isinstance(value, dict) and "class_name" in value
            return keras.saving.deserialize_keras_object(value) if is_object else value

        return cls(**{name: revive(value) for name, value in config.items()})


def draws_of_prior(draws: Draws, seed: tf.Tensor) -> tf.Tensor:
    """Returns as many draws of p(z) as there are of q(z|x), `[S, B, D]`.

    Args:
        draws: The draws of q(z|x), with p(z).
        seed: A stateless seed `[2]`. It differs between replicas, and so do these draws.
    """
    samples, size = draws.z.shape[0], tf.shape(draws.z)[1]
    shape = [samples] if draws.p_z.batch_shape.rank else [samples, size]
    return draws.p_z.sample(shape, seed=seed)


def draws_of(terms: Terms, needed_by: str) -> Draws:
    """Returns the draws behind the terms.

    Raises:
        ValueError: If the model does not provide them.
    """
    if terms.draws is None:
        raise ValueError(
            f"{needed_by} needs `Terms.draws`, which `compute_terms` of this model leaves out. "
            "Received: draws=None"
        )
    return terms.draws
