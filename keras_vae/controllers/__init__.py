"""Code that runs inside the train step: rules for one number of a model, gates, and hooks."""

from keras_vae.controllers.controller import Controller, Step, StepHook
from keras_vae.controllers.gates import AccuracyGate, EquilibriumGate, Gate
from keras_vae.controllers.moving_average import MovingAverage
from keras_vae.controllers.multiplier_rule import MultiplierRule
from keras_vae.controllers.optimizer_momentum import OptimizerMomentum
from keras_vae.controllers.pi_rule import PIRule
from keras_vae.controllers.scheduled_value import ScheduledValue

__all__ = [
    "AccuracyGate",
    "Controller",
    "EquilibriumGate",
    "Gate",
    "MovingAverage",
    "MultiplierRule",
    "OptimizerMomentum",
    "PIRule",
    "ScheduledValue",
    "Step",
    "StepHook",
]
