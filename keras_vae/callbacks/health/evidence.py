"""The evidence by which symptoms are judged."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from keras_vae.core.numerics import SCALE_FLOOR
from keras_vae.evaluation.latent_groups import LatentGroup

# With less than this fraction of its full weight, the KL does not shape the posterior yet.
_LIGHT = 0.1


@dataclasses.dataclass(frozen=True)
class Limits:
    """The thresholds at which symptoms begin, from the arguments of `HealthCheck`."""

    grace: int = 500
    min_active_units: int = 1
    max_kl: float = 100.0
    data_range: tuple[float, float] | None = (0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class DataRange:
    """The range and moments of the values in some data.

    Attributes:
        low: The smallest value.
        high: The largest value.
        mean: Their mean.
        stddev: Their standard deviation.
    """

    low: float
    high: float
    mean: float
    stddev: float


@dataclasses.dataclass(frozen=True)
class Modes:
    """The KL and ELBO of the same examples in training mode and in evaluation mode, in nats.

    Attributes:
        training_kl: Mean KL, summed over all dimensions, in training mode.
        training_elbo: Mean ELBO in training mode.
        kl: Mean KL in evaluation mode.
        elbo: Mean ELBO in evaluation mode.
    """

    training_kl: float
    training_elbo: float
    kl: float
    elbo: float

    @property
    def are_apart(self) -> bool:
        """Whether one KL is below a quarter of the other, or evaluation loses more than a KL.

        Differences within a nat do not count. With dropout, the KL is smaller and the ELBO larger
        in evaluation mode, but both differ by less than these limits.
        """
        smaller, larger = sorted((self.training_kl, self.kl))
        lost = self.training_elbo - self.elbo
        return (larger > 1.0 and smaller < 0.25 * larger) or lost > max(larger, 1.0)


@dataclasses.dataclass(frozen=True)
class Codes:
    """How a group of codes is used in some examples.

    Attributes:
        name: Name of the group, as in `model.latents`.
        num_codes: Number K of codes in the codebook.
        in_use: How many of them occur.
        places: Number of places that hold a code, over all examples.
    """

    name: str
    num_codes: int
    in_use: int
    places: int

    @property
    def share(self) -> float:
        """The codes that occur, as a share of the number expected if all were equally frequent."""
        expected = -self.num_codes * math.expm1(self.places * math.log1p(-1.0 / self.num_codes))
        return self.in_use / expected


@dataclasses.dataclass(frozen=True)
class Examination:
    """What a model makes of some examples, at the mean of q(z|x).

    Attributes:
        active_units: Number of latent dimensions whose posterior mean varies with x.
        dimensions: Total number of latent dimensions.
        kl: E_x KL(q(z|x) || p(z)), for each dimension, for each group or for all together, in nats.
        error: Squared error of the reconstruction, summed over each x and averaged over x.
        mean_error: The same for the mean image: the variance of x.
        spread: Variance of the reconstruction over z, under the same condition.
        scale: The smallest of the learned scales of p(x|z), or None.
        posterior_scale: The smallest standard deviation of q(z|x) in any dimension, or None.
        decoder_gradient: The largest element of the gradient of the decoder's weights, or None if
            there is no gradient.
        posterior_learns: Whether the loss has a gradient for q(z|x).
        modes: The comparison of the two modes, or None if no layer keeps statistics for evaluation.
        groups: The groups of latent variables.
        codes: The groups of codes, if the latent variables are codes.
        scale_floor: The smallest standard deviation that q(z|x) can have.
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
    scale_floor: float = SCALE_FLOOR

    @property
    def total_kl(self) -> float:
        """The KL summed over all dimensions, in nats."""
        return float(np.sum(self.kl))

    @property
    def largest_kl(self) -> float:
        """The largest KL of a dimension, or the mean over dimensions that only have a joint KL."""
        if len(self.kl) == self.dimensions:
            return float(np.max(self.kl))
        means = [one.kl_of_dimension for one in self.groups if one.kl_of_dimension is not None]
        return max(means, default=self.total_kl / self.dimensions)

    @property
    def largest_group(self) -> LatentGroup | None:
        """The group of the dimension with the largest KL, if several groups have their own KL."""
        known = [one for one in self.groups if one.kl is not None]
        if len(known) < 2:
            return None
        if len(self.kl) < self.dimensions:
            return max(known, key=_kl_of_dimension)
        ends = np.cumsum([one.dimensions for one in self.groups])
        return self.groups[int(np.searchsorted(ends, np.argmax(self.kl), side="right"))]

    @property
    def decoder_ignores_z(self) -> bool:
        """Whether all reconstructions are the same, although z says something about x."""
        return self.total_kl > 1.0 and self.spread < 1e-6 * self.mean_error


def _kl_of_dimension(group: LatentGroup) -> float:
    return group.kl_of_dimension or 0.0


@dataclasses.dataclass(frozen=True)
class Number:
    """A hyperparameter of the model.

    Attributes:
        value: Its value at the end of the epoch.
        rule: What drives it: None, `"schedule"` or `"feedback"`.
        largest: Its largest value at any step of this training so far, if known.
    """

    value: float
    rule: str | None
    largest: float = -math.inf


@dataclasses.dataclass(frozen=True)
class Multiplier:
    """A Lagrange multiplier, its upper bound, and the moving average of its constraint."""

    name: str
    value: float
    bound: float
    constraint: float


@dataclasses.dataclass(frozen=True)
class Skips:
    """Steps that were skipped because something was not finite or too large.

    Attributes:
        skipped: Number of skipped steps in the epoch.
        steps: Number of all batches in the epoch.
        name: What was not finite or too large at the last skipped step.
        stops: Whether the training should stop at the first skipped step.
    """

    skipped: int
    steps: int
    name: str
    stops: bool

    @property
    def are_all(self) -> bool:
        """Whether no step of the epoch was made; a single one does not tell."""
        return self.skipped == self.steps > 1


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What is known at the end of an epoch.

    Attributes:
        epoch: The epoch, counted from 0.
        step: Number of optimizer steps so far, in all trainings.
        begin: Number of optimizer steps at the beginning of this training.
        last: Whether the training is over.
        numbers: The hyperparameters by name.
        multipliers: The multipliers that a rule moves.
        skips: The steps that were skipped, or None.
        data: The range of the examples, or None if the likelihood refuses bad values itself.
        seen: The examination, or None if there was none.
        spikes: The steps that were skipped because their gradient was too large, or None.
        part_steps: Number of steps in this training of those parts that may skip some, or all.
        accuracy: How often the discriminator was right in the epoch, or None if there is none.
        prior_is_matched: Whether something other than the KL holds q(z) to the prior.
        kl_weight: The weight of the KL where it is not a β, or None.
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
    prior_is_matched: bool = False
    kl_weight: float | None = None

    def all_named(self, name: str) -> dict[str, Number]:
        """Returns the hyperparameters of that name, in any layer."""
        return {
            key: number
            for key, number in self.numbers.items()
            if key == name or key.endswith(f".{name}")
        }

    @property
    def kl_is_light(self) -> bool:
        """Whether the weight of the KL is 0, or is a β that is driven and still low."""
        return self.kl_weight == 0.0 or any(
            beta.value < _LIGHT if beta.rule else beta.value == 0.0
            for beta in self.all_named("beta").values()
        )

    @property
    def kl_is_held_down(self) -> bool:
        """Whether the objective asks for a KL below one nat, or a multiplier still has to grow."""
        targets = [*self.all_named("capacity").values(), *self.all_named("target_kl").values()]
        unmet = any(one.constraint > 0.0 for one in self.multipliers)
        return any(target.value < 1.0 for target in targets) or (unmet and not self.last)

    def is_settled(self, before: Sequence[Evidence]) -> bool:
        """Whether the model has not changed since the first half of the training so far.

        That is, the squared error has not fallen by 2 %, the KL has not moved by 10 % (and
        0.1 nats), and the reconstructions do not vary 1.5 times as much. A single look is not
        enough to tell.
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
        """Returns the last examination in the first half of the training so far."""
        half = 0.5 * (self.begin + self.step)
        found = [one.seen for one in before if one.seen is not None and one.step <= half]
        return found[-1] if found else None
