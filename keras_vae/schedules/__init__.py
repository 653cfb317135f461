"""Functions of the optimizer step that drive β, the learning rate or any other hyperparameter."""

from keras_vae.schedules.base import Schedule
from keras_vae.schedules.cycles import Cyclical, OneCycle
from keras_vae.schedules.pieces import Constant, Piecewise, WarmupThen
from keras_vae.schedules.transitions import Cosine, Exponential, Linear, Sigmoid

__all__ = [
    "Constant",
    "Cosine",
    "Cyclical",
    "Exponential",
    "Linear",
    "OneCycle",
    "Piecewise",
    "Schedule",
    "Sigmoid",
    "WarmupThen",
]
