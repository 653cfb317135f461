"""What symptoms are judged by."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from keras_vae.evaluation.latent_groups import LatentGroup

# A KL with less than this much of its full weight does not shape the posterior yet.
_LIGHT = 0.1


@dataclasses.dataclass(frozen=True)
class Limits:
    """Where symptoms begin, as of the arguments of `HealthCheck`."""

    grace: int = 500
    min_active_units: int = 1
    max_kl: float = 100.0
    data_range: tuple[float, float] | None = (0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class DataRange:
    """The values of some data.

    Attributes:
        low: The least.
        high: The largest.
        mean: Their mean.
        stddev: Their standard deviation.
    """

    low: float
    high: float
    mean: float
    stddev: float


@dataclasses.dataclass(frozen=True)
class Modes:
    """What the same examples have in training mode and in evaluation mode, nats.

    Attributes:
        training_kl: Mean of the KL of all dimensions in training mode.
        training_elbo: Mean of the ELBO in training mode.
        kl: Mean of the KL in evaluation mode.
        elbo: Mean of the ELBO in evaluation mode.
    """

    training_kl: float
    training_elbo: float
    kl: float
    elbo: float

    @property
    def are_apart(self) -> bool:
        """Whether one KL is a quarter of the other, or evaluation loses more than a KL is worth.

        Differences of a nat are none. With dropout the KL is smaller in evaluation and the ELBO
        larger, both by less than that.
        """
        smaller, larger = sorted((self.training_kl, self.kl))
        lost = self.training_elbo - self.elbo
        return (larger > 1.0 and smaller < 0.25 * larger) or lost > max(larger, 1.0)


@dataclasses.dataclass(frozen=True)
class Codes:
    """How a group of codes is used in some examples.

    Attributes:
        name: Its name, as in `model.latents`.
        num_codes: Number K of codes that there are.
        in_use: How many of them occur.
        places: How many places there are for them in all examples.
    """

    name: str
    num_codes: int
    in_use: int
    places: int

    @property
    def share(self) -> float:
        """The codes that occur, as a share of those that would if all were equally frequent."""
        expected = -self.num_codes * math.expm1(self.places * math.log1p(-1.0 / self.num_codes))
        return self.in_use / expected


@dataclasses.dataclass(frozen=True)
class Examination:
    """What a model makes of some examples, at the mean of q(z|x).

    Attributes:
        active_units: Number of latent dimensions whose posterior mean varies with x.
        dimensions: Number of all latent dimensions.
        kl: E_x KL(q(z|x) || p(z)), of each dimension or of all together, nats.
        error: Mean over x of the squared error of the reconstruction, summed over x.
        mean_error: The same of the mean image: the variance of x.
        spread: Variance of the reconstruction over z, at the same condition.
        scale: The least of the learned scales of p(x|z), or None.
        posterior_scale: The least standard deviation of q(z|x) of a dimension, or None.
        decoder_gradient: The largest element of the gradient of the decoder's weights, or None
            without any.
        posterior_learns: Whether the loss has a gradient for q(z|x).
        modes: The two modes compared, or None where no layer keeps statistics for evaluation.
        groups: The groups of latent variables.
        codes: The groups of codes, if latent variables are that.
    """

    active_units: int
    dimensions: int
    kl: np.ndarray
    error: float
    mean_error: float
    spread: float
    scale: float | None
    posterior_scale: float | None
    decoder_gradient: float | None
    posterior_learns: bool
    modes: Modes | None
    groups: tuple[LatentGroup, ...] = ()
    codes: tuple[Codes, ...] = ()

    @property
    def total_kl(self) -> float:
        """The KL of all dimensions, nats."""
        return float(np.sum(self.kl))

    @property
    def largest_kl(self) -> float:
        """The KL of the dimension that has most, or the mean over those that have one together."""
        if len(self.kl) == self.dimensions:
            return float(np.max(self.kl))
        means = [one.kl_of_dimension for one in self.groups if one.kl_of_dimension is not None]
        return max(means, default=self.total_kl / self.dimensions)

    @property
    def largest_group(self) -> LatentGroup | None:
        """The group of the dimension that has most KL, if several have a KL of their own."""
        known = [one for one in self.groups if one.kl is not None]
        if len(known) < 2:
            return None
        if len(self.kl) < self.dimensions:
            return max(known, key=_kl_of_dimension)
        ends = np.cumsum([one.dimensions for one in self.groups])
        return self.groups[int(np.searchsorted(ends, np.argmax(self.kl), side="right"))]

    @property
    def decoder_ignores_z(self) -> bool:
        """Whether reconstructions are all the same, although z says something about x."""
        return self.total_kl > 1.0 and self.spread < 1e-6 * self.mean_error


def _kl_of_dimension(group: LatentGroup) -> float:
    return group.kl_of_dimension or 0.0


@dataclasses.dataclass(frozen=True)
class Number:
    """A hyperparameter of the model.

    Attributes:
        value: Its value at the end of the epoch.
        rule: What drives it: None, `"schedule"` or `"feedback"`.
        largest: Its largest value at a step of this training so far, where that is known.
    """

    value: float
    rule: str | None
    largest: float = -math.inf


@dataclasses.dataclass(frozen=True)
class Multiplier:
    """A Lagrange multiplier, its upper bound and the moving average of its constraint."""

    name: str
    value: float
    bound: float
    constraint: float


@dataclasses.dataclass(frozen=True)
class Skips:
    """Steps that were left out because something was not finite, or too large.

    Attributes:
        skipped: Number of those in the epoch.
        steps: Number of all batches of the epoch.
        name: What was not finite, or too large, at the last of them.
        stops: Whether the training is to stop at the first.
    """

    skipped: int
    steps: int
    name: str
    stops: bool


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What is known at the end of an epoch.

    Attributes:
        epoch: The epoch, from 0.
        step: Steps of the optimizer so far, in all trainings.
        begin: Those at the begin of this training.
        last: Whether the training is over.
        numbers: The hyperparameters by name.
        multipliers: The multipliers that a rule moves.
        skips: What was skipped, or None.
        data: The values of the examples, or None where the likelihood refuses bad ones itself.
        seen: The examination, or None where there was none.
        spikes: Steps with too large a gradient that were skipped, or None.
        part_steps: Steps in this training of parts that do not take all of them, or cannot.
        accuracy: How often the discriminator was right in the epoch, or None without any.
    """

    epoch: int
    step: int
    begin: int
    last: bool
    numbers: Mapping[str, Number]
    multipliers: Sequence[Multiplier]
    skips: Skips | None
    data: DataRange | None
    seen: Examination | None
    spikes: Skips | None = None
    part_steps: Mapping[str, int] = dataclasses.field(default_factory=dict)
    accuracy: float | None = None

    def all_named(self, name: str) -> dict[str, Number]:
        """Returns the numbers of that name, in whatever layer."""
        return {
            key: number
            for key, number in self.numbers.items()
            if key == name or key.endswith(f".{name}")
        }

    @property
    def kl_is_light(self) -> bool:
        """Whether β is 0, or is being driven and still keeps the weight of the KL low."""
        return any(
            beta.value < _LIGHT if beta.rule else beta.value == 0.0
            for beta in self.all_named("beta").values()
        )

    @property
    def kl_is_held_down(self) -> bool:
        """Whether the objective wants a KL of less than a nat, or a multiplier has to grow yet."""
        targets = [*self.all_named("capacity").values(), *self.all_named("target_kl").values()]
        unmet = any(one.constraint > 0.0 for one in self.multipliers)
        return any(target.value < 1.0 for target in targets) or (unmet and not self.last)

    def is_settled(self, before: Sequence[Evidence]) -> bool:
        """Whether what is seen has been so since the first half of the training so far.

        The squared error has not fallen by 2 %, the KL has not moved by 10 % (and 0.1 nats), and
        reconstructions do not vary 1.5 times as much. Of one look alone, nothing is known.
        """
        then, now = self.examined_by_half(before), self.seen
        if then is None or now is None:
            return False
        moved = abs(now.total_kl - then.total_kl)
        return (
            now.error > 0.98 * then.error
            and moved <= max(0.1 * then.total_kl, 0.1)
            and now.spread <= max(1.5 * then.spread, 1e-4 * now.mean_error)
        )

    def examined_by_half(self, before: Sequence[Evidence]) -> Examination | None:
        """Returns the last examination of the first half of the training so far."""
        half = 0.5 * (self.begin + self.step)
        found = [one.seen for one in before if one.seen is not None and one.step <= half]
        return found[-1] if found else None
