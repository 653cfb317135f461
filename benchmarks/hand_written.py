"""A VAE and its training step written by hand in plain TensorFlow, compiled by XLA as a whole.

It is what a package can hope to reach: layers of Keras for the weights, formulas written out, Adam
of Keras, one function with `jit_compile=True` for noise, loss, gradients, step and logs. Nothing is
checked, nothing can be driven, and no other distribution can take the place of these: the posterior
is a diagonal normal, the prior a standard normal, the likelihood of Bernoulli variables.

Adam by hand was tried, and is not faster. The generator of noise has a name because the one that
XLA chooses takes more than ten times as long.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import keras
import tensorflow as tf

IMAGE = (28, 28, 1)
SCALE_FLOOR, SCALE_CEILING = 1e-4, 1e4
MEASURES = ("loss", "elbo", "reconstruction", "kl")


def mlp() -> tuple[keras.Sequential, keras.Sequential]:
    """Returns encoder and decoder of Burda et al., 2016: x to features, z to logits."""
    dense = keras.layers.Dense
    encoder = [keras.layers.Flatten(), dense(200, "tanh"), dense(200, "tanh")]
    decoder = [dense(200, "tanh"), dense(200, "tanh"), dense(math.prod(IMAGE), use_bias=False)]
    return keras.Sequential(encoder), keras.Sequential([*decoder, keras.layers.Reshape(IMAGE)])


def convolutional() -> tuple[keras.Sequential, keras.Sequential]:
    """Returns encoder and decoder of `examples/mnist_5k.py`."""
    layers = keras.layers
    options = {"kernel_size": 4, "strides": 2, "padding": "same"}
    encoder = [layers.Conv2D(filters, activation="relu", **options) for filters in (32, 64)]
    encoder += [layers.Flatten(), layers.Dense(256, "relu")]
    decoder = [layers.Dense(256, "relu"), layers.Dense(7 * 7 * 64, "relu")]
    decoder += [
        layers.Reshape((7, 7, 64)),
        layers.Conv2DTranspose(32, activation="relu", **options),
    ]
    decoder += [layers.Conv2DTranspose(1, use_bias=False, **options)]
    return keras.Sequential(encoder), keras.Sequential(decoder)


NETWORKS = {"mlp": (mlp, 50), "conv": (convolutional, 16)}


class HandWritten:
    """A VAE of binary digits, its weights, its optimizer and the sums for its logs.

    The loss is the negative ELBO with the KL in closed form for K = 1, else -L_K.

    Args:
        network: Name of one of `NETWORKS`.
        num_samples: K.
        jit_compile: Whether XLA compiles the step.

    Attributes:
        variables: Weights of the encoder, of the projection to mu and raw sigma, of the decoder,
            and the bias of the logits.
    """

    def __init__(self, network: str, num_samples: int, jit_compile: bool = True):
        make, self.latent_dim = NETWORKS[network]
        self.num_samples = num_samples
        self.encoder, self.decoder = make()
        self.encoder.build((None, *IMAGE))
        self.decoder.build((None, self.latent_dim))
        # One product for both parameters of q(z|x).
        self.projection = keras.layers.Dense(2 * self.latent_dim)
        self.projection.build(self.encoder.output_shape)
        self.bias = keras.Variable(tf.zeros(IMAGE), name="bias")
        layers = (self.encoder, self.projection, self.decoder)
        self.variables = [v for layer in layers for v in layer.trainable_variables] + [self.bias]
        self.optimizer = keras.optimizers.Adam()
        self.optimizer.build(self.variables)
        self._sums = tf.Variable(tf.zeros(len(MEASURES) + 1))
        self._step = tf.function(self._make_step, jit_compile=jit_compile, autograph=False)

    def epoch(self, data: Iterable[tf.Tensor]) -> dict[str, float]:
        """Trains on all batches, and returns the means of the measures."""
        self._sums.assign(tf.zeros_like(self._sums))
        for x in data:
            self._step(x)
        *sums, count = self._sums.numpy().tolist()
        return {name: total / count for name, total in zip(MEASURES, sums, strict=True)}

    def measures(self, x: tf.Tensor, noise: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Returns loss, ELBO, reconstruction and KL, each `[B]`, in nats.

        Args:
            x: Binary images `[B, 28, 28, 1]`.
            noise: Standard normal `[K, B, D]`.
        """
        loc, raw_scale = tf.split(self.projection(self.encoder(x)), 2, axis=-1)  # [B, D]
        scale = tf.minimum(tf.math.softplus(raw_scale) + SCALE_FLOOR, SCALE_CEILING)
        z = loc + scale * noise  # [K, B, D]
        logits = self.decoder(tf.reshape(z, [-1, self.latent_dim])) + self.bias
        # The cross-entropy of sigmoid(logits), over one axis and without `tf.math.softplus`, whose
        # loops XLA makes slower.
        logits = tf.reshape(logits, [self.num_samples, x.shape[0], math.prod(IMAGE)])
        x = tf.reshape(x, [-1, math.prod(IMAGE)])
        size = tf.abs(logits)
        softplus = 0.5 * (logits + size) + tf.math.log(1.0 + tf.exp(-size))
        log_p_x = tf.reduce_sum(x * logits - softplus, axis=-1)  # [K, B]
        log_scale = tf.math.log(scale)
        kl = 0.5 * (tf.square(scale) + tf.square(loc) - 1.0) - log_scale
        kl = tf.reduce_sum(kl, axis=-1)  # [B]
        reconstruction = -tf.reduce_mean(log_p_x, axis=0)
        elbo = -reconstruction - kl
        if self.num_samples == 1:
            return -elbo, elbo, reconstruction, kl
        # log p(z) - log q(z|x), where log(2 pi) / 2 cancels.
        ratio = 0.5 * (tf.square(noise) - tf.square(z)) + log_scale
        log_w = log_p_x + tf.reduce_sum(ratio, axis=-1)
        bound = tf.reduce_logsumexp(log_w, axis=0) - math.log(self.num_samples)
        return -bound, elbo, reconstruction, kl

    def advance(self, x: tf.Tensor, noise: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Makes a step with given noise, and returns the measures before it."""
        with tf.GradientTape() as tape:
            measures = self.measures(x, noise)
            loss = tf.reduce_mean(measures[0])
        self.optimizer.apply(tape.gradient(loss, self.variables), self.variables)
        return measures

    def _make_step(self, x: tf.Tensor) -> None:
        seed = tf.stack([tf.cast(self.optimizer.iterations.value, tf.int32), 0])
        noise_shape = [self.num_samples, x.shape[0], self.latent_dim]
        measures = self.advance(x, tf.random.stateless_normal(noise_shape, seed, alg="philox"))
        count = tf.cast(x.shape[0], tf.float32)
        self._sums.assign_add(tf.stack([*(tf.reduce_sum(m) for m in measures), count]))


def operations_per_example(model: HandWritten) -> int:
    """Returns the floating-point operations of the matrix products of a step, for an example.

    2 (K decoder + encoder) multiply-adds x 3: forward, gradient of the weights, of the input.
    The first layer has no gradient of its input, which is x.
    """
    first, *others = [_multiply_adds(layer) for layer in model.encoder.layers if layer.weights]
    encoder = 2 * first + 3 * (sum(others) + _multiply_adds(model.projection))
    decoder = 3 * sum(_multiply_adds(layer) for layer in model.decoder.layers)
    return 2 * (encoder + model.num_samples * decoder)


def _multiply_adds(layer: keras.layers.Layer) -> int:
    """Returns the multiply-adds of a layer for one example, without those of the bias."""
    if not layer.weights:
        return 0
    times = math.prod(layer.kernel.shape)
    if isinstance(layer, keras.layers.Conv2D):
        return times * math.prod(layer.output.shape[1:3])
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return times * math.prod(layer.input.shape[1:3])
    return times
