"""A VAE and its training step written by hand in JAX, as `hand_written.py` is in TensorFlow.

One `jax.jit` for everything: gathering the batch from an array in memory, noise, loss, gradients,
Adam of optax and the sums for the logs, with all buffers donated. The generator of noise is "rbg",
whose numbers XLA draws by Philox on a CPU; the default of JAX takes longer. JAX has no option for
the number of threads, and uses the cores that the process may use.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.peers import serving

Weights = list[jax.Array]

# Kernels and biases of the encoder, of the projection to mu and raw sigma and of the decoder, in
# the order and layout of `HandWritten.variables`. The last bias is that of the logits.
SHAPES = {
    "mlp": [(784, 200), (200,), (200, 200), (200,), (200, 100), (100,)]
    + [(50, 200), (200,), (200, 200), (200,), (200, 784), (784,)],
    "conv": [(4, 4, 1, 32), (32,), (4, 4, 32, 64), (64,), (3136, 256), (256,), (256, 32), (32,)]
    + [(16, 256), (256,), (256, 3136), (3136,), (4, 4, 32, 64), (32,), (4, 4, 1, 32), (784,)],
}


def mlp_encoder(weights: Weights, x: jax.Array) -> jax.Array:
    """Returns mu and raw sigma, `[B, 2 D]`."""
    for kernel, bias in (weights[:2], weights[2:4]):
        x = jnp.tanh(x @ kernel + bias)
    return x @ weights[4] + weights[5]


def mlp_decoder(weights: Weights, z: jax.Array) -> jax.Array:
    """Returns logits, `[B, 784]`."""
    for kernel, bias in (weights[6:8], weights[8:10]):
        z = jnp.tanh(z @ kernel + bias)
    return z @ weights[10] + weights[11]


def conv_encoder(weights: Weights, x: jax.Array) -> jax.Array:
    """Returns mu and raw sigma, `[B, 2 D]`."""
    x = x.reshape(-1, 28, 28, 1)
    layout = ("NHWC", "HWIO", "NHWC")
    for kernel, bias in (weights[:2], weights[2:4]):
        x = jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=layout)
        x = jax.nn.relu(x + bias)
    x = jax.nn.relu(x.reshape(-1, 3136) @ weights[4] + weights[5])
    return x @ weights[6] + weights[7]


def conv_decoder(weights: Weights, z: jax.Array) -> jax.Array:
    """Returns logits, `[B, 784]`."""
    for kernel, bias in (weights[8:10], weights[10:12]):
        z = jax.nn.relu(z @ kernel + bias)
    x = jax.nn.relu(_transposed(z.reshape(-1, 7, 7, 64), weights[12]) + weights[13])
    return _transposed(x, weights[14]).reshape(-1, 784) + weights[15]


def _transposed(x: jax.Array, kernel: jax.Array) -> jax.Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_transpose(
        x, kernel, (2, 2), "SAME", dimension_numbers=layout, transpose_kernel=True
    )


NETWORKS = {"mlp": (mlp_encoder, mlp_decoder, 50), "conv": (conv_encoder, conv_decoder, 16)}


def measures(network: str, weights: Weights, x: jax.Array, noise: jax.Array) -> jax.Array:
    """Returns the means of loss, ELBO, reconstruction and KL, `[4]`, in nats.

    Args:
        network: Name of one of `NETWORKS`.
        weights: Of shapes `SHAPES[network]`.
        x: Binary images `[B, 784]`.
        noise: Standard normal `[K, B, D]`.
    """
    encode, decode, latent_dim = NETWORKS[network]
    num_samples = len(noise)
    loc, raw_scale = jnp.split(encode(weights, x), 2, axis=-1)  # [B, D]
    scale = jax.nn.softplus(raw_scale) + serving.SCALE_FLOOR
    scale = jnp.minimum(scale, serving.SCALE_CEILING)
    z = loc + scale * noise  # [K, B, D]
    logits = decode(weights, z.reshape(-1, latent_dim)).reshape(num_samples, -1, 784)
    # As in `hand_written.py`, for the sake of XLA.
    size = jnp.abs(logits)
    softplus = 0.5 * (logits + size) + jnp.log(1.0 + jnp.exp(-size))
    log_p_x = jnp.sum(x * logits - softplus, axis=-1)  # [K, B]
    log_scale = jnp.log(scale)
    kl = jnp.sum(0.5 * (scale**2 + loc**2 - 1.0) - log_scale, axis=-1)  # [B]
    reconstruction = -jnp.mean(log_p_x, axis=0)
    elbo = -reconstruction - kl
    loss = -elbo
    if num_samples > 1:
        log_w = log_p_x + jnp.sum(0.5 * (noise**2 - z**2) + log_scale, axis=-1)
        loss = math.log(num_samples) - jax.nn.logsumexp(log_w, axis=0)
    return jnp.stack([loss, elbo, reconstruction, kl]).mean(axis=-1)


class JaxStep:
    """A model, its optimizer and its data.

    Args:
        images: `[N, 784]`.
        row: What is trained.
    """

    def __init__(self, images: np.ndarray, row: serving.Row):
        self.images, self.row = jnp.asarray(images), row
        self.noise_shape = (row.num_samples, row.batch_size, NETWORKS[row.network][2])
        self.measures = functools.partial(measures, row.network)
        shapes = SHAPES[row.network]
        self.optimizer = optax.adam(serving.LEARNING_RATE, eps=serving.EPSILON)
        initial = jax.nn.initializers.glorot_uniform()
        *keys, self.key = jax.random.split(jax.random.key(0, impl="rbg"), len(shapes) + 1)
        self.state = self._initial_state(
            [
                initial(key, shape) if len(shape) > 1 else jnp.zeros(shape)
                for key, shape in zip(keys, shapes, strict=True)
            ]
        )
        self._step = jax.jit(self._make_step, donate_argnums=0)
        self._advance = jax.jit(self._update, donate_argnums=0)

    def epoch(self) -> float:
        """Trains on all examples, and returns the mean loss."""
        carry = (self.state, self.key, jnp.zeros(4))
        batches = serving.shuffled(self.row)
        for index in batches:
            carry = self._step(carry, self.images, index)
        self.state, self.key, sums = carry
        return float(sums[0]) / len(batches)

    def losses(
        self, weights: list[np.ndarray], batches: np.ndarray, noise: np.ndarray
    ) -> list[float]:
        """Returns the loss before each of some given steps."""
        shapes = [weight.shape for weight in self.state[0]]
        pairs = zip(weights, shapes, strict=True)
        self.state = self._initial_state([jnp.asarray(w).reshape(shape) for w, shape in pairs])
        found = []
        for step in zip(batches, noise, strict=True):
            self.state, measured = self._advance(self.state, *step)
            found.append(float(measured[0]))
        return found

    def _initial_state(self, weights: Weights) -> tuple[Weights, Any]:
        return weights, self.optimizer.init(weights)

    def _make_step(self, carry: Any, images: jax.Array, index: jax.Array) -> Any:
        state, key, sums = carry
        key, drawn = jax.random.split(key)
        noise = jax.random.normal(drawn, self.noise_shape)
        state, measured = self._update(state, images[index], noise)
        return state, key, sums + measured

    def _update(self, state: Any, x: jax.Array, noise: jax.Array) -> tuple[Any, jax.Array]:
        weights, of_optimizer = state

        def loss(weights: Weights) -> tuple[jax.Array, jax.Array]:
            found = self.measures(weights, x, noise)
            return found[0], found

        gradients, found = jax.grad(loss, has_aux=True)(weights)
        updates, of_optimizer = self.optimizer.update(gradients, of_optimizer)
        return (optax.apply_updates(weights, updates), of_optimizer), found


if __name__ == "__main__":
    serving.main(__doc__, JaxStep)
