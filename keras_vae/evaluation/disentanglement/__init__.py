"""Measures how far a representation separates the ground-truth factors of its data."""

from keras_vae.evaluation.disentanglement.beta_vae_score import BetaVAEScore, beta_vae_score
from keras_vae.evaluation.disentanglement.dci import DCI, dci
from keras_vae.evaluation.disentanglement.factor_vae_score import FactorVAEScore, factor_vae_score
from keras_vae.evaluation.disentanglement.modularity import Modularity, modularity
from keras_vae.evaluation.disentanglement.mutual_information_gap import (
    MutualInformationGap,
    mutual_information_gap,
)
from keras_vae.evaluation.disentanglement.sap_score import SAPScore, sap_score
from keras_vae.evaluation.disentanglement.scores import (
    DisentanglementScores,
    disentanglement_scores,
)

__all__ = [
    "BetaVAEScore",
    "DCI",
    "DisentanglementScores",
    "FactorVAEScore",
    "Modularity",
    "MutualInformationGap",
    "SAPScore",
    "beta_vae_score",
    "dci",
    "disentanglement_scores",
    "factor_vae_score",
    "modularity",
    "mutual_information_gap",
    "sap_score",
]
