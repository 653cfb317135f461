"""Several groups of latent variables, drawn one after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.core.head import Head
from keras_vae.core.numerics import positive_scale
from keras_vae.distributions.groups import Choose, GroupedDistribution, Walked
from keras_vae.distributions.normal import MultivariateNormalDiag, normal_projections

tfd = tfp.distributions

Conditional = Callable[[tf.Tensor], tfd.Distribution]


class Chain(GroupedDistribution):
    """A flat vector z of groups, each drawn given the one drawn before it.

    log p(z) = log p(g_1) + sum_l log p(g_l | g_{l-1}),  z = [g_1, ..., g_L] or [g_L, ..., g_1]

    Draws carry gradients, including from one group to the next.

    Args:
        first: Distribution of g_1, batch [...] and event [D_1].
        conditionals: Functions from g_{l-1} `[..., D_{l-1}]` to the distribution of g_l, batch
            [...], in the order in which the groups are drawn.
        sizes: Numbers of dimensions of the groups, in their order within z.
        reverse: Whether the group that is drawn first comes last in z.

    Example:
        >>> first = tfd.MultivariateNormalDiag([0.0], [1.0])
        >>> chain = Chain(first, [lambda g: tfd.MultivariateNormalDiag(g, [0.1])], sizes=(1, 1))
        >>> chain.sample(5, seed=[0, 1]).shape
        TensorShape([5, 2])
        >>> round(float(chain.log_prob([0.0, 0.0])), 4)  # log 10 - log 2 pi
        0.4647
    """

    def __init__(
        self,
        first: tfd.Distribution,
        conditionals: Sequence[Conditional],
        sizes: Sequence[int],
        reverse: bool = False,
        name: str = "Chain",
    ):
        parameters = dict(locals())
        self._first = first
        self._conditionals = tuple(conditionals)
        self._reverse = reverse
        super().__init__(sizes, first.dtype, parameters, name)

    def _batch_shape(self) -> tf.TensorShape:
        return self._first.batch_shape

    def _batch_shape_tensor(self, **unused: Any) -> tf.Tensor:
        return self._first.batch_shape_tensor()

    @property
    def order(self) -> tuple[int, ...]:
        positions = super().order
        return positions[::-1] if self._reverse else positions

    def walk(self, choose: Choose) -> Walked:
        p = self._first
        walked: dict[int, tuple[tfd.Distribution, tf.Tensor]] = {}
        for position, conditional in zip(self.order, (*self._conditionals, None), strict=True):
            value = choose(position, p)
            walked[position] = p, value
            if conditional is not None:
                p = conditional(value)
        return [walked[position] for position in range(len(walked))]


class ConditionalNormal(Head):
    """A normal with independent dimensions and parameters computed by a perceptron.

    p(g|h) = N(g; mu, diag(sigma)^2), mu = W f(h) + b, sigma = softplus(V f(h) + c) + floor

    Args:
        units: Number of dimensions of g.
        hidden: Width of each hidden layer of f; without one, f(h) = h.
        activation: Activation of the hidden layers.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.MultivariateNormalDiag`, batch [...], for h `[..., H]`.

    Example:
        >>> ConditionalNormal(2, (8,), "tanh")(tf.zeros([5, 3, 4])).batch_shape
        TensorShape([5, 3])
    """

    def __init__(
        self, units: int, hidden: Sequence[int], activation: str | Callable, **kwargs: Any
    ):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.hidden = [keras.layers.Dense(width, activation, dtype=policy) for width in hidden]
        self.loc, self.raw_scale = normal_projections(units, policy)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Builds all layers for inputs `[..., H]`."""
        width = input_shape[-1]
        for layer in self.hidden:
            layer.build((None, width))
            width = layer.units
        self.loc.build((None, width))
        self.raw_scale.build((None, width))

    def call(self, inputs: tf.Tensor) -> tfd.MultivariateNormalDiag:
        """Returns p(g|h)."""
        features = tf.reshape(inputs, [-1, inputs.shape[-1]])  # Dense layers need a batch axis.
        for layer in self.hidden:
            features = layer(features)
        shape = [*inputs.shape[:-1], self.loc.units]
        loc, raw_scale = (
            _reshaped(self.to_density(layer(features)), tf.shape(inputs)[:-1], shape)
            for layer in (self.loc, self.raw_scale)
        )
        return MultivariateNormalDiag(loc, scale_diag=positive_scale(raw_scale))


def _reshaped(rows: tf.Tensor, leading: tf.Tensor, shape: Sequence[int | None]) -> tf.Tensor:
    """Returns rows `[N, U]` as `[*leading, U]`, with the static shape as far as it is known."""
    values = tf.reshape(rows, tf.concat([leading, shape[-1:]], axis=0))
    values.set_shape(shape)
    return values


def _checked_hidden(hidden: Any, count: int) -> tuple[tuple, list[tuple[int, ...]]]:
    """Returns the argument `hidden` as tuples, and the widths of each of the conditionals."""
    if not isinstance(hidden, (list, tuple)) or not any(
        isinstance(entry, (list, tuple)) for entry in hidden
    ):
        widths = _checked_widths(hidden)
        return widths, [widths] * count
    each = [_checked_widths(entry) for entry in hidden]
    if len(each) != count:
        rule = f"must hold widths for all, or for each of the {count} conditionals"
        raise checks.invalid("hidden", rule, hidden)
    return tuple(each), each


def _checked_widths(widths: Any) -> tuple[int, ...]:
    empty = isinstance(widths, (list, tuple)) and not widths
    return () if empty else checks.sizes("hidden", widths)


class NormalChain(Head):
    """The conditionals of a chain of normals, without the distribution of the first group drawn.

    Args:
        latent_dims: Numbers of dimensions of z1, z2, ..., in their order within z.
        hidden: Widths of the hidden layers of every conditional; `()` makes them linear.
            Alternatively, such widths for each conditional, the one nearest to x first.
        activation: Name of a Keras activation, or a function.
        reverse: Whether the last group is drawn first.
        **kwargs: Passed on to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is not as above.

    Example:
        >>> chain = NormalChain((3, 2), (8,), "tanh")
        >>> chain.build()
        >>> first = tfd.MultivariateNormalDiag(tf.zeros([4, 3]), tf.ones([4, 3]))
        >>> chain.distribution(first).event_shape
        TensorShape([5])
    """

    def __init__(
        self,
        latent_dims: Sequence[int],
        hidden: Sequence[Any],
        activation: str | Callable,
        reverse: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.latent_dims = checks.sizes("latent_dims", latent_dims)
        self.hidden, each = _checked_hidden(hidden, len(self.latent_dims) - 1)
        self.activation = checks.activation("activation", activation)
        self.reverse = reverse
        self.conditionals = [
            ConditionalNormal(units, widths, self.activation, dtype=self.dtype_policy)
            for units, widths in zip(
                self._drawn_dims[1:], each[::-1] if reverse else each, strict=True
            )
        ]

    @property
    def _drawn_dims(self) -> tuple[int, ...]:
        return self.latent_dims[::-1] if self.reverse else self.latent_dims

    @property
    def latents(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the groups by name, in their order within z."""
        return {f"z{number}": (size,) for number, size in enumerate(self.latent_dims, start=1)}

    def build(self, input_shape: Sequence[int | None] | None = None) -> None:
        """Builds the conditionals; needs no shape."""
        for layer, size in zip(self.conditionals, self._drawn_dims, strict=False):
            layer.build((None, size))

    def distribution(self, first: tfd.Distribution) -> Chain:
        """Returns the distribution of z, given that of the first group drawn."""
        return Chain(first, self.conditionals, self.latent_dims, self.reverse)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments that a head takes for its chain, as `get_config` returns them."""
        activation = keras.activations.serialize(self.activation)
        return {"latent_dims": self.latent_dims, "hidden": self.hidden, "activation": activation}
