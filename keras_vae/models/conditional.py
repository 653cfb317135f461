"""A variational autoencoder of x given labels."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.likelihoods import Support
from keras_vae.models.parts import Shape, output_shape, serialized
from keras_vae.models.vae import VAE
from keras_vae.training import errors
from keras_vae.training.support import inside

tfd = tfp.distributions


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
        super().__init__(**kwargs)
        self.num_classes = checks.integer("num_classes", num_classes)
        self.support = Support(0, self.num_classes - 1, integer=True)
        self.built = True

    def call(self, labels: tf.Tensor) -> tf.Tensor:
        return tf.one_hot(tf.cast(labels, tf.int32), self.num_classes, dtype=self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape, self.num_classes)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_classes": self.num_classes}


@serializable
class ConditionalVAE(VAE):
    """A variational autoencoder of p(x|y): labels y condition encoder, decoder and prior.

    log p(x|y) >= E_q(z|x,y)[log p(x|z,y)] - KL(q(z|x,y) || p(z|y))

    Features c of the condition, `[B, C]`, are joined to the encoder's input as C more channels
    (constant over the image) and to the decoder's input as C more dimensions; a prior such as
    `keras_vae.priors.ConditionalNormal` is given them too. So any network works that takes an
    input of that size. `fit` takes data `(x, y)`, and methods take `y`.

    Args:
        condition: The number of classes of integer labels, or a Keras model with a known input
            shape (`Sequential` with an `Input`, or Functional) from y to features `[B, C]`.
        **kwargs: Passed on to `VAE`.

    Raises:
        ValueError: If the parts do not fit each other, or y is missing or unknown.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.ConditionalVAE(
        ...     condition=10,
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> model.sample(3, y=7).shape
        TensorShape([3, 8, 8, 1])

    References:
        Sohn et al., 2015, eq. 4, "Learning structured output representation using deep
        conditional generative models".
    """

    def __init__(self, condition: int | keras.layers.Layer, **kwargs: Any):
        layer = condition if isinstance(condition, keras.layers.Layer) else OneHot(condition)
        shape = getattr(layer, "input_shape", None)
        if not isinstance(shape, tuple) or None in shape[1:]:
            rule = "must be a number of classes or a Keras model with one known input shape"
            raise checks.invalid("condition", rule, condition)
        # The constructor of the base builds all parts, and asks for the condition's shape.
        self._label_shape = tuple(shape[1:])
        features_shape = output_shape("condition", layer, shape)
        if len(features_shape) != 2:
            raise checks.invalid("condition", "must return features [batch, C]", condition)
        self._num_features = int(features_shape[-1] or 0)
        self.condition = layer
        super().__init__(**kwargs)

    @property
    def trainable_parts(self) -> dict[str, list[keras.Variable]]:
        parts = {"condition": self.condition.trainable_variables}
        shared = {id(variable) for variable in parts["condition"]}
        for name, variables in super().trainable_parts.items():
            parts[name] = [variable for variable in variables if id(variable) not in shared]
        return parts

    def _encoder_input_shape(self, x_shape: Shape) -> Shape:
        return self._widened(x_shape)

    def _decoder_input_shape(self, z_shape: Shape) -> Shape:
        return self._widened(z_shape)

    def _widened(self, shape: Shape) -> Shape:
        """Returns the shape of what has the features of the condition joined to its last axis."""
        return (*shape[:-1], int(shape[-1] or 0) + self._num_features)

    @property
    def label_spec(self) -> dict[str, tf.TensorSpec]:
        dtype = tf.int32 if self._support.integer else self.likelihood_head.density_dtype
        return {"y": tf.TensorSpec((None, *self._label_shape), dtype, name="y")}

    @property
    def _support(self) -> Support:
        return getattr(self.condition, "support", Support())

    def _condition_shape(self) -> Shape:
        return (None, self._num_features)

    def _condition(self, y: Any, training: bool = False) -> tf.Tensor:
        return self.likelihood_head.to_density(self.condition(y, training=training))

    def _encoder_input(self, x: tf.Tensor, condition: tf.Tensor | None) -> tf.Tensor:
        x = super()._encoder_input(x, condition)
        between = [1] * (x.shape.rank - 2)
        return _join(x, tf.reshape(condition, [-1, *between, self._num_features]))

    def _decoder_input(self, z: tf.Tensor, condition: tf.Tensor | None) -> tf.Tensor:
        return _join(z, condition)

    def _prior_of_draws(self, num_samples: int | tf.Tensor, y: Any) -> tfd.Distribution:
        y = self._labels(y)
        rows = tf.shape(y)[0]
        rule = "Argument `y` must have a row for each of the num_samples. Received: {} rows for {}"
        y = errors.require(
            rows == num_samples, lambda: tf.strings.format(rule, (rows, num_samples)), y
        )
        return self._prior(self._condition(y))

    def _labels_of_draws(self, y: Any, num_samples: int | tf.Tensor) -> Any:
        if y is None:
            return None
        y = self._to_numbers(y)
        is_one = y.shape.rank is not None and y.shape == tf.TensorShape(self._label_shape)
        return tf.broadcast_to(y, [num_samples, *self._label_shape]) if is_one else y

    def _labels(self, y: Any) -> tf.Tensor:
        if y is None:
            raise checks.invalid("y", "must be given, as the model is conditioned on it", y)
        y = self._to_numbers(y)
        rank = len(self._label_shape) + 1
        if y.shape.rank == rank + 1 and y.shape[-1] == 1:
            y = tf.squeeze(y, -1)
        if y.shape.rank != rank or not y.shape[1:].is_compatible_with(self._label_shape):
            raise ValueError(
                f"Argument `y` must have shape {('batch', *self._label_shape)}. "
                f"Received: shape={tuple(y.shape)}{self._shape_hint(y.shape)}"
            )
        return self._supported(y) if tf.executing_eagerly() else y

    def _shape_hint(self, shape: tf.TensorShape) -> str:
        one_hot = isinstance(self.condition, OneHot) and shape.rank == 2
        if one_hot and shape[-1] == self.condition.num_classes:
            return ". Labels are integers: give np.argmax(y, axis=-1) in place of one-hot rows"
        return ""

    def _to_numbers(self, y: Any) -> tf.Tensor:
        try:
            return self.likelihood_head.to_density(y)
        except (TypeError, ValueError, tf.errors.UnimplementedError) as error:
            raise checks.invalid("y", "must hold numbers", y) from error

    def _supported(self, y: tf.Tensor) -> tf.Tensor:
        rule = f"must be {self._support}, as the condition requires"
        return inside(self._support, "y", rule, y)

    def checked_labels(self, y: Any) -> tf.Tensor:
        return self._supported(self._labels(y))

    def standardize(self, x: Any, y: Any = None) -> tuple[tf.Tensor, Any]:
        x, _ = super().standardize(x)
        y = self._labels(y)
        _check_rows(y, x.shape[0])
        return x, y

    def decode(self, z: Any, y: Any = None) -> tfd.Distribution:
        z = self.posterior_head.to_density(z)
        rank = len(self.posterior_head.event_shape)
        if z.shape.rank is not None and z.shape.rank > rank:
            _check_rows(self._labels(y), z.shape[-1 - rank])
        return super().decode(z, y)

    def check_support(self, x: tf.Tensor, y: Any = None) -> tuple[tf.Tensor, Any]:
        x, _ = super().check_support(x)
        return x, self._supported(y)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **serialized(self, "condition")}


def _check_rows(y: tf.Tensor, rows: int | None) -> None:
    if not y.shape[:1].is_compatible_with([rows]):
        raise ValueError(
            f"Argument `y` must have a row for each of the {rows} examples. "
            f"Received: {y.shape[0]} rows"
        )


def _join(values: tf.Tensor, condition: tf.Tensor) -> tf.Tensor:
    """Joins `condition` `[..., C]` to the last axis of `values`; both are broadcast before it."""
    # By adding zeros: shapes computed in the graph take operations that other runtimes lack.
    wide = values + tf.zeros_like(condition[..., :1])
    return tf.concat([wide, condition + tf.zeros_like(values[..., :1])], axis=-1)
