"""What models and objectives share: the log-densities of a batch, and the latents behind them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from keras_vae.core import checks

# Shapes of the groups of z by name, in the order in which they lie in z.
Latents = Mapping[str, tuple[int, ...]]


class Path:
    """An identity between the draws of z and their use that scales the gradient on its way back.

    An estimator sets the scale once it has seen the log-weights, before any gradient is taken.
    Until then, the gradient passes as it is.

    Example:
        >>> x, path = tf.Variable([[3.0]]), Path()
        >>> with tf.GradientTape() as tape:
        ...     y = tf.square(path(x))
        ...     path.scale(tf.constant([[0.5]]))
        >>> tape.gradient(y, x).numpy()
        array([[3.]], dtype=float32)
    """

    def __init__(self) -> None:
        self._backward: Callable[[tf.Tensor], tf.Tensor] = tf.identity

    def __call__(self, z: tf.Tensor) -> tf.Tensor:
        """Returns z `[S, B, ...]`."""
        return tf.custom_gradient(lambda z: (tf.identity(z), lambda g: self._backward(g)))(z)

    def scale(self, factors: tf.Tensor) -> None:
        """Multiplies the gradient of each draw by its factor: Tensor `[S, B]`."""
        factors = tf.stop_gradient(factors)

        def scaled(gradient: tf.Tensor) -> tf.Tensor:
            ones = tf.ones(gradient.shape.rank - 2, tf.int32)
            shape = tf.concat([tf.shape(factors), ones], axis=0)
            return gradient * tf.cast(tf.reshape(factors, shape), gradient.dtype)

        self._backward = scaled

    def close(self) -> None:
        """Lets no gradient through."""
        self._backward = tf.zeros_like


class Draws(NamedTuple):
    """What the log-densities of `Terms` were computed from; objectives beyond the ELBO need it.

    Attributes:
        x: Standardized data, `[B, *E]`.
        z: Samples of q(z|x), `[S, B, D]`, behind `path`.
        q: q(z|x), batch [B].
        p_z: p(z), batch [] or [B].
        p_x: p(x|z) at the samples, batch [S, B].
        likelihood: Function from any z `[..., D]` to p(x|z), batch [...]; for conditional models
            the leading dimensions end with [B] or [1].
        path: The path of the gradient from the densities back through z.
        seed: A stateless seed `[2]` for further draws.
        kl_is_exact: Whether `Terms.kl` is a closed form, not a mean over the samples.
        rescore: Function from the terms to equal terms in which every density sees all of z behind
            `path` at once. In a model that draws one group after another and scores each on the
            way, the densities see the groups behind `path` one by one, which is enough except for
            estimators that scale the gradient of the whole z.
        training: Whether the networks ran in training mode.
    """

    x: tf.Tensor
    z: tf.Tensor
    q: Any
    p_z: Any
    p_x: Any
    likelihood: Callable[[tf.Tensor], Any]
    path: Path
    seed: tf.Tensor
    kl_is_exact: bool
    rescore: Callable[[Any], Any] = lambda terms: terms
    training: bool = False


# Names of what is measured for every batch, and of what must be finite.
MEASURES = ("elbo", "reconstruction", "kl")
QUANTITIES = ("log p(x|z)", "KL(q(z|x) || p(z))", "the penalty")


class Terms(NamedTuple):
    """What a model computes from a batch of B examples with S samples of z each, in nats.

    Attributes:
        log_p_x: log p(x|z), `[S, B]`.
        log_p_z: log p(z), `[S, B]`.
        log_q: log q(z|x), `[S, B]`.
        kl: KL(q(z|x) || p(z)), split into the G groups of latent dimensions that it is a sum over,
            `[B, G]`. G is the number of dimensions if prior and posterior factorize, the number of
            groups if they give the density of each, and otherwise 1.
        draws: The samples and distributions behind these densities. `ELBO()` and
            `ImportanceWeighted(K)` do without them.
        penalty: What training adds to the loss but no bound contains, such as the commitment of an
            encoder to a codebook, `[B]`; None if there is nothing.
        measured: What else the model puts into the logs, `[B]` each, under the names that its
            `measure_names` lists.
        statistics: Sums over this batch that the forward pass has measured and from which the state
            of the model follows: see `LatentVariableModel.state_updates`.
    """

    log_p_x: tf.Tensor
    log_p_z: tf.Tensor
    log_q: tf.Tensor
    kl: tf.Tensor
    draws: Draws | None = None
    penalty: tf.Tensor | None = None
    measured: Mapping[str, tf.Tensor] = {}
    statistics: Mapping[str, tf.Tensor] = {}

    @property
    def measures(self) -> dict[str, tf.Tensor]:
        """What `MEASURES` names and what the model measured, each `[B]`."""
        values = (self.elbo, self.reconstruction, self.kl_total)
        return {**dict(zip(MEASURES, values, strict=True)), **self.measured}

    @property
    def quantities(self) -> tuple[tf.Tensor | None, ...]:
        """What `QUANTITIES` names, in the order of computation; None for what is missing."""
        return self.log_p_x, self.kl, self.penalty

    @property
    def log_w(self) -> tf.Tensor:
        """Log importance weights log p(x, z) - log q(z|x), `[S, B]`."""
        return self.log_p_x + self.log_p_z - self.log_q

    @property
    def reconstruction(self) -> tf.Tensor:
        """-E_q[log p(x|z)], the distortion, `[B]`."""
        return -tf.reduce_mean(self.log_p_x, axis=0)

    @property
    def kl_total(self) -> tf.Tensor:
        """KL(q(z|x) || p(z)), the rate, `[B]`."""
        return tf.reduce_sum(self.kl, axis=-1)

    @property
    def elbo(self) -> tf.Tensor:
        """The evidence lower bound, `[B]`."""
        return -self.reconstruction - self.kl_total


def event_of(latents: Latents) -> tuple[int, ...]:
    """Returns the shape of a z with these groups: that of the only one, or of a vector of all.

    Example:
        >>> event_of({"z": (3, 2)}), event_of({"z1": (3, 2), "z2": (4,)})
        ((3, 2), (10,))
    """
    shapes = list(latents.values())
    return shapes[0] if len(shapes) == 1 else (sum(map(math.prod, shapes)),)


def checked_z(z: tf.Tensor, event: tuple[int, ...]) -> tf.Tensor:
    """Returns z, or raises a `ValueError` unless it is `[..., *event]`."""
    if z.shape.rank < len(event) or tuple(z.shape[-len(event) :]) != event:
        raise ValueError(
            f"Argument `z` must have shape [..., {', '.join(map(str, event))}]. "
            f"Received: shape={tuple(z.shape)}"
        )
    return z


def split_z(
    z: tf.Tensor, latents: Latents, event: tuple[int, ...] | None = None
) -> dict[str, tf.Tensor]:
    """Returns the groups of z by name, each `[..., *shape]`: z itself if it has their shape.

    Args:
        z: Tensor `[..., *event]`.
        latents: The groups.
        event: Shape of one z; that of `event_of` by default.

    Example:
        >>> groups = split_z(tf.zeros([5, 3]), {"z1": (2,), "z2": (1,)})
        >>> {name: tuple(group.shape) for name, group in groups.items()}
        {'z1': (5, 2), 'z2': (5, 1)}
    """
    event = event_of(latents) if event is None else event
    checked_z(z, event)
    if event in latents.values():
        return dict.fromkeys(latents, z)
    groups = tf.split(z, [math.prod(shape) for shape in latents.values()], axis=-1)
    return {
        name: tf.reshape(group, tf.concat([tf.shape(z)[:-1], shape], axis=0))
        for group, (name, shape) in zip(groups, latents.items(), strict=True)
    }


def join_z(
    groups: Mapping[str, tf.Tensor], latents: Latents, event: tuple[int, ...] | None = None
) -> tf.Tensor:
    """Joins groups into z, `[..., *event]`; undoes `split_z`.

    Example:
        >>> join_z({"z2": tf.ones([1]), "z1": tf.zeros([2])}, {"z1": (2,), "z2": (1,)}).numpy()
        array([0., 0., 1.], dtype=float32)
    """
    if set(groups) != set(latents):
        raise checks.invalid("groups", f"must have the keys {list(latents)}", list(groups))
    for name, shape in latents.items():
        if tuple(groups[name].shape[-len(shape) :]) != shape:
            rule = f"must hold {name!r} of shape [..., {', '.join(map(str, shape))}]"
            raise checks.invalid("groups", rule, tuple(groups[name].shape))
    _check_alike(groups, latents)
    if len(latents) == 1 and event in (None, *latents.values()):
        return next(iter(groups.values()))
    return tf.concat([_as_vectors(groups[name], shape) for name, shape in latents.items()], axis=-1)


def _check_alike(groups: Mapping[str, tf.Tensor], latents: Latents) -> None:
    """Raises a `ValueError` unless all groups have one dtype and one shape of the batch."""
    dtypes = {name: tf.as_dtype(groups[name].dtype).name for name in latents}
    if len(set(dtypes.values())) > 1:
        raise checks.invalid("groups", "must have one dtype", dtypes)
    leading = {name: groups[name].shape[: -len(shape)] for name, shape in latents.items()}
    first = next(iter(leading.values()))
    if not all(tf.TensorShape(one).is_compatible_with(first) for one in leading.values()):
        rule = "must have the same dimensions before those of the group"
        raise checks.invalid("groups", rule, {name: tuple(one) for name, one in leading.items()})


def _as_vectors(group: tf.Tensor, shape: tuple[int, ...]) -> tf.Tensor:
    leading = tf.shape(group)[: group.shape.rank - len(shape)]
    return tf.reshape(group, tf.concat([leading, [math.prod(shape)]], axis=0))
