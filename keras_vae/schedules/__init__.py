"""Functions of the optimizer step, to drive β, the learning rate or any other number."""

from keras_vae.schedules.base import Schedule
from keras_vae.schedules.constant import Constant
from keras_vae.schedules.cosine import Cosine
from keras_vae.schedules.cyclical import Cyclical
from keras_vae.schedules.exponential import Exponential
from keras_vae.schedules.linear import Linear
from keras_vae.schedules.one_cycle import OneCycle
from keras_vae.schedules.piecewise import Piecewise
from keras_vae.schedules.sigmoid import Sigmoid
from keras_vae.schedules.warmup_then import WarmupThen

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
