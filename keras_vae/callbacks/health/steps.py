"""Symptoms of data, hyperparameters and steps."""

from __future__ import annotations

from collections.abc import Sequence

from keras_vae.callbacks.health.evidence import Evidence, Limits, Skips

# A schedule that never rose above this has not begun.
_NONE_YET = 0.01
# A training that skips this share of its steps makes no progress, which this many steps show.
_MOST, _FEWEST = 0.5, 8


def non_finite(now: Evidence, before: Sequence[Evidence], limits: Limits) -> str | None:
    """Detects steps that were skipped, and names the first bad quantity of the last of them."""
    skips = now.skips
    if skips is None or not skips.skipped or skips.are_all:
        return None
    done = "the training stops, its weights are as before that step"
    if not skips.stops:
        done = f"{skips.skipped} of {skips.steps} steps of this epoch were skipped"
    return f"{skips.name} was not finite; {done}. {_CALMER}"


def nothing_but_skips(now: Evidence, before: Sequence[Evidence], limits: Limits) -> str | None:
    """Detects an epoch in which every step was skipped; the training ends."""
    skips = now.skips
    if skips is None or not skips.are_all or skips.stops:
        return None
    return (
        f"all {skips.steps} steps of this epoch were skipped, as {skips.name} was not finite; the "
        f"training stops. The model itself is broken: begin anew. {_CALMER}"
    )


def endless_spikes(now: Evidence, before: Sequence[Evidence], limits: Limits) -> str | None:
    """Detects that at least half of the last steps were skipped for their gradients."""
    if now.spikes is None:
        return None
    skipped, steps = _count_latest([one.spikes for one in (*before, now)])
    if not now.spikes.are_all and (steps < _FEWEST or skipped < _MOST * steps):
        return None
    end = "; the training stops" if now.spikes.are_all else ""
    return (
        f"{skipped} of the last {steps} steps were skipped, as the norm of the gradient was above "
        f"HealthCheck(spike_factor=...) times its running median{end}. These are not spikes: the "
        f"gradients keep growing. {_CALMER}, or give spike_factor a larger value"
    )


def _count_latest(epochs: Sequence[Skips | None]) -> tuple[int, int]:
    """Returns how many steps were skipped, and how many there were, in the fewest last epochs."""
    skipped = steps = 0
    for one in reversed(epochs):
        if one is None or steps >= _FEWEST:
            break
        skipped, steps = skipped + one.skipped, steps + one.steps
    return skipped, steps


_CALMER = (
    "Lower the learning rate, clip gradients (global_clipnorm), warm the rate up "
    "(schedules.WarmupThen), and check your own code for a log or a division without a floor"
)


def data_out_of_range(now: Evidence, before: Sequence[Evidence], limits: Limits) -> str | None:
    """Detects data outside the range that networks are made for, unless they are standardized.

    Standardized means a mean within 0.5 of 0, and a standard deviation from 1/3 to 3.
    """
    if now.data is None or limits.data_range is None:
        return None
    (low, high), data = limits.data_range, now.data
    if low <= data.low and data.high <= high:
        return None
    if abs(data.mean) < 0.5 and 1.0 / 3.0 < data.stddev < 3.0:
        return None
    return (
        f"the data reach from {data.low:.4g} to {data.high:.4g}, outside [{low:g}, {high:g}]. "
        "Scale them (x / 255 for images of whole numbers), or standardize them to mean 0 and "
        "standard deviation 1. If they are meant to be so, say HealthCheck(data_range=None) or give"
        " their range"
    )


def multiplier_at_bound(now: Evidence, before: Sequence[Evidence], limits: Limits) -> str | None:
    """Detects a multiplier that cannot grow any further although its constraint is violated."""
    for one in now.multipliers:
        if one.value >= 0.999 * one.bound and one.constraint > 0.0:
            return (
                f"{one.name} has reached its bound {one.bound:g}, and the constraint is still "
                f"violated by {one.constraint:.3g}: the model cannot reconstruct that well. Allow "
                "more (a larger kappa or target), use a larger model, or train longer with higher "
                "callbacks.GECO(bounds=...)"
            )
    return None


def beta_still_zero(now: Evidence, before: Sequence[Evidence], limits: Limits) -> str | None:
    """Detects at the end of a training that the KL had no weight: β is 0, or never began to rise.

    A β that is moved by feedback is left to its rule.
    """
    if not now.last or now.prior_is_matched:
        return None
    for name, beta in now.all_named("beta").items():
        # If a cycle is as long as an epoch, the ends of epochs show only its lowest values.
        history = [beta.value, beta.largest, *(one.numbers[name].value for one in before)]
        if beta.rule == "schedule" and max(history) < _NONE_YET:
            remedy = "Let the schedule reach its end earlier: it counts optimizer steps, not epochs"
        elif beta.rule is None and max(history) == 0.0:
            remedy = "Raise it, or drive it (callbacks.KLAnnealing)"
        else:
            continue
        return (
            f"{name} is still {beta.value:.2g} at the end of the training: the KL had no weight, "
            f"so samples of the prior decode to nothing like the data. {remedy}"
        )
    return None
