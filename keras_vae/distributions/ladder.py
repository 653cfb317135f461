"""Groups with distributions that combine what is above them with what x says about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.distributions.chain import Conditional
from keras_vae.distributions.groups import Choose, GroupedDistribution, Walked
from keras_vae.distributions.normal import MultivariateNormalDiag

tfd = tfp.distributions


class Ladder(GroupedDistribution):
    """A chain of normals from the top down, each multiplied by an estimate of its group.

    q(z) = N(z_L; mu_L, s_L^2) prod_l N(z_l; m_l, v_l)
    v_l = 1 / (1 / s_l^2 + 1 / s_p^2),  m_l = v_l (mu_l / s_l^2 + mu_p / s_p^2)

    (mu_l, s_l) is the estimate, and (mu_p, s_p) belongs to the conditional p(z_l|z_{l+1}): the
    group's distribution is the normalized product of both.

    Args:
        estimates: Locations and scales of z1, ..., zL, each a pair `[..., D_l]`.
        conditionals: Functions from z_{l+1} `[..., D_{l+1}]` to p(z_l|z_{l+1}), a normal with
            independent dimensions, in the order in which the groups are drawn: the one of z_{L-1}
            comes first.

    Example:
        >>> ones = tf.ones([4, 1])
        >>> below = lambda z: MultivariateNormalDiag(tf.zeros_like(z), tf.ones_like(z))
        >>> q = Ladder([(ones, ones), (ones, ones)], [below])
        >>> first, _ = q.at_means()
        >>> first.mean().numpy()[0], first.variance().numpy()[0].round(4)
        (array([0.5], dtype=float32), array([0.5], dtype=float32))

    References:
        Soenderby et al., 2016, eq. 17-19, arXiv:1602.02282.
    """

    def __init__(
        self,
        estimates: Sequence[tuple[tf.Tensor, tf.Tensor]],
        conditionals: Sequence[Conditional],
        name: str = "Ladder",
    ):
        parameters = dict(locals())
        self._estimates = [MultivariateNormalDiag(loc, scale) for loc, scale in estimates]
        self._conditionals = tuple(conditionals)
        sizes = [estimate.event_shape[0] for estimate in self._estimates]
        super().__init__(sizes, self._estimates[0].dtype, parameters, name)

    def _batch_shape(self) -> tf.TensorShape:
        return self._estimates[-1].batch_shape

    def _batch_shape_tensor(self, **unused: Any) -> tf.Tensor:
        return self._estimates[-1].batch_shape_tensor()

    @property
    def order(self) -> tuple[int, ...]:
        return super().order[::-1]

    def walk(self, choose: Choose) -> Walked:
        top = len(self._estimates) - 1
        q = self._estimates[top]
        walked = [(q, choose(top, q))]
        for position, conditional in zip(self.order[1:], self._conditionals, strict=True):
            _, above = walked[-1]
            q = product(self._estimates[position], conditional(above))
            walked.append((q, choose(position, q)))
        return walked[::-1]


def product(
    one: tfd.MultivariateNormalDiag, other: tfd.MultivariateNormalDiag
) -> MultivariateNormalDiag:
    """Returns the normalized product of two normals with independent dimensions.

    N(mu, s^2) N(m, r^2) ~ N((mu r^2 + m s^2) / (s^2 + r^2), s^2 r^2 / (s^2 + r^2))

    Example:
        >>> p = product(MultivariateNormalDiag([2.0], [1.0]), MultivariateNormalDiag([0.0], [1.0]))
        >>> p.mean().numpy(), p.variance().numpy().round(4)
        (array([1.], dtype=float32), array([0.5], dtype=float32))
    """
    s, r = one.stddev(), other.stddev()
    both = tf.square(s) + tf.square(r)
    share = tf.square(r) / both  # between 0 and 1, whatever the scales
    loc = share * one.mean() + (1.0 - share) * other.mean()
    return MultivariateNormalDiag(loc, scale_diag=s * r * tf.math.rsqrt(both))
