"""Draws of z from the prior, either of all groups or with some of them given."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.core.numerics import checked_tensor
from keras_vae.distributions import groups
from keras_vae.distributions.codes import CodeGroups, checked_codes
from keras_vae.terms import Latents

tfd = tfp.distributions


def draw_latents(
    p: tfd.Distribution,
    latents: Latents,
    num_samples: int | tf.Tensor,
    seed: tf.Tensor,
    temperature: float | Mapping[str, float] = 1.0,
    given: Mapping[str, Any] | None = None,
) -> tf.Tensor:
    """Draws z from a prior; groups that are given stay as they are.

    Args:
        p: p(z), with batch [], or with batch [N] for one prior per draw.
        latents: The groups of z.
        num_samples: Number N of draws.
        seed: Stateless seed `[2]`.
        temperature: Factor >= 0 for the scale of every group, or factors by the names of the
            groups.
        given: Values of groups by name, each `[N, *shape]`, or `[*shape]` for all draws.

    Returns:
        Tensor `[N, *E]`.

    Raises:
        ValueError: If a name is unknown, a value is not as above, or p does not support the
            request.
    """
    temperatures = checked_temperatures(temperature, latents)
    values = _checked_given({} if given is None else given, latents, num_samples, p)
    if len(values) == len(latents) > 0:
        rows = [values[position] for position in sorted(values)]
        return rows[0] if len(rows) == 1 else tf.concat(rows, axis=-1)
    if len(latents) == 1:  # The prior may draw it in several groups.
        temperatures = dict.fromkeys(range(_count_groups(p)), temperatures.get(0, 1.0))
    elif len(latents) > 1 and not hasattr(p, "draw_groups"):
        temperatures = _one_temperature(temperatures, values, p)
    shape: list[Any] = [] if p.batch_shape.rank else [num_samples]
    return groups.draw(p, shape, seed, values, temperatures)


def checked_names(argument: str, names: Iterable[str], latents: Latents) -> list[str]:
    """Returns the names as a list, or raises unless all of them are names of groups."""
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, Iterable) or not all(isinstance(name, str) for name in names):
        raise checks.invalid(argument, f"must be names of the groups {list(latents)}", names)
    names = list(names)
    unknown = [name for name in names if name not in latents]
    if unknown:
        raise checks.invalid(argument, f"must be of the groups {list(latents)}", unknown)
    return names


def checked_temperatures(
    temperature: float | Mapping[str, float], latents: Latents
) -> dict[int, float]:
    """Returns the temperatures by the position of each group, or raises unless all are >= 0."""
    if not isinstance(temperature, Mapping):
        temperature = dict.fromkeys(latents, temperature)
    checked_names("temperature", temperature, latents)
    positions = {name: position for position, name in enumerate(latents)}
    return {
        positions[name]: checks.number("temperature", value, minimum=0.0)
        for name, value in temperature.items()
    }


def _checked_given(
    given: Mapping[str, Any], latents: Latents, num_samples: int | tf.Tensor, p: tfd.Distribution
) -> dict[int, tf.Tensor]:
    """Returns the given groups by position: as vectors, unless z itself is a map."""
    if not isinstance(given, Mapping):
        raise checks.invalid("given", f"must map names of the groups {list(latents)}", given)
    checked_names("given", given, latents)
    flat = p.event_shape.rank == 1
    layout = getattr(p, "groups", None)
    counts = layout.num_codes if isinstance(layout, CodeGroups) else None
    dtype = p.dtype if counts is None else None
    rows = {
        position: _rows(name, given[name], shape, num_samples, flat, dtype)
        for position, (name, shape) in enumerate(latents.items())
        if name in given
    }
    if counts is None:
        return rows
    return {at: checked_codes("given", values, counts[at]) for at, values in rows.items()}


def _rows(
    name: str,
    value: Any,
    shape: tuple[int, ...],
    num_samples: int | tf.Tensor,
    flat: bool,
    dtype: tf.DType | None,
) -> tf.Tensor:
    """Returns the values of a group in `dtype`, one row for each draw."""
    told, value = value, checked_tensor("given", value, dtype)
    if tf.executing_eagerly() and not np.all(np.isfinite(value)):
        raise checks.invalid("given", f"must hold finite numbers for {name!r}", told)
    count = tf.get_static_value(tf.convert_to_tensor(num_samples))
    one = value.shape.is_compatible_with(shape)
    if not one and not value.shape.is_compatible_with([count, *shape]):
        number = "num_samples" if count is None else int(count)
        sizes = ", ".join(map(str, shape))
        rule = f"must hold {name!r} of shape [{number}, {sizes}], or [{sizes}] for all draws"
        raise ValueError(f"Argument `given` {rule}. Received: shape={tuple(value.shape)}")
    rows = tf.broadcast_to(value, tf.concat([[num_samples], shape], axis=0))
    return tf.reshape(rows, [-1, math.prod(shape)]) if flat else rows


def _count_groups(p: tfd.Distribution) -> int:
    """Returns how many groups a distribution of z draws."""
    layout = getattr(p, "groups", p)  # Codes keep their groups in a layout.
    return len(getattr(layout, "sizes", ["all"]))


def _one_temperature(
    temperatures: Mapping[int, float], given: Mapping[int, tf.Tensor], p: tfd.Distribution
) -> dict[int, float]:
    """Returns the temperature of a prior that draws all groups at once, or raises."""
    which = f"for a prior {type(p).__name__}, which draws all groups at once"
    if given:
        raise checks.invalid("given", f"must hold all groups or none {which}", sorted(given))
    if len(set(temperatures.values())) > 1:
        raise checks.invalid("temperature", f"must be one number {which}", temperatures)
    return {0: next(iter(temperatures.values()), 1.0)}
