"""Bounds on log p(x) as pure functions of log-densities: no variables, no batch means, no logging.

Shapes: S or K samples, B examples, G groups of latent dimensions, D latent dimensions. All in nats.
"""

from keras_vae.bounds.evidence import (
    bits_per_dimension,
    elbo,
    importance_weighted,
    lagrangian,
    leave_one_out_bound,
    leave_one_out_mean,
    normalized_weights,
    with_gradient_of,
)
from keras_vae.bounds.floors import (
    FREE_BITS_MODES,
    balancing_weights,
    free_bits,
)
from keras_vae.bounds.rate import (
    closed_form_kl,
    conditional_kl,
    conditional_kl_of_dimensions,
    estimated_kl,
    factors,
    log_prob_by_group,
    log_ratio_by_group,
    sampled_kl,
    sum_groups,
)

__all__ = [
    "FREE_BITS_MODES",
    "balancing_weights",
    "bits_per_dimension",
    "closed_form_kl",
    "conditional_kl",
    "conditional_kl_of_dimensions",
    "elbo",
    "estimated_kl",
    "factors",
    "free_bits",
    "importance_weighted",
    "lagrangian",
    "leave_one_out_bound",
    "leave_one_out_mean",
    "log_prob_by_group",
    "log_ratio_by_group",
    "normalized_weights",
    "sampled_kl",
    "sum_groups",
    "with_gradient_of",
]
