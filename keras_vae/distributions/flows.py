"""Autoregressive flows: a masked network, and the bijector that it parameterizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.core.head import serializable

# Bounds of one step, approached smoothly: exp(5) is a scale of 148, and no sum can overflow.
SHIFT_BOUND = 100.0
LOG_SCALE_BOUND = 5.0


@serializable
class MaskedDense(keras.layers.Layer):
    """A dense layer in which unit j sees input i only if its degree is at least that of i.

    y = activation(x (W * M) + b), M_ij = [out_degrees_j >= in_degrees_i]

    Args:
        in_degrees: Degree of each input.
        out_degrees: Degree of each unit.
        activation: Name of a Keras activation, or a function.
        kernel_scale: Variance scale of the initial kernel; 1 gives Glorot's initializer.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        Tensor `[..., U]` for inputs `[..., I]`.

    Example:
        >>> layer = MaskedDense(in_degrees=(1, 2), out_degrees=(1, 1, 2))
        >>> layer.build((None, 2))
        >>> layer.mask.tolist()
        [[1.0, 1.0, 1.0], [0.0, 0.0, 1.0]]

    References:
        Germain et al., 2015, eq. 8, arXiv:1502.03509.
    """

    def __init__(
        self,
        in_degrees: Sequence[int],
        out_degrees: Sequence[int],
        activation: str | Callable | None = None,
        kernel_scale: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.in_degrees, self.out_degrees = tuple(in_degrees), tuple(out_degrees)
        self.activation = checks.activation("activation", activation)
        self.kernel_scale = checks.number("kernel_scale", kernel_scale, 0.0, exclusive=True)

    @property
    def mask(self) -> np.ndarray:
        """The inputs that each unit sees: `[I, U]` of zeros and ones."""
        allowed = np.greater_equal(self.out_degrees, np.array(self.in_degrees)[:, np.newaxis])
        return allowed.astype("float64")

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Creates the kernel and the bias."""
        shape = (len(self.in_degrees), len(self.out_degrees))
        initializer = keras.initializers.VarianceScaling(self.kernel_scale, "fan_avg", "uniform")
        self.kernel = self.add_weight(shape=shape, initializer=initializer, name="kernel")
        self.bias = self.add_weight(shape=shape[1:], initializer="zeros", name="bias")

    def call(self, inputs: tf.Tensor, added: tf.Tensor | None = None) -> tf.Tensor:
        """Returns the outputs; `added` is broadcast and added before the activation."""
        mask = tf.constant(self.mask, self.compute_dtype)
        outputs = keras.ops.matmul(inputs, self.kernel * mask) + self.bias
        return self.activation(outputs if added is None else outputs + added)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "in_degrees": self.in_degrees,
            "out_degrees": self.out_degrees,
            "activation": keras.activations.serialize(self.activation),
            "kernel_scale": self.kernel_scale,
        }


@serializable
class AutoregressiveNetwork(keras.layers.Layer):
    """A masked network: shift and log-scale of dimension d depend only on the dimensions before d.

    shift_d, log_scale_d = f(z_1, ..., z_{d-1}; context), both bounded, both near zero at the start

    Args:
        event_size: Number D of dimensions.
        hidden_units: Width of each hidden layer.
        activation: Name of a Keras activation, or a function.
        reverse: Whether the order of the dimensions is D, ..., 1 instead of 1, ..., D.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        Tensors `shift` and `log_scale`, each `[..., D]`, for inputs `[..., D]` and, optionally, a
        context `[B, C]` that is broadcast over the axes on the left of `[B, D]`.

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> network = AutoregressiveNetwork(3, (16,))
        >>> shift, log_scale = network(tf.zeros([5, 2, 3]), tf.zeros([2, 4]))
        >>> shift.shape
        TensorShape([5, 2, 3])

    References:
        Germain et al., 2015, arXiv:1502.03509; with a context: Papamakarios et al., 2017, section
        3.4, arXiv:1705.07057.
    """

    def __init__(
        self,
        event_size: int,
        hidden_units: Sequence[int] = (128, 128),
        activation: str | Callable = "relu",
        reverse: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.event_size = checks.integer("event_size", event_size)
        self.hidden_units = checks.sizes("hidden_units", hidden_units)
        self.activation = checks.activation("activation", activation)
        self.reverse = checks.flag("reverse", reverse)

    def build(
        self,
        inputs_shape: Sequence[int | None],
        context_shape: Sequence[int | None] | None = None,
    ) -> None:
        """Creates the masked layers and, if there is a context, its projection."""
        degrees = self._degrees(has_context=context_shape is not None)
        policy, activation = self.dtype_policy, self.activation
        self.hidden = [
            MaskedDense(before, after, activation, dtype=policy)
            for before, after in zip(degrees[:-2], degrees[1:-1], strict=True)
        ]
        # A small kernel: the flow starts near the identity, but every weight has a gradient.
        before, after = degrees[-2:]
        self.shift = MaskedDense(before, after, kernel_scale=1e-4, dtype=policy)
        self.log_scale = MaskedDense(before, after, kernel_scale=1e-4, dtype=policy)
        for layer in (*self.hidden, self.shift, self.log_scale):
            layer.build((None, len(layer.in_degrees)))
        if context_shape is not None:
            self.context = keras.layers.Dense(self.hidden_units[0], use_bias=False, dtype=policy)
            self.context.build(tuple(context_shape))

    def _degrees(self, has_context: bool) -> list[list[int]]:
        """Returns the degrees of inputs, hidden layers and outputs.

        A hidden unit of degree m sees the first m dimensions, and output d sees the units of degree
        < d. Units of degree 0 see only the context, so they are useful only if there is one.
        """
        size = self.event_size
        lowest = 0 if has_context or size == 1 else 1
        inputs = np.arange(1, size + 1)
        if self.reverse:
            inputs = inputs[::-1]
        spread = [np.linspace(lowest, size - 1, units).round() for units in self.hidden_units]
        return [degrees.astype(int).tolist() for degrees in (inputs, *spread, inputs - 1)]

    def call(
        self, inputs: tf.Tensor, context: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns shift and log-scale."""
        added = None if context is None else self.context(context)
        hidden = self.hidden[0](inputs, added)
        for layer in self.hidden[1:]:
            hidden = layer(hidden)
        shift = _bound(self.shift(hidden), SHIFT_BOUND)
        return shift, _bound(self.log_scale(hidden), LOG_SCALE_BOUND)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "event_size": self.event_size,
            "hidden_units": self.hidden_units,
            "activation": keras.activations.serialize(self.activation),
            "reverse": self.reverse,
        }


def _bound(raw: tf.Tensor, limit: float) -> tf.Tensor:
    """Returns `raw` squeezed into (-limit, limit), hardly changed near zero."""
    return limit * tf.tanh(raw / limit)


class AutoregressiveBijector(tfp.bijectors.Bijector):
    """The map u -> z of a masked autoregressive flow, with a context.

    z_d = shift_d(z_{<d}) + exp(log_scale_d(z_{<d})) u_d

    The inverse takes one pass through the network, and the forward map takes D passes. Unlike TFP's
    `MaskedAutoregressiveFlow`, it broadcasts u against the context, so that a mixture can evaluate
    `[S, 1, D]` under a batch of K flows; and the inverse and the log-determinant share one pass.

    Args:
        network: Maps z `[..., D]` and the context to shift and log-scale, each `[..., D]`.
        context: Tensor `[B, C]`, or None.
        name: Name of the bijector.
    """

    def __init__(
        self,
        network: Callable[..., tuple[tf.Tensor, tf.Tensor]],
        context: tf.Tensor | None = None,
        name: str = "autoregressive",
    ):
        # TFP shares its cache of inverses among bijectors with equal parameters. An earlier
        # bijector of this network may have used other weights, so no two of them may be equal.
        parameters = {**dict(locals()), "instance": object()}
        super().__init__(forward_min_event_ndims=1, parameters=parameters, name=name)
        self._network = network
        self._context = context
        self._last: tuple[Any, Any] = (None, None)

    @classmethod
    def _parameter_properties(cls, dtype: Any) -> dict:
        return {}

    def _shift_and_log_scale(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # Compare by identity, as TFP's own cache of forward and inverse values does.
        if self._last[0] is not z:
            self._last = (z, self._network(z, context=self._context))
        return self._last[1]

    def _forward(self, u: tf.Tensor) -> tf.Tensor:
        start = tf.zeros_like(u)
        if self._context is not None:
            start += tf.zeros_like(self._context[..., :1])

        def step(z: tf.Tensor) -> tuple[tf.Tensor]:
            shift, log_scale = self._network(z, context=self._context)
            return (shift + tf.exp(log_scale) * u,)

        # After d rounds, the first d dimensions are correct, whatever the others were.
        rounds = u.shape[-1]
        (z,) = tf.while_loop(lambda _: True, step, (start,), maximum_iterations=rounds)
        return z

    def _inverse(self, z: tf.Tensor) -> tf.Tensor:
        shift, log_scale = self._shift_and_log_scale(z)
        return (z - shift) * tf.exp(-log_scale)

    def _inverse_log_det_jacobian(self, z: tf.Tensor) -> tf.Tensor:
        return -tf.reduce_sum(self._shift_and_log_scale(z)[1], axis=-1)


def autoregressive_networks(event_size: int, num_flows: int, **kwargs: Any) -> list:
    """Returns the networks of a chain of flows, with the dimensions reversed at every step.

    Args:
        event_size: Number D of dimensions.
        num_flows: Number of steps.
        **kwargs: Passed on to `AutoregressiveNetwork`.
    """
    steps = range(checks.integer("num_flows", num_flows))
    return [AutoregressiveNetwork(event_size, reverse=k % 2 == 1, **kwargs) for k in steps]


def masked_autoregressive_flow(
    networks: Sequence[AutoregressiveNetwork], context: tf.Tensor | None = None
) -> tfp.bijectors.Bijector:
    """Returns the bijector u -> z with steps parameterized by the networks, in their order.

    It is fast from z to u and slow from u to z; its `tfb.Invert` is an inverse autoregressive flow.

    Args:
        networks: One network for each step.
        context: Tensor `[B, C]`, or None.

    Returns:
        `tfb.Bijector` on events `[D]`.

    Example:
        >>> flow = masked_autoregressive_flow(autoregressive_networks(2, num_flows=3))
        >>> flow.forward(tf.zeros([4, 2])).shape
        TensorShape([4, 2])

    References:
        Papamakarios et al., 2017, arXiv:1705.07057; Kingma et al., 2016, arXiv:1606.04934.
    """
    steps = [AutoregressiveBijector(network, context) for network in reversed(networks)]
    return tfp.bijectors.Chain(steps)
