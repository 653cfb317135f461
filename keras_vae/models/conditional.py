"""A variational autoencoder of x given labels."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core.head import serializable
from keras_vae.models.labels import Labels, check_rows
from keras_vae.models.parts import Shape, serialized
from keras_vae.models.vae import VAE

tfd = tfp.distributions


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
        # The constructor of the base refuses what is no likelihood; before that it builds all
        # parts, and asks for the condition's shape.
        dtype = getattr(kwargs.get("likelihood"), "density_dtype", "float32")
        self._label = Labels(condition, dtype)
        self.condition = self._label.layer
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
        return (*shape[:-1], int(shape[-1] or 0) + self._label.num_features)

    @property
    def label_spec(self) -> dict[str, tf.TensorSpec]:
        return self._label.spec

    def _condition_shape(self) -> Shape:
        return (None, self._label.num_features)

    def _condition(self, y: Any, training: bool = False) -> tf.Tensor:
        return self._label.features(y, training)

    def _encoder_input(self, x: tf.Tensor, condition: tf.Tensor | None) -> tf.Tensor:
        x = super()._encoder_input(x, condition)
        between = [1] * (x.shape.rank - 2)
        return _join(x, tf.reshape(condition, [-1, *between, self._label.num_features]))

    def _decoder_input(self, z: tf.Tensor, condition: tf.Tensor | None) -> tf.Tensor:
        return _join(z, condition)

    def _prior_of_draws(self, num_samples: int | tf.Tensor, y: Any) -> tfd.Distribution:
        return self._prior(self._condition(y))

    def _labels_of_draws(self, y: Any, num_samples: int | tf.Tensor) -> Any:
        return self._label.of_draws(y, num_samples)

    def _labels(self, y: Any) -> tf.Tensor:
        return self._label.standardize(y)

    def checked_labels(self, y: Any) -> tf.Tensor:
        return self._label.supported(self._labels(y))

    def standardize(self, x: Any, y: Any = None) -> tuple[tf.Tensor, Any]:
        x, _ = super().standardize(x)
        y = self._labels(y)
        check_rows(y, x.shape[0])
        return x, y

    def decode(self, z: Any, y: Any = None) -> tfd.Distribution:
        z = self.posterior_head.to_density(z)
        rank = len(self.posterior_head.event_shape)
        if z.shape.rank is not None and z.shape.rank > rank:
            check_rows(self._labels(y), z.shape[-1 - rank])
        return super().decode(z, y)

    def check_support(self, x: tf.Tensor, y: Any = None) -> tuple[tf.Tensor, Any]:
        x, _ = super().check_support(x)
        return x, self._label.supported(y)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **serialized(self, "condition")}


def _join(values: tf.Tensor, condition: tf.Tensor) -> tf.Tensor:
    """Joins `condition` `[..., C]` to the last axis of `values`; both are broadcast before it."""
    # By adding zeros: shapes computed in the graph take operations that other runtimes lack.
    wide = values + tf.zeros_like(condition[..., :1])
    return tf.concat([wide, condition + tf.zeros_like(values[..., :1])], axis=-1)
