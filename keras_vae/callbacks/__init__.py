"""Callbacks: what a training does besides its steps."""

from keras_vae.callbacks.geco import GECO
from keras_vae.callbacks.hyperparameter_schedule import HyperparameterSchedule, KLAnnealing
from keras_vae.callbacks.image_monitor import ImageMonitor
from keras_vae.callbacks.kl_controller import KLController
from keras_vae.callbacks.latent_monitor import LatentMonitor

__all__ = [
    "GECO",
    "HyperparameterSchedule",
    "ImageMonitor",
    "KLAnnealing",
    "KLController",
    "LatentMonitor",
]
