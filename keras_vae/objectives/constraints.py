"""What a reconstruction must satisfy, for `GECO`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.freezing import freeze
from keras_vae.core.head import serializable
from keras_vae.core.hyperparameters import Steerable
from keras_vae.objectives.base import draws_of
from keras_vae.terms import Terms


class Constraint(Steerable):
    """A constraint on the reconstruction, C <= 0, to be met on average over the data.

    C = E_q[distance] - tolerance

    Args:
        **kwargs: Passed on to `keras.layers.Layer`.

    Example:
        >>> class Rate(Constraint):
        ...     label = "latent_cost"
        ...     def distance(self, terms):
        ...         return terms.log_q - terms.log_p_z
        ...     def tolerance(self):
        ...         return tf.constant(10.0)
    """

    label = "constraint"

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.built = True

    def distance(self, terms: Terms) -> tf.Tensor:
        """Returns the distance of x to its reconstruction at every sample of z: `[S, B]`."""
        raise NotImplementedError

    def tolerance(self) -> tf.Tensor:
        """Returns what the distance may be on average, a scalar."""
        raise NotImplementedError

    def means(self, terms: Terms) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns x `[B, *E]`, and the mean g(z) of p(x|z) at every sample of z `[S, B, *E]`."""
        draws = draws_of(terms, f"{type(self).__name__}")
        return draws.x, draws.p_x.mean()


@serializable
class SquaredError(Constraint):
    """The squared error of the reconstruction, summed over an image or averaged over dimensions.

    C = E_q ||x - g(z)||^2 - kappa^2,  g(z) the mean of p(x|z)

    Args:
        kappa: κ > 0, drivable as `"kappa"`: with `per="image"`, the desired root of the summed
            squared error; with `per="dimension"`, the desired root mean squared error of a pixel.
        per: `"image"` or `"dimension"`.
        **kwargs: Passed on to `keras.layers.Layer`.

    Raises:
        ValueError: If kappa is not positive, or `per` is unknown.

    Example:
        >>> constraint = SquaredError(4.0)
        >>> float(constraint.tolerance())
        16.0

    References:
        Rezende and Viola, 2018, table 1, arXiv:1810.00597.
    """

    label = "squared_error"

    def __init__(self, kappa: float, per: str = "image", **kwargs: Any):
        super().__init__(**kwargs)
        self._initial_kappa = checks.number("kappa", kappa, 0.0, exclusive=True)
        self.per = checks.option("per", per, ("image", "dimension"))
        self.kappa = self.add_hyperparameter("kappa", self._initial_kappa)

    def distance(self, terms: Terms) -> tf.Tensor:
        x, mean = self.means(terms)
        total = _sum_of_squares(x - mean)  # [S, B]
        return total / math.prod(x.shape[1:]) if self.per == "dimension" else total

    def tolerance(self) -> tf.Tensor:
        return tf.square(self.kappa)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kappa": self._initial_kappa, "per": self.per}


@serializable
class NegativeLogLikelihood(Constraint):
    """The distortion: how many nats the reconstruction may cost.

    C = E_q[-log p(x|z)] - target

    Args:
        target: The desired distortion in nats, drivable as `"target"`. For a density, it may be
            negative.
        **kwargs: Passed on to `keras.layers.Layer`.

    Raises:
        ValueError: If the target is not a finite number.

    Example:
        >>> float(NegativeLogLikelihood(80.0).tolerance())
        80.0

    References:
        Rezende and Viola, 2018, section 2, arXiv:1810.00597.
    """

    label = "negative_log_likelihood"

    def __init__(self, target: float, **kwargs: Any):
        super().__init__(**kwargs)
        self._initial_target = checks.number("target", target)
        self.target = self.add_hyperparameter("target", self._initial_target)

    def distance(self, terms: Terms) -> tf.Tensor:
        return -terms.log_p_x

    def tolerance(self) -> tf.Tensor:
        return tf.convert_to_tensor(self.target)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "target": self._initial_target}


@serializable
class FeatureMatch(Constraint):
    """The squared error of features of the reconstruction, such as those of a classifier.

    C = E_q ||phi(x) - phi(g(z))||^2 - kappa^2,  g(z) the mean of p(x|z)

    Args:
        features: φ, a Keras model from images `[N, *E]` to features `[N, ...]`. It is frozen.
        kappa: κ > 0, drivable as `"kappa"`: the desired root of the summed squared error.
        **kwargs: Passed on to `keras.layers.Layer`.

    Raises:
        ValueError: If kappa is not positive, or the features are not a Keras layer.

    Example:
        >>> phi = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.AveragePooling2D(4)])
        >>> constraint = FeatureMatch(phi, kappa=1.0)

    References:
        Rezende and Viola, 2018, table 1, arXiv:1810.00597.
    """

    label = "feature_match"

    def __init__(self, features: keras.layers.Layer, kappa: float, **kwargs: Any):
        super().__init__(**kwargs)
        if not isinstance(features, keras.layers.Layer):
            raise checks.invalid("features", "must be a keras.layers.Layer or model", features)
        self._initial_kappa = checks.number("kappa", kappa, 0.0, exclusive=True)
        self.features = features
        freeze(self.features)
        self.kappa = self.add_hyperparameter("kappa", self._initial_kappa)

    @property
    def trainable(self) -> bool:
        """Always false: otherwise it would learn features in which all images are alike."""
        return False

    @trainable.setter
    def trainable(self, value: bool) -> None:
        # Keras passes `model.trainable = True` down to all layers.
        freeze(self.features)

    def distance(self, terms: Terms) -> tf.Tensor:
        x, mean = self.means(terms)
        merged = tf.reshape(mean, tf.concat([[-1], tf.shape(x)[1:]], axis=0))
        merged.set_shape([None, *x.shape[1:]])
        found = tf.cast(self.features(merged, training=False), mean.dtype)  # [S B, ...]
        wanted = tf.cast(self.features(x, training=False), mean.dtype)  # [B, ...]
        shape = tf.concat([tf.shape(mean)[:2], tf.shape(found)[1:]], axis=0)
        return _sum_of_squares(tf.reshape(found, shape) - wanted)

    def tolerance(self) -> tf.Tensor:
        return tf.square(self.kappa)

    def get_config(self) -> dict[str, Any]:
        features = keras.saving.serialize_keras_object(self.features)
        return {**super().get_config(), "features": features, "kappa": self._initial_kappa}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FeatureMatch:
        features = keras.saving.deserialize_keras_object(config["features"])
        return cls(**{**config, "features": features})


@serializable
class Distance(Constraint):
    """A user-defined distance.

    C = E_q[distance(x, g(z))] - tolerance,  g(z) the mean of p(x|z)

    Args:
        function: Function of x `[B, *E]` and g(z) `[S, B, *E]` that returns `[S, B]`. To be saved,
            it must be registered with `keras.saving.register_keras_serializable`.
        tolerance: What the distance may be on average, drivable as `"tolerance"`.
        **kwargs: Passed on to `keras.layers.Layer`.

    Raises:
        ValueError: If the function is not callable, or the tolerance is not a finite number.

    Example:
        >>> def absolute(x, mean):
        ...     return tf.reduce_sum(tf.abs(x - mean), axis=[2, 3, 4])
        >>> constraint = Distance(absolute, tolerance=30.0)
    """

    label = "distance"

    def __init__(
        self,
        function: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
        tolerance: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if not callable(function):
            raise checks.invalid("function", "must be a function of x and g(z)", function)
        self.function = function
        self._initial_tolerance = checks.number("tolerance", tolerance)
        self._tolerance = self.add_hyperparameter("tolerance", self._initial_tolerance)

    def distance(self, terms: Terms) -> tf.Tensor:
        return self.function(*self.means(terms))

    def tolerance(self) -> tf.Tensor:
        return tf.convert_to_tensor(self._tolerance)

    def get_config(self) -> dict[str, Any]:
        function = keras.saving.serialize_keras_object(self.function)
        return {**super().get_config(), "function": function, "tolerance": self._initial_tolerance}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Distance:
        function = keras.saving.deserialize_keras_object(config["function"])
        return cls(**{**config, "function": function})


def _sum_of_squares(values: tf.Tensor) -> tf.Tensor:
    """Returns the sum of squares over all but the first two axes."""
    return tf.reduce_sum(tf.square(values), axis=list(range(2, values.shape.rank)))
