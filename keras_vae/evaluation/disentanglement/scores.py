"""All disentanglement scores at once."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras_vae.data import FactorData
from keras_vae.evaluation.disentanglement.beta_vae_score import BetaVAEScore, beta_vae_score
from keras_vae.evaluation.disentanglement.code_table import CodeTable
from keras_vae.evaluation.disentanglement.dci import DCI, dci
from keras_vae.evaluation.disentanglement.factor_vae_score import FactorVAEScore, factor_vae_score
from keras_vae.evaluation.disentanglement.modularity import Modularity, modularity
from keras_vae.evaluation.disentanglement.mutual_information_gap import (
    MutualInformationGap,
    mutual_information_gap,
)
from keras_vae.evaluation.disentanglement.sap_score import SAPScore, sap_score


@dataclasses.dataclass(frozen=True)
class DisentanglementScores:
    """The results of all metrics for one representation.

    Attributes:
        beta_vae: The result of `beta_vae_score`.
        factor_vae: The result of `factor_vae_score`.
        mutual_information_gap: The result of `mutual_information_gap`.
        sap: The result of `sap_score`.
        dci: The result of `dci`.
        modularity: The result of `modularity`.
    """

    beta_vae: BetaVAEScore
    factor_vae: FactorVAEScore
    mutual_information_gap: MutualInformationGap
    sap: SAPScore
    dci: DCI
    modularity: Modularity

    def as_dict(self) -> dict[str, float]:
        """Returns only the scores, by name."""
        return {
            "beta_vae": self.beta_vae.score,
            "factor_vae": self.factor_vae.score,
            "mutual_information_gap": self.mutual_information_gap.score,
            "sap": self.sap.score,
            "dci_disentanglement": self.dci.disentanglement,
            "dci_completeness": self.dci.completeness,
            "dci_informativeness": self.dci.informativeness,
            "modularity": self.modularity.score,
            "explicitness": self.modularity.explicitness,
        }


def disentanglement_scores(
    representation: Any,
    data: FactorData,
    seed: int = 0,
    *,
    batch_size: int = 64,
    num_train: int = 10000,
    num_eval: int = 5000,
    num_bins: int = 20,
    classifier: str = "multinomial",
    verbose: bool = True,
) -> DisentanglementScores:
    """Computes all disentanglement scores, and every code that they need only once.

    scores = (metric(representation, data, seed) for each metric)

    The results are those of the individual functions with the same seed. With the default sizes,
    the boosted trees of `dci` take most of the time, which is minutes for dSprites.

    Args:
        representation: Deterministic function from observations `[B, *E]` to codes `[B, D]`, or a
            `VAE`, for the means of its posterior; D >= 2.
        data: Observations with their factors.
        seed: Integer >= 0.
        batch_size: Number of observations per point of `beta_vae_score` and `factor_vae_score`.
        num_train: Number of training points, or observations, for each metric.
        num_eval: Number of evaluation points, or observations, for each metric.
        num_bins: Number of bins for each dimension in metrics that measure information.
        classifier: `"multinomial"` or `"one_vs_rest"`, the logistic regression used for
            `beta_vae_score` and explicitness; published scores use the latter.
        verbose: Whether to show progress if it takes long.

    Returns:
        A `DisentanglementScores`.

    Raises:
        ValueError: If there are fewer observations than bins, a number is out of range, or the
            representation does not return finite codes `[B, D]`.

    Example:
        >>> import numpy as np, keras_vae as kv
        >>> factors = np.stack(np.meshgrid(range(5), range(4), indexing="ij"), -1).reshape(-1, 2)
        >>> data = kv.data.FactorData(factors.astype("float32"), factors)
        >>> scores = disentanglement_scores(lambda x: x, data, num_train=500, num_eval=100)
        >>> scores.beta_vae.score, round(scores.as_dict()["dci_disentanglement"], 2)
        (1.0, 1.0)

    References:
        Locatello et al., 2019, section 4, arXiv:1811.12359.
    """
    table = CodeTable(representation, data, verbose)
    sizes: dict[str, Any] = {"num_train": num_train, "num_eval": num_eval, "verbose": verbose}
    bins: dict[str, Any] = {"num_bins": num_bins, "verbose": verbose}
    # Compute the gap first, as it fails at once if there are fewer observations than bins.
    linear: dict[str, Any] = {"classifier": classifier, **sizes}
    gap = mutual_information_gap(table, data, seed, num_train=num_train, **bins)
    return DisentanglementScores(
        mutual_information_gap=gap,
        beta_vae=beta_vae_score(table, data, seed, batch_size=batch_size, **linear),
        factor_vae=factor_vae_score(table, data, seed, batch_size=batch_size, **sizes),
        sap=sap_score(table, data, seed, **sizes),
        modularity=modularity(table, data, seed, num_bins=num_bins, **linear),
        dci=dci(table, data, seed, **sizes),
    )
