"""Image data sets as `tf.data` pipelines, from memory or TFDS, and data with known factors."""

from keras_vae.data.factor_data import FactorData
from keras_vae.data.factor_loading import load_factors
from keras_vae.data.loading import load

__all__ = ["FactorData", "load", "load_factors"]
