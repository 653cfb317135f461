"""What a model makes of each group of its latent variables."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class LatentGroup:
    """A group of latent variables.

    Attributes:
        name: Name of the group, as in `model.latents`.
        dimensions: Number of its dimensions.
        active_units: How many of them are active.
        kl: Its mean KL(q(z_l|...) || p(z_l|...)), in nats; None if groups only have a joint KL. If
            prior and posterior draw the groups in opposite orders, as `Chain` does, it is the mean
            of log q(z_l|...) - log p(z_l|...), which may be negative; the sum is a KL.
    """

    name: str
    dimensions: int
    active_units: int
    kl: float | None

    @property
    def kl_of_dimension(self) -> float | None:
        """The mean KL per dimension, in nats."""
        return None if self.kl is None else self.kl / self.dimensions


def latent_groups(
    latents: Mapping[str, tuple[int, ...]], active: np.ndarray, kl: np.ndarray
) -> tuple[LatentGroup, ...]:
    """Returns the groups of z, in order.

    Args:
        latents: Shapes of the groups by name, in their order in z.
        active: Whether each of the D dimensions is active, `[D]`.
        kl: Mean KL of each of the D dimensions, of each of the G groups, or of all together, in
            nats.

    Example:
        >>> latents, active = {"z1": (2,), "z2": (1,)}, np.array([True, False, False])
        >>> groups = latent_groups(latents, active, kl=np.array([2.0, 0.0]))
        >>> [(group.name, group.active_units, group.kl) for group in groups]
        [('z1', 1, 2.0), ('z2', 0, 0.0)]
    """
    if len(latents) == 1:
        (name,) = latents
        return (LatentGroup(name, len(active), int(np.sum(active)), float(np.sum(kl))),)
    sizes = [math.prod(shape) for shape in latents.values()]
    ends = np.cumsum(sizes)[:-1]
    kls: list[float | None] = [None] * len(latents)
    if len(kl) == len(latents):
        kls = [float(one) for one in kl]
    elif len(kl) == len(active):
        kls = [float(np.sum(part)) for part in np.split(kl, ends)]
    units = [int(np.sum(part)) for part in np.split(active, ends)]
    return tuple(map(LatentGroup, latents, sizes, units, kls))
