"""Symptoms of parts that never move, and of discriminators."""

from __future__ import annotations

from collections.abc import Sequence

from keras_vae.callbacks.health.evidence import Evidence, Limits

# A discriminator that is right this often in two epochs is not being deceived.
_WON = 0.98


def part_never_moved(now: Evidence, before: Sequence[Evidence], limits: Limits) -> str | None:
    """Detects, at the end of a training, a part of the model whose weights never changed."""
    if not now.last or now.step == now.begin:
        return None
    for part, steps in now.part_steps.items():
        if steps == 0:
            return (
                f"the {part} has not made a single step in the {now.step - now.begin} of this "
                "training. Its `start` in optimizers.by_part may lie beyond the end, a gate may "
                "have held it all the time (callbacks.Equilibrium with a wider margin, "
                "AccuracyGate with a larger maximum), or no loss may depend on it"
            )
    return None


def adversary_has_won(now: Evidence, before: Sequence[Evidence], limits: Limits) -> str | None:
    """Detects a discriminator that is right about nearly all data and fakes."""
    known = [one.accuracy for one in (*before[-1:], now) if one.accuracy is not None]
    if now.step < limits.grace or len(known) < 2 or min(known) < _WON:
        return None
    return (
        f"the discriminator is right about {known[-1]:.1%} of data and fakes: it has won, and "
        "what deceives it has little to learn from. Give it a smaller learning rate or fewer steps "
        "(optimizers.by_part with every=), hold it (callbacks.Equilibrium or AccuracyGate), "
        "regularize it (r1, lecam, normalization='spectral'), or lower its weight in the loss"
    )
