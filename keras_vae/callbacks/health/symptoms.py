"""The symptoms that `HealthCheck` knows; to add a symptom, add an entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keras_vae.callbacks.health import adversaries, latent, steps
from keras_vae.callbacks.health.evidence import Evidence, Limits

# Current evidence, evidence of earlier epochs of this training, limits -> a sentence, or None.
Symptom = Callable[[Evidence, Sequence[Evidence], Limits], str | None]

SYMPTOMS: dict[str, Symptom] = {
    "non-finite steps": steps.non_finite,
    "nothing but non-finite steps": steps.nothing_but_skips,
    "gradient spikes without end": steps.endless_spikes,
    "data out of range": steps.data_out_of_range,
    "KL explosion": latent.kl_explosion,
    "posterior collapse": latent.posterior_collapse,
    "latent groups switched off": latent.groups_off,
    "codebook collapse": latent.codebook_collapse,
    "dead decoder": latent.dead_decoder,
    "training and evaluation mode apart": latent.modes_apart,
    "likelihood scale at its floor": latent.likelihood_scale_at_floor,
    "posterior scale at its floor": latent.posterior_scale_at_floor,
    "multiplier at its bound": steps.multiplier_at_bound,
    "beta still zero": steps.beta_still_zero,
    "part that never moved": adversaries.part_never_moved,
    "adversary has won": adversaries.adversary_has_won,
}
