"""The ELBO with an added divergence between the aggregate posterior and the prior."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from keras_vae import bounds, penalties
from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.objectives.base import draws_of, draws_of_prior
from keras_vae.objectives.estimated import Estimated
from keras_vae.terms import Draws, Terms
from keras_vae.training import replicas


@serializable
class InfoVAE(Estimated):
    """The distortion, the KL of each posterior, and the MMD of the aggregate posterior (InfoVAE).

    loss = -E_q[log p(x|z)] + (1 - alpha) KL(q(z|x) || p(z))
           + (alpha + lambda - 1) MMD(q(z) || p(z)),  q(z) = E_x q(z|x)

    With α = 1, only the aggregate posterior has to be like the prior (MMD-VAE); α = 0 and λ = 1
    give the negative ELBO. The MMD is the unbiased estimate (formula: `keras_vae.penalties.mmd`)
    between the z of the batch on all replicas and as many draws of the prior. The logs hold it as
    `mmd`. Memory is proportional to S B^2 D.

    Args:
        alpha: α <= 1, drivable as `"alpha"`.
        lambda_: λ >= 1 - α, drivable as `"lambda"`.
        kernel: `"rbf"`, exp(-||z - z'||^2 / (2 h^2)), or `"imq"`, 2 h^2 / (2 h^2 + ||z - z'||^2).
        bandwidth: h > 0; by default sqrt(D), so that 2 h^2 is the mean squared distance between two
            draws of a standard normal.
        num_samples: Number S of samples of z for every x; the MMD is averaged over them.
        estimator: `"reparameterized"` or `"sticking_the_landing"`, as for `ELBO`.
        **kwargs: Passed on to `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of its range or unknown.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)),
        ...     objective=InfoVAE(alpha=1.0, lambda_=100.0, kernel="imq"))
        >>> model.compile("adam")
        >>> "mmd" in model.fit(tf.zeros([64, 8, 8, 1]), verbose=0).history
        True

    References:
        Zhao et al., 2017, eq. 6 and section 3.2, arXiv:1706.02262.
    """

    computes_with_z = True

    KNOWN_ESTIMATORS = ("reparameterized", "sticking_the_landing")  # The MMD comes through z.
    measure_names = ("mmd",)

    def __init__(
        self,
        alpha: float,
        lambda_: float,
        *,
        kernel: str = "rbf",
        bandwidth: float | None = None,
        num_samples: int = 1,
        estimator: str = "reparameterized",
        **kwargs: Any,
    ):
        super().__init__(num_samples=num_samples, estimator=estimator, **kwargs)
        self._initial_alpha = checks.number("alpha", alpha, maximum=1.0)
        self._initial_lambda = checks.number("lambda_", lambda_)
        if self._initial_lambda < 1.0 - self._initial_alpha:
            raise checks.invalid("lambda_", f"must be >= 1 - alpha, {1.0 - alpha:g}", lambda_)
        self.kernel = checks.option("kernel", kernel, penalties.KERNELS)
        if bandwidth is not None:
            bandwidth = checks.number("bandwidth", bandwidth, 0.0, exclusive=True)
        self.bandwidth = bandwidth
        self.alpha = self.add_hyperparameter("alpha", self._initial_alpha)
        self.lambda_ = self.add_hyperparameter("lambda", self._initial_lambda)

    @property
    def kl_weight(self) -> float:
        return 1.0 - float(self.alpha)

    def loss(self, terms: Terms) -> tf.Tensor:
        return self.loss_and_measures(terms)[0]

    def loss_and_measures(self, terms: Terms) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        terms = self.estimator.prepare(terms)
        kl = tf.reduce_sum(self.estimator.kl(terms), axis=-1)
        alpha, lambda_ = tf.cast(self.alpha, kl.dtype), tf.cast(self.lambda_, kl.dtype)
        mmd = self._mmd(draws_of(terms, "InfoVAE")) + tf.zeros_like(kl)
        loss = -bounds.elbo(self._log_p_x(terms), kl, 1.0 - alpha) + (alpha + lambda_ - 1.0) * mmd
        return loss, {"mmd": mmd}

    def _mmd(self, draws: Draws) -> tf.Tensor:
        """Returns the MMD of all z of all replicas and as many draws of the prior, a scalar."""
        prior = draws_of_prior(draws, draws.seed)  # [S, B, D]
        z, prior = (_vectors(replicas.gather(values, axis=1)) for values in (draws.z, prior))
        bandwidth = math.sqrt(z.shape[-1]) if self.bandwidth is None else self.bandwidth
        return tf.reduce_mean(penalties.mmd(z, prior, self.kernel, bandwidth))

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["baseline"]
        return {
            **config,
            "alpha": self._initial_alpha,
            "lambda_": self._initial_lambda,
            "kernel": self.kernel,
            "bandwidth": self.bandwidth,
        }


def _vectors(z: tf.Tensor) -> tf.Tensor:
    """Returns z of any event shape as vectors `[S, B, D]`."""
    return tf.reshape(z, [z.shape[0], -1, math.prod(z.shape[2:])])
