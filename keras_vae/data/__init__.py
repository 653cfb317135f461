"""Image data sets as `tf.data` pipelines, in memory or through TFDS."""

from keras_vae.data.loading import load

__all__ = ["load"]
