"""Likelihoods: heads for p(x|z).

To make your own, subclass `Likelihood`: set `support` and return a distribution from `call`.
"""

from keras_vae.likelihoods.base import Likelihood, Support
from keras_vae.likelihoods.bernoulli import Bernoulli
from keras_vae.likelihoods.categorical import Categorical, OneHotSupport
from keras_vae.likelihoods.continuous_bernoulli import ContinuousBernoulli
from keras_vae.likelihoods.discretized_logistic_mixture import DiscretizedLogisticMixture
from keras_vae.likelihoods.laplace import Laplace
from keras_vae.likelihoods.normal import Normal

__all__ = [
    "Bernoulli",
    "Categorical",
    "ContinuousBernoulli",
    "DiscretizedLogisticMixture",
    "Laplace",
    "Likelihood",
    "Normal",
    "OneHotSupport",
    "Support",
]
