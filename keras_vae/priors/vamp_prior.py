"""The variational mixture of posteriors as the prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.distributions.mixture import MixtureSameFamily
from keras_vae.priors.base import Infer, Prior, serializable

tfd = tfp.distributions

ACTIVATIONS = ("sigmoid", "linear")


@serializable
class VampPrior(Prior):
    """A mixture of the model's own posteriors at learned pseudo-inputs.

    p(z) = sum_k w_k q(z | u_k), u_k = activation(v_k) of the shape of the encoder's input

    Any posterior works; with an inverse autoregressive flow, each density takes D passes.

    Args:
        latent_dim: Number D of latent dimensions.
        num_pseudo_inputs: Number K of pseudo-inputs.
        activation: `"sigmoid"` keeps pseudo-inputs in (0, 1), `"linear"` leaves them free.
        learned_weights: Whether the weights w_k are learned rather than equal.
        seed: Seed of the initial pseudo-inputs.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.MixtureSameFamily`, batch [], event [D].

    Raises:
        ValueError: If an argument is not as above, or the shape of the encoder's input is unknown
            in `build`, or `infer` is not given to a call.

    Example:
        >>> prior = VampPrior(2, num_pseudo_inputs=10)
        >>> prior.build((None, 28, 28, 1))
        >>> infer = lambda u: tfd.MultivariateNormalDiag(tf.zeros([10, 2]))
        >>> prior(infer=infer).log_prob(tf.zeros([5, 2])).shape
        TensorShape([5])

    References:
        Tomczak & Welling, 2018, eq. 9, arXiv:1705.07120.
    """

    def __init__(
        self,
        latent_dim: int,
        num_pseudo_inputs: int,
        activation: str = "sigmoid",
        learned_weights: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(latent_dim, **kwargs)
        self.num_pseudo_inputs = checks.size("num_pseudo_inputs", num_pseudo_inputs)
        self.activation = checks.option("activation", activation, ACTIVATIONS)
        self.learned_weights = checks.flag("learned_weights", learned_weights)
        self.seed = checks.integer("seed", seed, minimum=0)

    def build(
        self,
        encoder_input_shape: Sequence[int | None] | None = None,
        condition_shape: Sequence[int | None] | None = None,
    ) -> None:
        """Creates the pseudo-inputs for an encoder's input `[B, *E]`."""
        shape = [size for size in tuple(encoder_input_shape or ())[1:] if size is not None]
        if encoder_input_shape is None or len(shape) != len(encoder_input_shape) - 1:
            rule = "must be known but for the batch, for pseudo-inputs have that shape"
            raise checks.invalid("encoder_input_shape", rule, encoder_input_shape)
        count = self.num_pseudo_inputs
        # Equal pseudo-inputs would have equal gradients and stay equal forever.
        spread = keras.initializers.RandomNormal(stddev=1.0, seed=self.seed)
        self.raw_pseudo_inputs = self.add_density_weight(
            (count, *shape), spread, "raw_pseudo_inputs"
        )
        self.logits = None
        if self.learned_weights:
            self.logits = self.add_density_weight((count,), "zeros", "logits")

    @property
    def pseudo_inputs(self) -> tf.Tensor:
        """The pseudo-inputs as the encoder sees them: Tensor `[K, *E]`."""
        raw = self.to_density(self.raw_pseudo_inputs)
        return tf.sigmoid(raw) if self.activation == "sigmoid" else raw

    def call(
        self, condition: tf.Tensor | None = None, infer: Infer | None = None
    ) -> tfd.MixtureSameFamily:
        """Returns p(z), given the model's function from encoder inputs to q(z|x)."""
        if infer is None:
            rule = "must be the function from encoder inputs to q(z|x), which a VampPrior mixes"
            raise checks.invalid("infer", rule, None)
        count = self.num_pseudo_inputs
        logits = self.logits if self.learned_weights else tf.zeros([count], self.density_dtype)
        weights = tfd.Categorical(logits=self.to_density(logits))
        return MixtureSameFamily(weights, infer(self.pseudo_inputs))

    def fit(self, z: Any, **options: Any) -> Prior:
        """Raises a `ValueError`: p(z) is made of the model's own posteriors, not of draws."""
        raise ValueError(
            "A VampPrior cannot be fitted to draws of z: its components are the posteriors of a "
            "model's encoder at pseudo-inputs, which are learned with the model. Received: z of "
            f"shape {np.shape(z)}"
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "num_pseudo_inputs": self.num_pseudo_inputs,
            "activation": self.activation,
            "learned_weights": self.learned_weights,
            "seed": self.seed,
        }
