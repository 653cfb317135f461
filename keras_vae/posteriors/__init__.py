"""Heads for q(z|x): features of the encoder -> `tfd.Distribution` over z."""

from keras_vae.posteriors.base import Posterior
from keras_vae.posteriors.diagonal_normal import DiagonalNormal

__all__ = ["DiagonalNormal", "Posterior"]
