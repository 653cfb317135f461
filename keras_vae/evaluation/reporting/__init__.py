"""All evaluations of a model in one report."""

from keras_vae.evaluation.reporting.report import report
from keras_vae.evaluation.reporting.result import Report, Row

__all__ = ["Report", "Row", "report"]
