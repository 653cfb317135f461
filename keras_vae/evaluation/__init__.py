"""Evaluation of trained models."""

from keras_vae.evaluation.active_units import ActiveUnits, active_units
from keras_vae.evaluation.annealed_importance import (
    AnnealedLogLikelihood,
    annealed_importance_sampling,
)
from keras_vae.evaluation.bidirectional_check import BidirectionalCheck, bidirectional_check
from keras_vae.evaluation.code_usage import CodeUsage, code_usage
from keras_vae.evaluation.disentanglement import (
    DCI,
    BetaVAEScore,
    DisentanglementScores,
    FactorVAEScore,
    Modularity,
    MutualInformationGap,
    SAPScore,
    beta_vae_score,
    dci,
    disentanglement_scores,
    factor_vae_score,
    modularity,
    mutual_information_gap,
    sap_score,
)
from keras_vae.evaluation.distances import (
    FrechetDistance,
    FrechetExtrapolation,
    KernelDistance,
    ManifoldScores,
    Moments,
    classifier_features,
    feature_moments,
    frechet_at_infinity,
    frechet_between_moments,
    frechet_distance,
    inception_features,
    kernel_distance,
    manifold_scores,
)
from keras_vae.evaluation.encode_codes import encode_codes
from keras_vae.evaluation.estimate import Estimate
from keras_vae.evaluation.fit_posterior import FittedPosterior, fit_posterior
from keras_vae.evaluation.fit_prior import fit_prior
from keras_vae.evaluation.inference_gap import InferenceGap, inference_gap
from keras_vae.evaluation.kl_decomposition import KLDecomposition, kl_decomposition
from keras_vae.evaluation.log_likelihood import LogLikelihood, log_likelihood
from keras_vae.evaluation.marginal_kl import marginal_kl
from keras_vae.evaluation.mean_kl import mean_kl
from keras_vae.evaluation.mutual_information import mutual_information
from keras_vae.evaluation.rate_distortion import RateDistortionCurve, rate_distortion
from keras_vae.evaluation.reconstruction_error import ReconstructionError, reconstruction_error
from keras_vae.evaluation.reporting import Report, report

__all__ = [
    "ActiveUnits",
    "AnnealedLogLikelihood",
    "BetaVAEScore",
    "BidirectionalCheck",
    "CodeUsage",
    "DCI",
    "DisentanglementScores",
    "Estimate",
    "FactorVAEScore",
    "FittedPosterior",
    "FrechetDistance",
    "FrechetExtrapolation",
    "InferenceGap",
    "KLDecomposition",
    "KernelDistance",
    "LogLikelihood",
    "ManifoldScores",
    "Modularity",
    "Moments",
    "MutualInformationGap",
    "RateDistortionCurve",
    "ReconstructionError",
    "Report",
    "SAPScore",
    "active_units",
    "annealed_importance_sampling",
    "beta_vae_score",
    "bidirectional_check",
    "classifier_features",
    "code_usage",
    "dci",
    "disentanglement_scores",
    "encode_codes",
    "factor_vae_score",
    "feature_moments",
    "fit_posterior",
    "fit_prior",
    "frechet_at_infinity",
    "frechet_between_moments",
    "frechet_distance",
    "inception_features",
    "inference_gap",
    "kernel_distance",
    "kl_decomposition",
    "log_likelihood",
    "manifold_scores",
    "marginal_kl",
    "mean_kl",
    "modularity",
    "mutual_information",
    "mutual_information_gap",
    "rate_distortion",
    "reconstruction_error",
    "report",
    "sap_score",
]
