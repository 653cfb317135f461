"""Rules that move one number of a model inside the train step, once per optimizer step."""

from keras_vae.controllers.controller import Controller, Step, StepHook
from keras_vae.controllers.moving_average import MovingAverage
from keras_vae.controllers.multiplier_rule import MultiplierRule
from keras_vae.controllers.optimizer_momentum import OptimizerMomentum
from keras_vae.controllers.pi_rule import PIRule
from keras_vae.controllers.scheduled_value import ScheduledValue

__all__ = [
    "Controller",
    "MovingAverage",
    "MultiplierRule",
    "OptimizerMomentum",
    "PIRule",
    "ScheduledValue",
    "Step",
    "StepHook",
]
