"""Collects all evaluations of a model in one report."""

from keras_vae.evaluation.reporting.report import report
from keras_vae.evaluation.reporting.result import Report
from keras_vae.evaluation.reporting.row import Row

__all__ = ["Report", "Row", "report"]
