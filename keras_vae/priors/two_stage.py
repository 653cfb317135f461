"""A second variational autoencoder, trained on z, as the prior."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.core.initializers import Constant
from keras_vae.core.numerics import inverse_scale, positive_scale
from keras_vae.core.seeds import fold, seed_tensor
from keras_vae.priors.base import Infer, Prior, serializable

tfd = tfp.distributions

# Samples of u per z in a step of `fit`: with many, noise swamps the gradient of q(u|z).
_FIT_SAMPLES = 4
# Resolution of the sum over a batch of z; differences in rounding hardly ever reach it.
_RESOLUTION = 64.0


class Network(keras.layers.Layer):
    """A perceptron that ends in an affine map of its last hidden layer and its input.

    y = W [h(v), v] + b

    Args:
        units: Number of outputs.
        hidden_units: Width of each hidden layer.
        activation: Activation of the hidden layers.
        **kwargs: Passed on to `keras.layers.Layer`.

    References:
        Dai & Wipf, 2019, appendix B (the skip connection), arXiv:1903.05789.
    """

    def __init__(
        self,
        units: int,
        hidden_units: Sequence[int],
        activation: Callable,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.hidden = [
            keras.layers.Dense(width, activation, dtype=self.dtype_policy) for width in hidden_units
        ]
        self.out = keras.layers.Dense(units, dtype=self.dtype_policy)

    def build(self, input_shape: Sequence[int | None]) -> None:
        width = size = int(input_shape[-1] or 0)
        for layer in self.hidden:
            layer.build((None, width))
            width = int(layer.units)
        self.out.build((None, width + size))

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        hidden = inputs
        for layer in self.hidden:
            hidden = layer(hidden)
        return self.out(tf.concat([hidden, inputs], axis=-1))


@serializable
class TwoStage(Prior):
    """A second variational autoencoder with z as its data.

    p(z) = int N(u; 0, I) N(z; f(u), gamma^2 I) du
    log_prob(z) = log 1/K sum_k N(z; f(u_k), gamma^2 I) N(u_k; 0, I) / q(u_k|z),  u_k ~ q(u|z)

    f and the diagonal normal q(u|z) are perceptrons, gamma is learned, and u has the size of z. A
    draw takes one pass through f. The density is an estimate: it is unbiased for p(z), and
    therefore a lower bound for log p(z) in expectation. In the model's importance weights, an
    unbiased p(z) gives an unbiased p(x), so that `log_likelihood` remains a lower bound of
    log p(x) in expectation. The bound becomes tighter as either number of samples grows.

    The noise of the estimate is determined by `seed` and the batch of z at which it is taken: the
    same tensor has the same densities, and tensors with different sums have independent noise in
    all their elements. Hence a learned prior, in `VAE(prior=TwoStage(D))`, gets new noise with
    every batch.

    Args:
        latent_dim: Number D of latent dimensions.
        hidden_units: Width of each hidden layer of both perceptrons.
        activation: Activation of both perceptrons: the name of a Keras activation, or a function.
        num_samples: Number K of samples of u for every z.
        seed: Seed of the noise of the density, an integer >= 0.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `TwoStageDistribution`, batch [], event [D].

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> prior = TwoStage(2, hidden_units=(16,))()
        >>> prior.log_prob(tf.zeros([5, 2])).shape, prior.sample(3, seed=[0, 1]).shape
        (TensorShape([5]), TensorShape([3, 2]))

    References:
        Dai & Wipf, 2019, section 4, arXiv:1903.05789; Burda et al., 2016, eq. 8, arXiv:1509.00519
        (the estimate).
    """

    def __init__(
        self,
        latent_dim: int,
        hidden_units: Sequence[int] = (128, 128),
        activation: str | Callable = "relu",
        num_samples: int = 32,
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(latent_dim, **kwargs)
        self.hidden_units = checks.sizes("hidden_units", hidden_units)
        self.activation = checks.activation("activation", activation)
        self.num_samples = checks.count("num_samples", num_samples)
        self.seed = checks.integer("seed", seed, minimum=0)
        self.encoder = self._network(2 * self.latent_dim, "encoder")
        self.decoder = self._network(self.latent_dim, "decoder")

    def _network(self, units: int, name: str) -> Network:
        return Network(
            units, self.hidden_units, self.activation, dtype=self.density_dtype, name=name
        )

    def build(
        self,
        encoder_input_shape: Sequence[int | None] | None = None,
        condition_shape: Sequence[int | None] | None = None,
    ) -> None:
        """Builds the perceptrons and creates gamma, which starts at one; needs no shape."""
        self.encoder.build((None, self.latent_dim))
        self.decoder.build((None, self.latent_dim))
        unit = Constant(inverse_scale(1.0))
        self.raw_gamma = self.add_density_weight((), unit, "raw_gamma")

    @property
    def gamma(self) -> tf.Tensor:
        """The scale of p(z|u), the same in all dimensions: Tensor `[]`."""
        return positive_scale(self.to_density(self.raw_gamma))

    def posterior(self, z: tf.Tensor) -> tfd.Distribution:
        """Returns q(u|z), with batch [B] and event [D], for z `[B, D]`."""
        loc, raw = tf.split(self.encoder(z), 2, axis=-1)
        return tfd.MultivariateNormalDiag(loc, positive_scale(raw + inverse_scale(1.0)))

    def likelihood(self, u: tf.Tensor) -> tfd.Distribution:
        """Returns p(z|u), with batch [..., B] and event [D], for u `[..., B, D]`."""
        loc = self.decoder(u)
        return tfd.MultivariateNormalDiag(loc, self.gamma * tf.ones_like(loc))

    def estimate(self, z: tf.Tensor, num_samples: int, seed: tf.Tensor) -> tf.Tensor:
        """Returns the log of an unbiased estimate of p(z): Tensor `[B]`, nats.

        Args:
            z: Tensor `[B, D]`.
            num_samples: Number K of samples of u for every z.
            seed: Stateless seed `[2]` of their noise.
        """
        q = self.posterior(z)
        shape = tf.concat([[num_samples], tf.shape(z)], axis=0)
        # Drawn in float32 for every dtype, so that the estimate is the same except for rounding.
        noise = self.to_density(tfd.Normal(0.0, 1.0).sample(shape, seed=seed))
        noise.set_shape([num_samples, *z.shape])
        u = q.mean() + q.stddev() * noise  # [K, B, D]
        p_u = tfd.MultivariateNormalDiag(tf.zeros_like(u), tf.ones_like(u))
        log_w = self.likelihood(u).log_prob(z) + p_u.log_prob(u) - q.log_prob(u)  # [K, B]
        return tf.reduce_logsumexp(log_w, axis=0) - math.log(num_samples)

    def fit_log_prob(self, z: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Returns the importance-weighted bound on log p(z) with few samples, `[B]`."""
        return self.estimate(z, _FIT_SAMPLES, seed)

    def call(
        self, condition: tf.Tensor | None = None, infer: Infer | None = None
    ) -> TwoStageDistribution:
        """Returns p(z), whatever the arguments."""
        return TwoStageDistribution(self)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "hidden_units": self.hidden_units,
            "activation": keras.activations.serialize(self.activation),
            "num_samples": self.num_samples,
            "seed": self.seed,
        }


class TwoStageDistribution(tfd.Distribution):
    """p(z) of a `TwoStage` prior: `sample` is exact, `log_prob` is an estimate.

    Args:
        prior: The prior.
    """

    def __init__(self, prior: TwoStage):
        parameters = {"prior": prior}
        self._prior = prior
        super().__init__(
            dtype=tf.as_dtype(prior.density_dtype),
            reparameterization_type=tfd.FULLY_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name="TwoStage",
        )

    def _batch_shape_tensor(self) -> tf.Tensor:
        return tf.constant([], tf.int32)

    def _batch_shape(self) -> tf.TensorShape:
        return tf.TensorShape([])

    def _event_shape_tensor(self) -> tf.Tensor:
        return tf.constant(self._prior.event_shape, tf.int32)

    def _event_shape(self) -> tf.TensorShape:
        return tf.TensorShape(self._prior.event_shape)

    def _sample_n(self, n: tf.Tensor, seed: Any = None) -> tf.Tensor:
        first, second = tfp.random.split_seed(seed, n=2, salt="TwoStage")
        zeros = tf.zeros(self._prior.event_shape, self.dtype)
        u = tfd.MultivariateNormalDiag(zeros, tf.ones_like(zeros)).sample(n, seed=first)
        return self._prior.likelihood(u).sample(seed=second)

    def _log_prob(self, z: tf.Tensor) -> tf.Tensor:
        rows = tf.reshape(z, [-1, self._prior.latent_dim])
        values = self._prior.estimate(rows, self._prior.num_samples, self._seed_of(rows))
        values = tf.reshape(values, tf.shape(z)[:-1])
        values.set_shape(z.shape[:-1])
        return values

    def _seed_of(self, z: tf.Tensor) -> tf.Tensor:
        """Returns the seed of a batch: equal noise in all batches would not average out."""
        total = tf.clip_by_value(_RESOLUTION * tf.reduce_sum(z), -(2.0**30), 2.0**30)
        return fold(seed_tensor(self._prior.seed), tf.round(tf.stop_gradient(total)))
