"""The labels that a model is conditioned on, or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.core.numerics import to_dtype
from keras_vae.likelihoods import Support
from keras_vae.models.parts import Shape, output_shape
from keras_vae.training import errors
from keras_vae.training.support import inside


@serializable
class OneHot(keras.layers.Layer):
    """Class labels `[B]` -> one-hot rows `[B, num_classes]`, as a condition.

    Args:
        num_classes: Number K of classes; labels are 0 .. K-1.
        **kwargs: Passed on to `keras.layers.Layer`.

    Example:
        >>> OneHot(3)(tf.constant([2, 0])).numpy()
        array([[0., 0., 1.],
               [1., 0., 0.]], dtype=float32)
    """

    input_shape = (None,)

    def __init__(self, num_classes: int, **kwargs: Any):
        # Without autocasting: in half precision, many whole numbers are others.
        super().__init__(autocast=False, **kwargs)
        self.num_classes = checks.size("num_classes", num_classes)
        self.support = Support(0, self.num_classes - 1, integer=True)
        self.built = True

    def call(self, labels: tf.Tensor) -> tf.Tensor:
        return tf.one_hot(tf.cast(labels, tf.int32), self.num_classes, dtype=self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape, self.num_classes)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_classes": self.num_classes}


class NoLabels:
    """The labels of an unconditional model: whatever is given is ignored.

    Attributes:
        spec: The inputs that a model's methods take for labels, by name.
        features_shape: Shape of the features of labels, or None.

    Example:
        >>> labels = NoLabels()
        >>> labels.standardize([2, 0]) is None, labels.widened((None, 8))
        (True, (None, 8))
    """

    spec: Mapping[str, tf.TensorSpec] = {}
    features_shape: Shape | None = None

    def features(self, y: Any, training: bool = False) -> tf.Tensor | None:
        """Returns the features of standardized labels, `[B, C]`."""
        return None

    def widened(self, shape: Shape) -> Shape:
        """Returns the shape that values of this shape have once `join` has appended features."""
        return shape

    def join(self, values: tf.Tensor, features: tf.Tensor | None, rank: int) -> tf.Tensor:
        """Returns values `[..., B, *event]` with features `[B, C]` as further channels.

        Args:
            values: The input of a network, before the features are appended.
            features: What `features` returned.
            rank: Number of dimensions of the event; the channels are the last of them.
        """
        return values

    def standardize(self, y: Any, rows: int | None = None) -> tf.Tensor | None:
        """Returns labels `[B, *shape]` as a tensor, after checking their values if they are known.

        Args:
            y: Labels as users give them.
            rows: Number of examples that there must be labels for, if it is known.

        Raises:
            ValueError: If there are no labels, or they are not numbers or have another shape.
        """
        return None

    def supported(self, y: Any) -> tf.Tensor | None:
        """Returns standardized labels; using them raises a `ValueError` if one is unknown."""
        return None

    def checked(self, y: Any) -> tf.Tensor | None:
        """Standardizes labels as users give them; using the result raises if one is unknown."""
        return self.supported(self.standardize(y))

    def of_draws(self, y: Any, num_samples: int | tf.Tensor) -> tf.Tensor | None:
        """Returns standardized labels, one per draw, given one per draw or one for all of them.

        Using them raises a `ValueError` unless there is one for each draw.
        """
        return None


class Labels(NoLabels):
    """The labels y that a model accepts, and the features that a layer makes of them.

    Args:
        condition: The number of classes of integer labels, or a Keras model with a known input
            shape from y to features `[B, C]`.
        dtype: The dtype of densities, which labels and features have too.

    Attributes:
        layer: The layer from y to features.
        shape: Shape of the labels of one example.

    Example:
        >>> labels = Labels(3, "float32")
        >>> labels.features(labels.standardize([2, 0])).numpy()
        array([[0., 0., 1.],
               [1., 0., 0.]], dtype=float32)
    """

    def __init__(self, condition: int | keras.layers.Layer, dtype: str):
        layer = condition if isinstance(condition, keras.layers.Layer) else OneHot(condition)
        shape = getattr(layer, "input_shape", None)
        if not isinstance(shape, tuple) or None in shape[1:]:
            rule = "must be a number of classes or a Keras model with one known input shape"
            raise checks.invalid("condition", rule, condition)
        features_shape = output_shape("condition", layer, shape)
        if len(features_shape) != 2:
            raise checks.invalid("condition", "must return features [batch, C]", condition)
        self.layer, self.shape, self._dtype = layer, tuple(shape[1:]), dtype
        self._num_features = int(features_shape[-1] or 0)
        self.features_shape = (None, self._num_features)
        kind = tf.int32 if self.support.integer else dtype
        self.spec = {"y": tf.TensorSpec((None, *self.shape), kind, name="y")}

    @property
    def support(self) -> Support:
        """The labels that are valid."""
        return getattr(self.layer, "support", Support())

    def features(self, y: tf.Tensor, training: bool = False) -> tf.Tensor:
        return to_dtype(self.layer(y, training=training), self._dtype)

    def widened(self, shape: Shape) -> Shape:
        return (*shape[:-1], int(shape[-1] or 0) + self._num_features)

    def join(self, values: tf.Tensor, features: tf.Tensor, rank: int) -> tf.Tensor:
        between = [1] * (rank - 1)
        if between:
            features = tf.reshape(features, [-1, *between, self._num_features])
        # Broadcast by adding zeros: shapes computed in the graph need operations that other
        # runtimes lack.
        wide = values + tf.zeros_like(features[..., :1])
        return tf.concat([wide, features + tf.zeros_like(values[..., :1])], axis=-1)

    def standardize(self, y: Any, rows: int | None = None) -> tf.Tensor:
        if y is None:
            raise checks.invalid("y", "must be given, as the model is conditioned on it", y)
        y = self._to_numbers(y)
        rank = len(self.shape) + 1
        if y.shape.rank == rank + 1 and y.shape[-1] == 1:
            y = tf.squeeze(y, -1)
        if y.shape.rank != rank or not y.shape[1:].is_compatible_with(self.shape):
            raise ValueError(
                f"Argument `y` must have shape {('batch', *self.shape)}. "
                f"Received: shape={tuple(y.shape)}{self._shape_hint(y.shape)}"
            )
        if not y.shape[:1].is_compatible_with([rows]):
            raise ValueError(
                f"Argument `y` must have a row for each of the {rows} examples. "
                f"Received: {y.shape[0]} rows"
            )
        return self.supported(y) if tf.executing_eagerly() else y

    def _shape_hint(self, shape: tf.TensorShape) -> str:
        one_hot = isinstance(self.layer, OneHot) and shape.rank == 2
        if one_hot and shape[-1] == self.layer.num_classes:
            return ". Labels are integers: give np.argmax(y, axis=-1) in place of one-hot rows"
        return ""

    def _to_numbers(self, y: Any) -> tf.Tensor:
        try:
            return to_dtype(y, self._dtype)
        except (TypeError, ValueError, tf.errors.UnimplementedError) as error:
            raise checks.invalid("y", "must hold numbers", y) from error

    def supported(self, y: tf.Tensor) -> tf.Tensor:
        return inside(self.support, "y", f"must be {self.support}, as the condition requires", y)

    def of_draws(self, y: Any, num_samples: int | tf.Tensor) -> tf.Tensor:
        if y is not None:
            y = self._to_numbers(y)
            if y.shape.rank is not None and y.shape == tf.TensorShape(self.shape):
                y = tf.broadcast_to(y, [num_samples, *self.shape])
        y = self.standardize(y)
        rows = tf.shape(y)[0]
        rule = "Argument `y` must have a row for each of the num_samples. Received: {} rows for {}"
        return errors.require(
            rows == num_samples, lambda: tf.strings.format(rule, (rows, num_samples)), y
        )
