"""Distances between the features of a frozen network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.freezing import freeze
from keras_vae.core.head import serializable


@serializable
class PerceptualDistance(keras.layers.Layer):
    """The mean squared error of features, summed over the layers of a frozen network.

    d(x, x') = sum_l mean_e (phi_l(x)_e - phi_l(x')_e)^2

    Args:
        network: φ, a Keras model with one or several outputs, or a list of layers of one functional
            or sequential model, whose outputs are the φ_l. It is frozen.
        **kwargs: Passed on to `keras.layers.Layer`.

    Raises:
        ValueError: If it is none of these.

    References:
        Johnson et al., 2016, eq. 2, arXiv:1603.08155.
    """

    def __init__(self, network: Any, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self.network = _as_model(network)

    @property
    def trainable(self) -> bool:
        """Always false: otherwise it would learn features in which all images are alike."""
        return False

    @trainable.setter
    def trainable(self, value: bool) -> None:
        # Keras passes `model.trainable = True` down to all layers; the network stays as it is.
        pass

    def check_apart(self, *others: Any) -> None:
        """Raises a `ValueError` if the network has a layer of those that must learn."""
        learning = {id(one) for other in others for one in other._flatten_layers()}
        shared = [one.name for one in self.network._flatten_layers() if id(one) in learning]
        if shared:
            rule = "must share no layer with the model or the discriminator, as it is frozen"
            raise checks.invalid("perceptual", f"{rule}: give it a copy", shared)

    def build_network(self, shape: tuple[int, ...] | None) -> None:
        """Builds and freezes the network, for images of this shape if it is known, or raises."""
        if shape is not None:
            given, inputs = (None, *shape), getattr(self.network, "inputs", None)
            if inputs and not tf.TensorShape(inputs[0].shape).is_compatible_with(given):
                rule = f"must take images of shape {given}"
                raise checks.invalid("perceptual", rule, f"one for {inputs[0].shape}")
            checks.output_of("perceptual", self.network, given, "images")
        freeze(self.network)

    def call(self, x: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
        """Returns the distances `[S, B]` between x `[B, *E]` and others `[S, B, *E]`."""
        wanted = keras.tree.flatten(self.network(x, training=False))
        others = tf.reshape(other, [-1, *other.shape[2:]])
        found = keras.tree.flatten(self.network(others, training=False))
        leading = tf.shape(other)[:2]
        distances = []
        for one, phi in zip(wanted, found, strict=True):
            phi = tf.reshape(phi, tf.concat([leading, tf.shape(phi)[1:]], axis=0))
            squares = tf.square(tf.cast(phi, other.dtype) - tf.cast(one, other.dtype))
            distances.append(tf.reduce_mean(squares, axis=list(range(2, squares.shape.rank))))
        return tf.add_n(distances)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        network = keras.saving.serialize_keras_object(self.network)
        return {**super().get_config(), "network": network}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PerceptualDistance:
        network = keras.saving.deserialize_keras_object(config["network"])
        return cls(**{**config, "network": network})


def _as_model(network: Any) -> keras.layers.Layer:
    if isinstance(network, keras.layers.Layer):
        return network
    layers = list(network) if isinstance(network, Sequence) else []
    if not layers or not all(isinstance(layer, keras.layers.Layer) for layer in layers):
        raise checks.invalid("perceptual", "must be a Keras model, or a list of layers", network)
    try:
        outputs = [layer.output for layer in layers]
        return keras.Model(keras.utils.get_source_inputs(outputs[-1]), outputs)
    except (AttributeError, ValueError) as error:
        rule = f"must be layers of one functional or sequential model: {error}"
        raise checks.invalid("perceptual", rule, layers) from error
