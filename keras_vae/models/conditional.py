"""A variational autoencoder of x given labels."""

from __future__ import annotations

from typing import Any

import keras

from keras_vae.core.head import serializable
from keras_vae.models.labels import Labels
from keras_vae.models.parts import serialized
from keras_vae.models.vae import VAE


@serializable
class ConditionalVAE(VAE):
    """A variational autoencoder of p(x|y): labels y condition encoder, decoder and prior.

    log p(x|y) >= E_q(z|x,y)[log p(x|z,y)] - KL(q(z|x,y) || p(z|y))

    The features c of the condition, `[B, C]`, are appended to the encoder's input as C extra
    channels (constant over the image) and to the decoder's input as C extra dimensions; a prior
    such as `keras_vae.priors.ConditionalNormal` receives them too. Any network that takes an input
    of that size will therefore work. `fit` takes data `(x, y)`, and the methods take `y`.

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
        # The labels come first: the base constructor builds all parts, for which it needs the shape
        # of the condition. It also rejects anything that is not a likelihood.
        dtype = getattr(kwargs.get("likelihood"), "density_dtype", "float32")
        self.labels = Labels(condition, dtype)
        self.condition = self.labels.layer
        super().__init__(**kwargs)

    @property
    def trainable_parts(self) -> dict[str, list[keras.Variable]]:
        parts = {"condition": self.condition.trainable_variables}
        shared = {id(variable) for variable in parts["condition"]}
        for name, variables in super().trainable_parts.items():
            parts[name] = [variable for variable in variables if id(variable) not in shared]
        return parts

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **serialized(self, "condition")}
