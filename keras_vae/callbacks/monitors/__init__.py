"""Callbacks that observe a training without changing it: numbers, images and gradients."""

from keras_vae.callbacks.monitors.codebook_monitor import CodebookMonitor
from keras_vae.callbacks.monitors.gradient_monitor import GradientMonitor
from keras_vae.callbacks.monitors.image_monitor import ImageMonitor
from keras_vae.callbacks.monitors.latent_monitor import LatentMonitor
from keras_vae.callbacks.monitors.projector import write_projector

__all__ = [
    "CodebookMonitor",
    "GradientMonitor",
    "ImageMonitor",
    "LatentMonitor",
    "write_projector",
]
