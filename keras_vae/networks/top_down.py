"""The pass from the top group of latent variables down to the parameters of p(x|z)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.head import Head, serializable
from keras_vae.distributions.top_down import Visit
from keras_vae.networks.bottom_up import checked_channels
from keras_vae.networks.cells import CellFactory, Pattern
from keras_vae.networks.latent_group import LatentGroup
from keras_vae.networks.output_bias import OutputBias
from keras_vae.networks.scales import Enlarge, Shape, by_scale, check_divides, on_maps

POSTERIORS = ("delta", "plain")


@serializable
class TopDown(Head):
    """Groups of latent maps at several scales, and the pass shared by inference and generation.

    s = s_0,  then for each group: z_l ~ p(z_l|s) or q(z_l|s, d),  s <- cells(s + U z_l)
    parameters of p(x|z) = W f(s) + bias

    The pass starts from a learned constant s_0 at the smallest scale, and moves on to the next
    scale when the groups of a scale are done. d are maps of the bottom-up network, through which x
    enters q and nothing else. The last state becomes patches of parameters, so that there is no
    convolution at the full size. The groups need a bottom-up network with the same scales:

        TopDown({1: (2, 16), 7: (3, 4), 14: (2, 2)})                # 28x28x1
        TopDown({1: (1, 32), 8: (4, 8), 16: (3, 4)})                # 32x32x3
        TopDown({1: (1, 32), 8: (3, 8), 16: (3, 4), 32: (1, 4)})    # 64x64x3

    Called on z `[N, D]`, the network returns the parameters of p(x|z).

    Args:
        groups: `{scale: (groups, channels)}`: at each scale, the number of groups and the channels
            of each. A scale is the side of the maps; at scale 1, groups are vectors. The smallest
            scale is that of the bottom-up network, which must also have all the others.
        channels: Number of channels of the state by scale; for scales not given, that of the
            bottom-up network.
        blocks: Number of residual cells after each group, and at each scale without groups.
        posterior: `"delta"` for q relative to p, N(mu + dmu, sigma dsigma), or `"plain"` for a q
            with its own mean and scale.
        scale_bounds: Floor and ceiling of all scales; for `"delta"`, of sigma and dsigma.
        cell: A layer that keeps the shape of maps `[B, H, W, C]`; every cell is a copy of it. By
            default a `BottleneckCell`.
        activation: f, the name of a Keras activation or a function.
        recompute: Whether cells are run again in the backward pass, which takes a third more time
            and much less memory (`keras.remat`).
        kernel_regularizer: A Keras regularizer, such as `SpectralRegularizer`, for all kernels
            except those of a given `cell`.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        Tensor `[N, *params_shape]`, for z `[N, D]`.

    Raises:
        ValueError: If an argument is not as above, or does not fit the bottom-up network or the
            likelihood.

    Example:
        >>> network = TopDown({1: (2, 16), 7: (3, 4)})
        >>> network.latents
        {'z1': (16,), 'z2': (16,), 'z3': (7, 7, 4), 'z4': (7, 7, 4), 'z5': (7, 7, 4)}
        >>> network.build([(None, 7, 7, 8), (None, 1, 1, 16)], (28, 28, 1))
        >>> network(tf.zeros([2, 620])).shape
        TensorShape([2, 28, 28, 1])

    References:
        Vahdat and Kautz, 2020, sections 2 and 3, arXiv:2007.03898; Child, 2021, arXiv:2011.10650;
        Kingma et al., 2016, section 4 (the ResNet VAE), arXiv:1606.04934.
    """

    def __init__(
        self,
        groups: Mapping[int, tuple[int, int]],
        channels: Mapping[int, int] | None = None,
        blocks: int = 1,
        posterior: str = "delta",
        scale_bounds: tuple[float, float] = (1e-2, 1e2),
        cell: keras.layers.Layer | None = None,
        activation: str | Callable = "elu",
        recompute: bool = False,
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.groups = _checked_groups(groups)
        self.channels = {} if channels is None else checked_channels(channels)
        self.blocks = checks.integer("blocks", blocks, minimum=0)
        self.posterior = checks.option("posterior", posterior, POSTERIORS)
        bounds = checks.interval("scale_bounds", scale_bounds, 0.0, exclusive=True)
        if not bounds[0] < 1.0 < bounds[1]:
            raise checks.invalid("scale_bounds", "must have 1 between them", scale_bounds)
        self.scale_bounds = bounds
        self.pattern = Pattern(cell)
        self.activation = checks.activation("activation", activation)
        self.recompute = checks.flag("recompute", recompute)
        self.kernel_regularizer = checks.regularizer("kernel_regularizer", kernel_regularizer)

    @property
    def latents(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the groups by name, in the order in which they are drawn: the top first."""
        shapes = [
            (channels,) if scale == 1 else (scale, scale, channels)
            for scale, (count, channels) in sorted(self.groups.items())
            for _ in range(count)
        ]
        return {f"z{number}": shape for number, shape in enumerate(shapes, start=1)}

    @property
    def group_sizes(self) -> tuple[int, ...]:
        """Numbers of dimensions of the groups."""
        return tuple(math.prod(shape) for shape in self.latents.values())

    # Building.

    def build(self, maps_shapes: Sequence[Shape], params_shape: Sequence[int]) -> None:
        """Creates the layers.

        Args:
            maps_shapes: Shapes `[B, scale, scale, C]` of the maps of the bottom-up network.
            params_shape: Shape of the parameters of one datum: the `params_shape` of the
                likelihood, `(side, side, ...)`.
        """
        maps = _by_side(maps_shapes)
        self._check_fit(maps, tuple(params_shape))
        self.scales = sorted(maps)
        self.channels_of_maps = {side: shape[-1] for side, shape in maps.items()}
        states = {
            scale: (None, scale, scale, self.channels.get(scale, int(maps[scale][-1] or 0)))
            for scale in self.scales
        }
        self.start = self.add_weight(
            shape=states[self.scales[0]][1:], initializer="zeros", name="start"
        )
        self.enlargements = self._make_enlargements(list(states.values()))
        self.latent_groups, self.rows = self._make_groups(states, maps)
        self._make_output(states[self.scales[-1]], tuple(params_shape))

    def check_maps(self, maps_shapes: Sequence[Shape]) -> None:
        """Raises a `ValueError` unless the network was built for maps of these shapes."""
        found = {side: shape[-1] for side, shape in _by_side(maps_shapes).items()}
        if found != self.channels_of_maps:
            rule = f"must return maps of the channels {self.channels_of_maps}, by scale, for which "
            raise checks.invalid("bottom_up", f"{rule}`top_down` was built", found)

    def _check_fit(self, maps: Mapping[int, Shape], params_shape: tuple[int, ...]) -> None:
        unknown = sorted(set(self.groups) - set(maps)) or sorted(set(self.channels) - set(maps))
        if unknown:
            argument = "groups" if set(self.groups) - set(maps) else "channels"
            rule = f"must have scales of the bottom-up network, {sorted(maps)}"
            raise checks.invalid(argument, rule, unknown)
        if min(self.groups) != min(maps):
            rule = f"must have a group at the smallest scale of the bottom-up network, {min(maps)}"
            raise checks.invalid("groups", rule, dict(self.groups))
        scales = sorted(maps)
        if len(params_shape) < 3 or params_shape[0] != params_shape[1]:
            raise checks.invalid("params_shape", "must be (side, side, ...)", params_shape)
        for scale, larger in zip(scales, [*scales[1:], params_shape[0]], strict=True):
            argument = "groups" if scale in self.groups else "bottom_up"
            check_divides(argument, scale, larger, "the side of the image and the next larger one")

    def _make_enlargements(self, states: Sequence[Shape]) -> list[Enlarge]:
        made = []
        for smaller, larger in zip(states[:-1], states[1:], strict=True):
            factor, channels = int(larger[1] or 0) // int(smaller[1] or 1), int(larger[-1] or 0)
            made.append(Enlarge(factor, channels, self.kernel_regularizer, dtype=self.dtype_policy))
            made[-1].build(smaller)
        return made

    def _make_groups(
        self, states: Mapping[int, Shape], maps: Mapping[int, Shape]
    ) -> tuple[list[LatentGroup], list[keras.layers.Layer]]:
        """Returns all groups, and a row of cells for each scale that has none."""
        options = {"activation": self.activation, "kernel_regularizer": self.kernel_regularizer}
        # Without cells, it is the groups alone that add to the state.
        count = max(1, self.blocks) * (len(self.latents) + len(states) - len(self.groups))
        factory = CellFactory(self.pattern, count, self.recompute, self.dtype_policy, **options)
        groups, rows = [], []
        for scale, state in states.items():
            number, channels = self.groups.get(scale, (0, 0))
            for _ in range(number):
                group = LatentGroup(
                    channels,
                    delta=self.posterior == "delta",
                    scale_bounds=self.scale_bounds,
                    activation=self.activation,
                    factory=factory,
                    blocks=self.blocks,
                    kernel_regularizer=self.kernel_regularizer,
                    dtype=self.dtype_policy,
                )
                group.build(state, maps[scale])
                groups.append(group)
            if not number:
                rows.append(factory.make_row(self.blocks))
                rows[-1].build(state)
        return groups, rows

    def _make_output(self, state: Shape, params_shape: tuple[int, ...]) -> None:
        factor, policy = params_shape[0] // int(state[1] or 1), self.dtype_policy
        channels = math.prod(params_shape[2:])
        self.output_maps = Enlarge(
            factor, channels, self.kernel_regularizer, use_bias=False, dtype=policy
        )
        self.output_shape_of_one = params_shape
        self.output_bias = OutputBias(dtype=policy)
        self.output_maps.build(state)
        self.output_bias.build((None, *params_shape))

    # The pass.

    def contexts(self, maps: Sequence[tf.Tensor]) -> tuple[tf.Tensor, ...]:
        """Returns what each group sees of x, `[B, ...]`, given maps of the bottom-up network."""
        by_side = {int(one.shape[1]): one for one in maps}
        sides = [scale for scale in self.scales for _ in range(self.groups.get(scale, (0, 0))[0])]
        groups = zip(self.latent_groups, sides, strict=True)
        return tuple(group.context(by_side[side]) for group, side in groups)

    def descend(self, visit: Visit, training: bool = False) -> tf.Tensor:
        """Runs the pass from the top to the last state.

        Args:
            visit: `visit(position, group, state)` returns the z_l `[..., D_l]` of each group, given
                the state `[..., H, W, C]` above it.
            training: Whether the cells run in training mode.

        Returns:
            The last state, `[..., H, W, C]`.
        """
        state = tf.cast(self.start, self.compute_dtype)
        groups, rows = iter(enumerate(self.latent_groups)), iter(self.rows)
        for enlarge, scale in zip([None, *self.enlargements], self.scales, strict=True):
            if enlarge is not None:
                state = on_maps(enlarge, state)
            number, _ = self.groups.get(scale, (0, 0))
            for _ in range(number):
                position, group = next(groups)
                state = group.merge(state, visit(position, group, state), training)
            if not number:
                state = on_maps(functools.partial(next(rows), training=training), state)
        return state

    def parameters(self, state: tf.Tensor) -> tf.Tensor:
        """Returns the parameters of p(x|z) `[..., *params_shape]`, given the last state."""
        maps = on_maps(self.output_maps, self.activation(state))
        shape = tf.concat([tf.shape(maps)[:-3], self.output_shape_of_one], axis=0)
        parameters = tf.reshape(maps, shape)
        parameters.set_shape([*maps.shape[:-3], *self.output_shape_of_one])
        return self.output_bias(parameters)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the parameters of p(x|z), for z `[N, D]`."""
        values = tf.split(inputs, self.group_sizes, axis=-1)
        state = self.descend(lambda position, group, state: values[position], training)
        return self.parameters(state)

    def compute_output_shape(self, input_shape: Shape) -> tuple[int | None, ...]:
        """Returns the shape of the parameters of p(x|z)."""
        return (input_shape[0], *self.output_shape_of_one)

    @property
    def recognition_layers(self) -> list[keras.layers.Layer]:
        """The layers that only q(z|x) needs."""
        return [layer for group in self.latent_groups for layer in group.recognition_layers]

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "groups": {str(scale): list(pair) for scale, pair in self.groups.items()},
            "channels": {str(scale): count for scale, count in self.channels.items()} or None,
            "blocks": self.blocks,
            "posterior": self.posterior,
            "scale_bounds": self.scale_bounds,
            "cell": self.pattern.get_config(),
            "activation": keras.activations.serialize(self.activation),
            "recompute": self.recompute,
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }


def _checked_groups(groups: Mapping[int, tuple[int, int]]) -> dict[int, tuple[int, int]]:
    rule = "must map scales to (groups, channels), both at least 1, such as {1: (2, 16), 7: (3, 4)}"
    found = {}
    for scale, pair in by_scale("groups", groups, rule).items():
        try:
            count, channels = checks.sizes("groups", pair)
        except ValueError:
            raise checks.invalid("groups", rule, {scale: pair}) from None
        found[scale] = (count, channels)
    return found


def _by_side(maps_shapes: Sequence[Shape]) -> dict[int, Shape]:
    """Returns shapes of maps by their side; raises unless all are `[B, scale, scale, C]`."""
    found: dict[int, Shape] = {}
    for shape in maps_shapes:
        if len(shape) != 4 or None in tuple(shape)[1:] or shape[1] != shape[2]:
            rule = "must return maps [batch, scale, scale, channels], one for each scale"
            raise checks.invalid("bottom_up", rule, tuple(shape))
        found[int(shape[1] or 0)] = tuple(shape)
    if len(found) < len(maps_shapes):
        rule = "must return maps of different scales"
        raise checks.invalid("bottom_up", rule, [tuple(shape) for shape in maps_shapes])
    return found
