"""Symptoms of the latent variables and the decoder."""

from __future__ import annotations

from collections.abc import Sequence

from keras_vae.callbacks.health.evidence import Evidence, Examination, Limits
from keras_vae.core.numerics import SCALE_FLOOR
from keras_vae.evaluation.latent_groups import LatentGroup

# A group whose KL is below this many nats holds nothing.
_OFF = 0.01
# A codebook is collapsed if fewer codes occur than this share of those expected under uniform use.
_COLLAPSED = 0.1
# Reconstructions with more than this share of the squared error of others, such as the mean image,
# are no better than those; the margin is there because the examples are few.
_NO_BETTER = 0.98
# A group whose KL has become this many times as large as it ever was has exploded.
_GROWN = 10.0


def posterior_collapse(now: Evidence, before: Sequence[Evidence], limits: Limits) -> str | None:
    """Detects a posterior that says nothing about x, once the KL has weight and nothing moves."""
    seen = now.seen
    if seen is None or not seen.posterior_learns or now.step < limits.grace:
        return None
    if seen.codes:  # These collapse in another way, and have other remedies.
        return None
    if now.kl_is_light or now.kl_is_held_down or seen.decoder_ignores_z or not seen.mean_error:
        return None
    inactive = seen.active_units < limits.min_active_units
    useless = seen.error > _NO_BETTER * seen.mean_error
    # With only one look, at the end, judge by the units alone: the decoder may be slow to learn.
    alone = now.last and now.examined_by_half(before) is None
    if not (inactive if alone else (inactive or useless) and now.is_settled(before)):
        return None
    return (
        f"{seen.active_units} of {seen.dimensions} latent dimensions are active, and the squared "
        f"error of reconstructions is {seen.error:.4g}, of the mean image {seen.mean_error:.4g}"
        ". Phase in the KL (callbacks.KLAnnealing), give it free bits (ELBO(free_bits=...)), or "
        "constrain the reconstruction (GECO); a weaker decoder or a larger learning rate for the "
        "encoder (optimizers.by_part) help, too"
    )


def groups_off(now: Evidence, before: Sequence[Evidence], limits: Limits) -> str | None:
    """Detects groups of latent variables that hold nothing, while others do."""
    seen = now.seen
    if seen is None or not seen.posterior_learns or now.step < limits.grace:
        return None
    off = [group.name for group in seen.groups if _is_off(group)]
    if not off or len(off) == len(seen.groups):  # If all are off, it is a collapse.
        return None
    alone = now.last and now.examined_by_half(before) is None
    if now.kl_is_light or now.kl_is_held_down or not (alone or now.is_settled(before)):
        return None
    return (
        f"{len(off)} of {len(seen.groups)} groups of latent variables are switched off "
        f"({', '.join(off)}): the KL of each is below {_OFF} nats, so q equals the prior "
        "there, and these groups carry no information about x. They rarely recover: restart with a "
        "slower callbacks.KLAnnealing, ELBO(kl_balancing='size') and ELBO(free_bits=...), or "
        "remove them"
    )


def codebook_collapse(now: Evidence, before: Sequence[Evidence], limits: Limits) -> str | None:
    """Detects codebooks in which most codes do not occur."""
    seen = now.seen
    if seen is None or not (now.last or now.step >= limits.grace):
        return None
    collapsed = [one for one in seen.codes if one.share < _COLLAPSED]
    if not collapsed:
        return None
    said = ", ".join(f"{one.in_use} of {one.num_codes} of {one.name}" for one in collapsed)
    return (
        f"few codes occur ({said}), so that a smaller codebook would do as well. Let unused codes "
        "begin anew (restart_below=0.2), set the codebook again (model.initialize_codebook), use "
        "distance='cosine' with a few dimensions (code_dim=8), a smaller learning rate, or FSQ,"
        " which has no codebook"
    )


def _is_off(group: LatentGroup) -> bool:
    # The means of a group vary with those of the groups before it, even if it adds nothing.
    # Of a posterior that draws from the other end than the prior, a group's log-ratio may be
    # negative.
    return group.active_units == 0 if group.kl is None else abs(group.kl) < _OFF


def kl_explosion(now: Evidence, before: Sequence[Evidence], limits: Limits) -> str | None:
    """Detects a uselessly large KL in a dimension or in a group, unless it has no weight."""
    seen = now.seen
    if seen is None or now.kl_is_light:
        return None
    earlier = [one.seen for one in before if one.seen is not None]
    found = _find_dimension(seen, earlier, now.last, limits)
    found = found or _find_grown_group(seen, earlier, limits)
    if found is None:
        return None
    return (
        f"{found}: q(z|x) is far outside the prior. Scale the data to order 1, lower the learning "
        "rate, clip gradients (global_clipnorm) or warm the rate up (schedules.WarmupThen)"
    )


def _find_dimension(
    seen: Examination, earlier: Sequence[Examination], last: bool, limits: Limits
) -> str | None:
    """Finds a dimension whose KL is uselessly large, unless it is still halving.

    100 nats in one dimension mean that the posterior is about 14 standard deviations of the prior
    away from it, whatever the number of dimensions and the objective; telling x apart to 1 in 1000
    takes 7 nats.
    """
    if not seen.largest_kl > limits.max_kl:
        return None
    if not last and (not earlier or seen.largest_kl < 0.5 * earlier[-1].largest_kl):
        return None
    largest = seen.largest_group
    where = "" if largest is None else f" of the group {largest.name}"
    return (
        f"a latent dimension{where} has a KL of {seen.largest_kl:.3g} nats, all {seen.dimensions} "
        f"have {seen.total_kl:.3g}"
    )


def _find_grown_group(
    seen: Examination, earlier: Sequence[Examination], limits: Limits
) -> str | None:
    """Finds a group whose KL has grown far above all its earlier values without a gain.

    The KL of a group that wakes up grows as fast, but what the group then holds about x makes the
    reconstructions better.
    """
    if not earlier or not seen.error > _NO_BETTER * earlier[-1].error:
        return None
    for i, group in enumerate(seen.groups):
        known = max(abs(one.groups[i].kl or 0.0) for one in earlier)
        if group.kl is not None and group.kl > max(limits.max_kl, _GROWN * known):
            return (
                f"the KL of the group {group.name} has grown from {known:.3g} to {group.kl:.3g} "
                "nats, and reconstructions are no better for it"
            )
    return None


def dead_decoder(now: Evidence, before: Sequence[Evidence], limits: Limits) -> str | None:
    """Detects a decoder that ignores z, although z is informative about x, or that cannot learn."""
    seen = now.seen
    if seen is None or not seen.mean_error or now.step < limits.grace:
        return None
    if seen.decoder_gradient == 0.0:
        what = "the gradient of all its weights is exactly zero"
    elif seen.decoder_ignores_z and now.is_settled(before):
        what = (
            f"reconstructions are the same for every z (their variance is {seen.spread:.3g}, that "
            f"of the data {seen.mean_error:.3g}), although the KL is {seen.total_kl:.3g} nats"
        )
    else:
        return None
    return (
        f"{what}. Look for units that are saturated or dead (relu after too large a step): lower "
        "the learning rate, initialize anew, use elu or tanh; look for a path from z to the output "
        "that is cut (stop_gradient, an input that is not used)"
    )


def posterior_scale_at_floor(
    now: Evidence, before: Sequence[Evidence], limits: Limits
) -> str | None:
    """Detects a posterior that has become a point in some dimension."""
    seen = now.seen
    if seen is None or seen.posterior_scale is None or now.kl_is_light:
        return None
    if not seen.posterior_scale < 2.0 * seen.scale_floor or seen.largest_kl > limits.max_kl:
        return None
    return (
        f"the standard deviation of q(z|x) is {seen.posterior_scale:.2g} in a dimension, its floor "
        f"{seen.scale_floor:g}: the model is an autoencoder there. Give the KL more weight (beta), "
        "or p(x|z) a larger scale"
    )


def likelihood_scale_at_floor(
    now: Evidence, before: Sequence[Evidence], limits: Limits
) -> str | None:
    """Detects a learned scale of p(x|z) that is below ten times its floor."""
    seen = now.seen
    if seen is None or seen.scale is None or not seen.scale < 10.0 * SCALE_FLOOR:
        return None
    return (
        f"the learned scale of p(x|z) has come down to {seen.scale:.2g}, its floor is "
        f"{SCALE_FLOOR:g}: the density of the data has no bound, as values that are constant or "
        "few (borders, whole numbers) can be met exactly. Keep the scale fixed (Normal(scale=0.1)),"
        " share it (scale='shared'), add noise to the data, or use a likelihood of whole numbers "
        "(DiscretizedLogisticMixture)"
    )


def modes_apart(now: Evidence, before: Sequence[Evidence], limits: Limits) -> str | None:
    """Detects statistics kept for evaluation that do not match those seen in training.

    They lag behind during the first steps, so this is judged only after `grace` steps, or at the
    end of the training.
    """
    modes = None if now.seen is None else now.seen.modes
    if modes is None or not modes.are_apart or not (now.last or now.step >= limits.grace):
        return None
    return (
        f"in training mode the KL is {modes.training_kl:.3g} nats and the ELBO "
        f"{modes.training_elbo:.4g}, in evaluation mode, on the same examples, {modes.kl:.3g} and "
        f"{modes.elbo:.4g}: the moving statistics of a layer such as BatchNormalization do not "
        "describe the batches of the training. Give it a smaller momentum (0.9; pretrained "
        "networks have 0.999), train longer, freeze it, or use GroupNormalization in its place"
    )
