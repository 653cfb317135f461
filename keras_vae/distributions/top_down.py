"""Distributions of latent groups that a top-down network draws one after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.distributions.groups import Choose, GroupedDistribution, Walked
from keras_vae.distributions.normal import MultivariateNormalDiag

tfd = tfp.distributions


class Inferred(NamedTuple):
    """The inference of one group, given x and the groups above.

    Attributes:
        q: q(z_l|z_above, x), event [D_l].
        kl: KL(q(z_l|z_above, x) || p(z_l|z_above)) in closed form, with the batch of q.
    """

    q: MultivariateNormalDiag
    kl: tf.Tensor


class Group(Protocol):
    """A group of latent variables in a top-down network."""

    def prior(self, state: tf.Tensor) -> MultivariateNormalDiag:
        """Returns p(z_l|z_above), given the state above it."""

    def infer(self, state: tf.Tensor, p: MultivariateNormalDiag, context: tf.Tensor) -> Inferred:
        """Returns q(z_l|z_above, x) and its KL, given the state, the prior and the context of x."""


Visit = Callable[[int, Group, tf.Tensor], tf.Tensor]


class TopDownNetwork(Protocol):
    """A network that draws groups from the top down."""

    group_sizes: tuple[int, ...]
    density_dtype: str

    def descend(self, visit: Visit, training: bool) -> tf.Tensor:
        """Asks `visit(position, group, state)` for each z_l and returns the last state."""


class Scored(NamedTuple):
    """A whole pass from the top down: draws, their densities, and what the decoder needs.

    Attributes:
        z: Latent variables, `[..., D]`.
        log_q: log q(z_l|z_above, x) of each group, `[..., G]`.
        log_p: log p(z_l|z_above) of each group, `[..., G]`.
        kl: KL(q(z_l|z_above, x) || p(z_l|z_above)) in closed form, `[..., G]`.
        state: The last state of the network, from which p(x|z) is computed.
    """

    z: tf.Tensor
    log_q: tf.Tensor
    log_p: tf.Tensor
    kl: tf.Tensor
    state: tf.Tensor


class TopDownPrior(GroupedDistribution):
    """p(z) = p(z_1) p(z_2|z_1) ... p(z_G|z_1, ..., z_{G-1}), z_1 the group at the top.

    Args:
        network: The top-down network.
        training: Whether it runs in training mode.
        known: A tensor z and log p(z_l|z_above) of its groups, from an earlier pass. For this very
            tensor, they are returned instead of making another pass.
    """

    def __init__(
        self,
        network: TopDownNetwork,
        training: bool = False,
        known: tuple[tf.Tensor, tf.Tensor] | None = None,
        name: str = "TopDownPrior",
    ):
        parameters = dict(locals())
        self._network, self._training, self._known = network, training, known
        super().__init__(network.group_sizes, network.density_dtype, parameters, name)

    def _batch_shape(self) -> tf.TensorShape:
        return tf.TensorShape([])

    def _batch_shape_tensor(self, **unused: Any) -> tf.Tensor:
        return tf.constant([], tf.int32)

    def log_prob_by_group(self, z: tf.Tensor) -> tf.Tensor:
        if self._known is not None and z is self._known[0]:
            return self._known[1]
        return super().log_prob_by_group(z)

    def walk(self, choose: Choose) -> Walked:
        walked: Walked = []

        def visit(position: int, group: Group, state: tf.Tensor) -> tf.Tensor:
            p = group.prior(state)
            walked.append((p, choose(position, p)))
            return walked[-1][1]

        self._network.descend(visit, self._training)
        return walked


class TopDownPosterior(GroupedDistribution):
    """q(z|x) = q(z_1|x) q(z_2|z_1, x) ... q(z_G|z_1, ..., z_{G-1}, x), drawn in the order of p(z).

    Args:
        network: The top-down network.
        contexts: What each group sees of x, tensors `[B, ...]`.
        training: Whether the network runs in training mode.
    """

    def __init__(
        self,
        network: TopDownNetwork,
        contexts: Sequence[tf.Tensor],
        training: bool = False,
        name: str = "TopDownPosterior",
    ):
        parameters = dict(locals())
        self._network, self._training = network, training
        self._contexts = tuple(contexts)
        super().__init__(network.group_sizes, network.density_dtype, parameters, name)

    def _batch_shape(self) -> tf.TensorShape:
        return self._contexts[0].shape[:1]

    def _batch_shape_tensor(self, **unused: Any) -> tf.Tensor:
        return tf.shape(self._contexts[0])[:1]

    def walk(self, choose: Choose) -> Walked:
        inferred, values, _, _ = self._descend(choose)
        return [(one.q, value) for one, value in zip(inferred, values, strict=True)]

    def score(self, choose: Choose) -> Scored:
        """Returns everything that one pass computes for the chosen values; see `walk`."""
        inferred, values, priors, state = self._descend(choose)
        log_q = [one.q.log_prob(value) for one, value in zip(inferred, values, strict=True)]
        log_p = [p.log_prob(value) for p, value in zip(priors, values, strict=True)]
        # The first group is inferred once for all draws.
        kl = [one.kl + tf.zeros_like(log_q[0]) for one in inferred]
        return Scored(
            z=tf.concat(values, axis=-1),
            log_q=tf.stack(log_q, axis=-1),
            log_p=tf.stack(log_p, axis=-1),
            kl=tf.stack(kl, axis=-1),
            state=state,
        )

    def _descend(self, choose: Choose) -> tuple[list[Inferred], list[Any], list[Any], tf.Tensor]:
        inferred, values, priors = [], [], []

        def visit(position: int, group: Group, state: tf.Tensor) -> tf.Tensor:
            priors.append(group.prior(state))
            inferred.append(group.infer(state, priors[-1], self._contexts[position]))
            values.append(choose(position, inferred[-1].q))
            return values[-1]

        state = self._network.descend(visit, self._training)
        return inferred, values, priors, state


def delta_kl(shift: tf.Tensor, ratio: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """Returns KL(N(mu + shift, scale * ratio) || N(mu, scale)), for independent dimensions.

    KL = 1/2 sum_d (shift^2 / scale^2 + ratio^2 - ln ratio^2 - 1)

    Args:
        shift: Difference of the means, `[..., D]`.
        ratio: Ratio of the scales, `[..., D]`.
        scale: Scale of the second normal, `[..., D]`.

    Returns:
        Tensor `[...]`, nats.

    Example:
        >>> one, two = tf.ones([3]), 2.0 * tf.ones([3])
        >>> float(delta_kl(two, one, one))
        6.0

    References:
        Vahdat and Kautz, 2020, eq. 2, arXiv:2007.03898.
    """
    squares = tf.square(shift / scale) + tf.square(ratio) - 1.0
    return tf.reduce_sum(0.5 * squares - tf.math.log(ratio), axis=-1)
