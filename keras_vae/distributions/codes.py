"""Codes, the whole numbers in maps that quantizers give, and their simplest distributions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.core.seeds import sampling_seed

tfd = tfp.distributions


@dataclasses.dataclass(frozen=True)
class CodeGroups:
    """The layout of a flat vector of codes: groups of maps, one after another, row by row.

    Args:
        maps: Shape of the map of each group.
        num_codes: Number K of codes 0 .. K-1 of each group.

    Example:
        >>> groups = CodeGroups.of(((2, 2), (4, 4)), (8, 16))
        >>> groups.size, groups.latents
        (20, {'z1': (2, 2), 'z2': (4, 4)})
    """

    maps: tuple[tuple[int, ...], ...]
    num_codes: tuple[int, ...]

    @classmethod
    def of(cls, maps: Any, num_codes: Any) -> CodeGroups:
        """Returns the groups for arguments as given by users: one map or several, one K or several.

        Raises:
            ValueError: If a shape or a number is invalid, or there are not as many of both.
        """
        several = isinstance(maps, Sequence) and any(isinstance(m, Sequence) for m in maps)
        shapes = tuple(checks.shape("maps", one) for one in (maps if several else [maps]))
        given = num_codes if isinstance(num_codes, Sequence) else [num_codes] * len(shapes)
        counts = tuple(checks.integer("num_codes", one, minimum=2) for one in given)
        if len(counts) != len(shapes):
            rule = f"must be one number, or one for each of the {len(shapes)} maps"
            raise checks.invalid("num_codes", rule, num_codes)
        return cls(shapes, counts)

    @property
    def sizes(self) -> list[int]:
        """Number of codes in each group."""
        return [math.prod(shape) for shape in self.maps]

    @property
    def size(self) -> int:
        """Number N of all codes."""
        return sum(self.sizes)

    @property
    def latents(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the maps by name, in their order within z."""
        names = ["z"] if len(self.maps) == 1 else [f"z{i + 1}" for i in range(len(self.maps))]
        return dict(zip(names, self.maps, strict=True))

    @property
    def counts(self) -> np.ndarray:
        """The number of codes that each of the N positions can have: int32 `[N]`."""
        return np.repeat(np.asarray(self.num_codes, np.int32), self.sizes)

    def split(self, z: tf.Tensor) -> list[tf.Tensor]:
        """Returns the codes `[..., N_g]` of each group of z `[..., N]`."""
        return [z] if len(self.maps) == 1 else tf.split(z, self.sizes, axis=-1)

    def sum_by_group(self, values: tf.Tensor) -> tf.Tensor:
        """Returns the sums `[..., G]` over the positions of each group of values `[..., N]`."""
        return tf.stack([tf.reduce_sum(v, axis=-1) for v in self.split(values)], axis=-1)


def checked_codes(argument: str, codes: tf.Tensor, counts: Any) -> tf.Tensor:
    """Returns integers as int32 codes; raises if they are not codes, unless in a graph.

    Args:
        argument: The name of the argument.
        codes: Integers `[..., N]`.
        counts: The number of codes: one for all positions, or one for each.

    Raises:
        ValueError: If the numbers are not integers, or not codes.

    Example:
        >>> checked_codes("z", tf.constant([0, 3]), 3)
        Traceback (most recent call last):
        ValueError: Argument `z` must hold codes in 0 .. 2. Received: values in [0 .. 3]
    """
    if not codes.dtype.is_integer:
        raise checks.invalid(argument, "must hold codes, which are integers", codes.dtype.name)
    if tf.executing_eagerly() and not np.all(which_exist(codes, counts)):
        found = f"[{np.min(codes)} .. {np.max(codes)}]"
        raise ValueError(f"{rule_of_codes(argument, counts)}. Received: values in {found}")
    return tf.cast(codes, tf.int32)


def rule_of_codes(argument: str, counts: Any) -> str:
    """Returns the beginning of an error: which codes an argument must hold.

    Example:
        >>> rule_of_codes("z", [8, 8, 16])
        'Argument `z` must hold codes in 0 .. 7 and 0 .. 15'
    """
    known = " and ".join(f"0 .. {count - 1}" for count in dict.fromkeys(np.ravel(counts)))
    return f"Argument `{argument}` must hold codes in {known}"


def which_exist(z: tf.Tensor, counts: Any) -> tf.Tensor:
    """Returns whether numbers are codes, for each of z `[..., N]`: whole numbers in 0 .. K_n - 1.

    Args:
        z: Integers or floats.
        counts: The number of codes: one for all positions, or one for each.

    Example:
        >>> which_exist(tf.constant([0.0, 0.5, 2.0, 3.0]), 3).numpy()
        array([ True, False,  True, False])
    """
    whole = tf.cast(z, tf.int64)  # The number of codes need not fit in the dtype of z.
    exist = (whole >= 0) & (whole < np.asarray(counts, "int64"))
    return exist & tf.equal(tf.cast(whole, z.dtype), z)


class Codes(tfd.Distribution):
    """The base of distributions of codes: int32 vectors `[N]` in groups of maps.

    A subclass defines the density of each group (`log_prob_by_group`) and draws samples.

    Args:
        groups: The layout of z.
        dtype: The dtype of densities.
        batch_shape: Shape of the batch.
        parameters: The parameters that TFP reports.
    """

    def __init__(
        self, groups: CodeGroups, dtype: str, batch_shape: Any, parameters: dict[str, Any]
    ):
        self.groups = groups
        self.density_dtype = dtype
        self._static_batch_shape = tf.TensorShape(batch_shape)
        super().__init__(
            dtype=tf.int32,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=False,
            parameters=parameters,
        )

    def _batch_shape(self) -> tf.TensorShape:
        return self._static_batch_shape

    def _event_shape(self) -> tf.TensorShape:
        return tf.TensorShape([self.groups.size])

    def _event_shape_tensor(self) -> tf.Tensor:
        return tf.constant([self.groups.size])

    def log_prob_by_group(self, z: tf.Tensor) -> tf.Tensor:
        """Returns the log-density of each group of z `[..., N]`, given those before: `[..., G]`."""
        raise NotImplementedError

    def _log_prob(self, z: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(self.log_prob_by_group(z), axis=-1)


class UniformCodes(Codes):
    """Codes that are all equally probable.

    log p(z) = -sum_n log K_n,  and -inf outside of 0 .. K_n - 1

    Args:
        groups: The layout of z.
        dtype: The dtype of densities.

    Example:
        >>> p = UniformCodes(CodeGroups.of((2, 2), 8), "float32")
        >>> round(float(p.log_prob([0, 1, 2, 7])), 4)  # -4 log 8
        -8.3178
        >>> float(p.log_prob([0, 1, 2, 8]))
        -inf
    """

    def __init__(self, groups: CodeGroups, dtype: str):
        super().__init__(groups, dtype, [], parameters={"groups": groups, "dtype": dtype})

    def log_prob_by_group(self, z: tf.Tensor) -> tf.Tensor:
        known = which_exist(z, self.groups.counts)
        log_p = tf.constant(-np.log(self.groups.counts), self.density_dtype)
        each = tf.where(known, log_p, tf.constant(-math.inf, log_p.dtype))  # [..., N]
        return self.groups.sum_by_group(each)

    def _sample_n(self, n: Any, seed: Any = None) -> tf.Tensor:
        seeds = tfp.random.split_seed(sampling_seed(seed), len(self.groups.maps))
        drawn = [
            tf.random.stateless_uniform([n, size], one, 0, count, tf.int32, alg="philox")
            for one, size, count in zip(
                tf.unstack(seeds), self.groups.sizes, self.groups.num_codes, strict=True
            )
        ]
        return tf.concat(drawn, axis=-1)


class PointMass(Codes):
    """A single vector of codes for each example of a batch, as a quantizer gives it.

    log q(z) = 0 where z equals the codes, and -inf elsewhere

    Args:
        codes: The codes, int32 `[B, N]`.
        groups: Their layout.
        dtype: The dtype of densities.

    Example:
        >>> q = PointMass(tf.constant([[3, 1]]), CodeGroups.of((2,), 4), "float32")
        >>> q.sample(2, seed=[0, 0]).numpy().tolist(), q.log_prob([[3, 1]]).numpy().tolist()
        ([[[3, 1]], [[3, 1]]], [0.0])
    """

    def __init__(self, codes: tf.Tensor, groups: CodeGroups, dtype: str):
        self.codes = codes
        parameters = {"codes": codes, "groups": groups, "dtype": dtype}
        super().__init__(groups, dtype, codes.shape[:-1], parameters)

    def _batch_shape_tensor(self) -> tf.Tensor:
        return tf.shape(self.codes)[:-1]

    def log_prob_by_group(self, z: tf.Tensor) -> tf.Tensor:
        equal = tf.equal(z, tf.cast(self.codes, z.dtype))
        zeros = tf.zeros((), self.density_dtype)
        return self.groups.sum_by_group(tf.where(equal, zeros, -math.inf))

    def _sample_n(self, n: Any, seed: Any = None) -> tf.Tensor:
        shape = tf.concat([[n], tf.shape(self.codes)], axis=0)
        draws = tf.broadcast_to(self.codes, shape)
        draws.set_shape([None, *self.codes.shape])
        return draws

    def _mean(self) -> tf.Tensor:
        return self.codes

    def _mode(self) -> tf.Tensor:
        return self.codes
