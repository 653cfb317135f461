"""Heads for p(z): a `tfd.Distribution` over z, fixed, learned or conditional."""

from keras_vae.priors.base import Prior
from keras_vae.priors.standard_normal import StandardNormal

__all__ = ["Prior", "StandardNormal"]
