"""Distributions over several groups of z: how they are walked, scored, and partly drawn.

The protocol: a distribution of the flat z = [g_1, ..., g_G] with groups that are drawn one after
another subclasses `GroupedDistribution` and defines two things:

- `order`: the positions of the groups in z, in the order in which they are drawn;
- `walk(choose)`: for each group in that order, make its distribution p, with event `[D_l]`, given
  the values chosen before it; then ask `choose(position, p)` for its value `[..., D_l]`, and
  continue with that value. Return the pairs `(p, value)` in the order of the groups within z.

Everything else follows from a walk: draws, densities of single groups, means along the groups, and
draws of some groups while others are given or have a temperature (`draw_groups`). In a walk, a
group is a vector, whatever its shape in the model; positions are those of `model.latents`.

`draw` does the same for any distribution: one without groups is a single group at position 0.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core.seeds import fold
from keras_vae.distributions.normal import MultivariateNormalDiag, MultivariateNormalTriL

tfd = tfp.distributions

# The position of a group in z and its distribution, given what was chosen before it -> its value.
Choose = Callable[[int, tfd.Distribution], tf.Tensor]
Walked = list[tuple[tfd.Distribution, tf.Tensor]]


class GroupedDistribution(tfd.Distribution):
    """A flat vector z of groups, each drawn given those drawn before it.

    log p(z) = sum_l log p(g_l | groups drawn before),  z = [g_1, ..., g_G]

    Draws carry gradients, including from one group to the next.

    Args:
        sizes: Numbers of dimensions of the groups, in their order within z.
        dtype: Dtype of z.
        parameters: Arguments of the subclass's constructor, as TFP expects them.
        name: Name of the distribution.

    Attributes:
        sizes: Numbers of dimensions of the groups, in their order within z.

    Example:
        >>> class Pair(GroupedDistribution):  # g_1 ~ N(0, 1), g_2 ~ N(g_1, 1)
        ...     def walk(self, choose):
        ...         first = MultivariateNormalDiag(tf.zeros([1]), tf.ones([1]))
        ...         g = choose(0, first)
        ...         second = MultivariateNormalDiag(g, tf.ones([1]))
        ...         return [(first, g), (second, choose(1, second))]
        ...     def _batch_shape(self):
        ...         return tf.TensorShape([])
        >>> pair = Pair((1, 1), tf.float32, {})
        >>> pair.log_prob_by_group(tf.zeros([3, 2])).shape
        TensorShape([3, 2])
        >>> z = pair.draw_groups([4], [0, 1], given={0: tf.zeros([4, 1])}, temperatures={1: 0.0})
        >>> float(tf.reduce_sum(tf.abs(z)))
        0.0
    """

    def __init__(
        self,
        sizes: Sequence[int],
        dtype: Any,
        parameters: dict[str, Any],
        name: str = "GroupedDistribution",
    ):
        self._sizes = tuple(sizes)
        super().__init__(
            dtype=dtype,
            reparameterization_type=tfd.FULLY_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )

    @property
    def sizes(self) -> tuple[int, ...]:
        return self._sizes

    @property
    def order(self) -> tuple[int, ...]:
        """The positions of the groups in z, in the order in which they are drawn."""
        return tuple(range(len(self._sizes)))

    def walk(self, choose: Choose) -> Walked:
        """Returns each group's distribution and the value that `choose(position, p)` returned.

        Args:
            choose: Called in the order in which the groups are drawn.

        Returns:
            Pairs `(p, value)`, in the order of the groups within z.
        """
        raise NotImplementedError

    def walk_along(self, z: tf.Tensor) -> Walked:
        """Returns the result of `walk` for the groups of z `[..., D]`."""
        groups = tf.split(z, self._sizes, axis=-1)
        return self.walk(lambda position, _: groups[position])

    def _event_shape(self) -> tf.TensorShape:
        return tf.TensorShape([sum(self._sizes)])

    def _event_shape_tensor(self) -> tf.Tensor:
        return tf.constant([sum(self._sizes)], tf.int32)

    def _mean(self) -> tf.Tensor:
        raise NotImplementedError(
            f"The mean of a {type(self).__name__} has no closed form, as each group depends on "
            "those drawn before it. `means_along()` has the mean of each, given those of the others"
        )

    def _sample_n(self, n: Any, seed: Any = None) -> tf.Tensor:
        return self.draw_groups([n], seed)

    def draw_groups(
        self,
        sample_shape: Any,
        seed: Any,
        given: Mapping[int, tf.Tensor] | None = None,
        temperatures: Mapping[int, float] | None = None,
    ) -> tf.Tensor:
        """Draws z, keeping the given groups as they are.

        Args:
            sample_shape: Shape S of the draws.
            seed: Stateless seed `[2]`. The noise of a group does not depend on what is given.
            given: Values `[*S, *batch, D_l]` of groups, by position.
            temperatures: Factors of the scales of groups, by position; 1 for the others.

        Returns:
            Tensor `[*S, *batch, D]`.

        Raises:
            ValueError: If a distribution cannot take its temperature.
        """
        seed, given, temperatures = tfp.random.sanitize_seed(seed), given or {}, temperatures or {}

        def choose(position: int, p: tfd.Distribution) -> tf.Tensor:
            if position in given:
                return given[position]
            step = self.order.index(position)
            p = tempered(p, temperatures.get(position, 1.0))
            return p.sample(sample_shape if step == 0 else (), seed=fold(seed, step))

        return tf.concat([value for _, value in self.walk(choose)], axis=-1)

    def log_prob_by_group(self, z: tf.Tensor) -> tf.Tensor:
        """Returns the log-density of each group of z `[..., D]`, in their order there: `[..., G]`.

        The sum of the log-densities is log p(z).
        """
        log_p = [p.log_prob(group) for p, group in self.walk_along(z)]
        # If draws are broadcast over a batch, only some groups depend on the batch.
        everywhere = tf.zeros_like(functools.reduce(operator.add, log_p))
        return tf.stack([one + everywhere for one in log_p], axis=-1)

    def _log_prob(self, z: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(self.log_prob_by_group(z), axis=-1)

    def at_means(self) -> list[tfd.Distribution]:
        """Returns the groups' distributions in their order in z, each at the means before it."""
        return [p for p, _ in self.walk(lambda _, p: p.mean())]

    def means_along(self) -> tf.Tensor:
        """Returns the mean of each group, given the means of those before it: `[*batch, D]`."""
        return tf.concat([p.mean() for p in self.at_means()], axis=-1)

    def stddevs_along(self) -> tf.Tensor:
        """Returns the scale of each group, given the means of those before it: `[*batch, D]`."""
        return tf.concat([p.stddev() for p in self.at_means()], axis=-1)


def draw(
    p: tfd.Distribution,
    sample_shape: Any,
    seed: Any,
    given: Mapping[int, tf.Tensor] | None = None,
    temperatures: Mapping[int, float] | None = None,
) -> tf.Tensor:
    """Draws z from any distribution; see `GroupedDistribution.draw_groups`.

    Example:
        >>> p = tfd.MultivariateNormalDiag([1.0, 2.0], [1.0, 1.0])
        >>> draw(p, [1], seed=[0, 1], temperatures={0: 0.0}).numpy()
        array([[1., 2.]], dtype=float32)
    """
    if hasattr(p, "draw_groups"):
        return p.draw_groups(sample_shape, seed, given, temperatures)
    if given:
        return given[0]
    return tempered(p, (temperatures or {}).get(0, 1.0)).sample(sample_shape, seed=seed)


def tempered(p: tfd.Distribution, temperature: float) -> tfd.Distribution:
    """Returns the distribution with its scale multiplied by a temperature >= 0; 0 gives a point.

    Args:
        p: A distribution. Use `with_temperature.register` to support a class of your own.
        temperature: Factor of the scale.

    Raises:
        ValueError: If the temperature is not 1 and the distribution has no scale.

    Example:
        >>> float(tempered(tfd.Normal(1.0, 2.0), 0.5).stddev())
        1.0
    """
    return p if temperature == 1.0 else with_temperature(p, temperature)


@functools.singledispatch
def with_temperature(p: tfd.Distribution, temperature: float) -> tfd.Distribution:
    """Returns the distribution at a temperature other than 1; see `tempered`."""
    raise ValueError(
        f"Argument `temperature` must be 1 for z of a {type(p).__name__}, which has no scale "
        f"that it could multiply. Received: temperature={temperature}"
    )


@with_temperature.register
def _(p: tfd.Normal, temperature: float) -> tfd.Distribution:
    return tfd.Normal(p.loc, temperature * p.scale)


@with_temperature.register
def _(p: tfd.MultivariateNormalDiag, temperature: float) -> tfd.Distribution:
    return MultivariateNormalDiag(p.mean(), scale_diag=temperature * p.stddev())


@with_temperature.register
def _(p: tfd.MultivariateNormalTriL, temperature: float) -> tfd.Distribution:
    return MultivariateNormalTriL(p.mean(), scale_tril=temperature * p.scale.to_dense())


@with_temperature.register
def _(p: tfd.Independent, temperature: float) -> tfd.Distribution:
    inner = with_temperature(p.distribution, temperature)
    return tfd.Independent(inner, p.reinterpreted_batch_ndims)
