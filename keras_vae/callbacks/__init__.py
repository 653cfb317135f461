"""Callbacks: everything that happens in training besides the steps themselves."""

from keras_vae.callbacks.cyclical_learning_rate import CyclicalLearningRate
from keras_vae.callbacks.gates import AccuracyGate, Equilibrium
from keras_vae.callbacks.geco import GECO
from keras_vae.callbacks.health import Finding, HealthCheck, HealthWarning
from keras_vae.callbacks.hyperparameter_schedule import HyperparameterSchedule, KLAnnealing
from keras_vae.callbacks.kl_controller import KLController
from keras_vae.callbacks.linear_scaling import LinearScaling
from keras_vae.callbacks.monitors import (
    CodebookMonitor,
    GradientMonitor,
    ImageMonitor,
    LatentMonitor,
    write_projector,
)
from keras_vae.callbacks.one_cycle_learning_rate import OneCycleLearningRate
from keras_vae.callbacks.resume import Resume
from keras_vae.callbacks.stop_when_constraint_satisfied import StopWhenConstraintSatisfied

__all__ = [
    "AccuracyGate",
    "CodebookMonitor",
    "CyclicalLearningRate",
    "Equilibrium",
    "Finding",
    "GECO",
    "GradientMonitor",
    "HealthCheck",
    "HealthWarning",
    "HyperparameterSchedule",
    "ImageMonitor",
    "KLAnnealing",
    "KLController",
    "LatentMonitor",
    "LinearScaling",
    "OneCycleLearningRate",
    "Resume",
    "StopWhenConstraintSatisfied",
    "write_projector",
]
