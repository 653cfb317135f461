"""A mixture of normals as the prior, learned or fitted by EM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.core.initializers import Constant
from keras_vae.core.numerics import SCALE_FLOOR, inverse_scale, positive_scale
from keras_vae.distributions.mixture import MixtureSameFamily
from keras_vae.priors.base import Infer, Prior, serializable
from keras_vae.priors.fitting import checked_draws

tfd = tfp.distributions

# The options of `covariance`, with their names in scikit-learn.
COVARIANCES = {"diagonal": "diag", "full": "full"}


@serializable
class MixtureOfNormals(Prior):
    """A mixture of normals with all parameters learned.

    p(z) = sum_k softmax(logits)_k N(z; mu_k, L_k L_k^T), L_k = diag(sigma_k) or lower triangular

    It starts with equal weights, unit covariances, and locations drawn from N(0, I).

    Args:
        latent_dim: Number D of latent dimensions.
        num_components: Number K of components.
        seed: Seed of the initial locations.
        covariance: `"diagonal"`, or `"full"`, which costs D (D + 1) / 2 numbers per component.
        **kwargs: Passed on to `keras.layers.Layer`.

    Returns:
        `tfd.MixtureSameFamily`, batch [], event [D].

    Raises:
        ValueError: If `latent_dim` or `num_components` is not a positive integer, `seed` is not
            an integer >= 0, or `covariance` is unknown.

    Example:
        >>> prior = MixtureOfNormals(2, num_components=10)()
        >>> prior.log_prob(tf.zeros([5, 2])).shape
        TensorShape([5])

    References:
        Tomczak & Welling, 2018, section 3 (as a baseline), arXiv:1705.07120; Ghosh et al., 2020,
        section 4 (full, fitted after training), arXiv:1903.12436.
    """

    def __init__(
        self,
        latent_dim: int,
        num_components: int,
        seed: int = 0,
        covariance: str = "diagonal",
        **kwargs: Any,
    ):
        super().__init__(latent_dim, **kwargs)
        self.covariance = checks.option("covariance", covariance, COVARIANCES)
        self.num_components = checks.size("num_components", num_components)
        self.seed = checks.integer("seed", seed, minimum=0)

    def build(
        self,
        encoder_input_shape: Sequence[int | None] | None = None,
        condition_shape: Sequence[int | None] | None = None,
    ) -> None:
        """Creates the parameters; needs no shape."""
        shape = (self.num_components, self.latent_dim)
        # Equal components would have equal gradients and stay equal forever.
        spread = keras.initializers.RandomNormal(stddev=1.0, seed=self.seed)
        unit = Constant(inverse_scale(1.0))
        self.logits = self.add_density_weight(shape[:1], "zeros", "logits")
        self.locs = self.add_density_weight(shape, spread, "locs")
        self.raw_scales = self.add_density_weight(shape, unit, "raw_scales")
        if self.covariance == "full":
            # Only the entries below the diagonal of L: the diagonal consists of the scales.
            size = self.latent_dim * (self.latent_dim - 1) // 2
            self.below = self.add_density_weight((self.num_components, size), "zeros", "below")

    def call(
        self, condition: tf.Tensor | None = None, infer: Infer | None = None
    ) -> tfd.MixtureSameFamily:
        """Returns p(z), whatever the arguments."""
        return MixtureSameFamily(
            tfd.Categorical(logits=self.to_density(self.logits)), self._components()
        )

    def _components(self) -> tfd.Distribution:
        """Returns the normals, with batch [K] and event [D]."""
        locs = self.to_density(self.locs)
        scales = positive_scale(self.to_density(self.raw_scales))
        if self.covariance == "diagonal":
            return tfd.MultivariateNormalDiag(locs, scales)
        tril = tf.linalg.diag(scales)
        if self.latent_dim > 1:
            rows = tfp.math.fill_triangular(self.to_density(self.below))  # [K, D - 1, D - 1]
            tril += tf.pad(rows, [[0, 0], [1, 0], [0, 1]])
        return tfd.MultivariateNormalTriL(locs, tril)

    def fit(  # type: ignore[override]  # Another algorithm has other options.
        self,
        z: Any,
        *,
        max_iter: int = 100,
        n_init: int = 1,
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        init_params: str = "kmeans",
        seed: int = 0,
        verbose: bool | int = False,
    ) -> Prior:
        """Fits the mixture to draws of z by the EM algorithm of scikit-learn, started by K-means.

        max 1/N sum_n log p(z_n)

        Args:
            z: Draws `[N, D]`, at least as many as components.
            max_iter: Maximum number of steps of the EM algorithm.
            n_init: Number of starts, of which the best one counts.
            tol: The fit stops when a step gains less than this, in nats per draw.
            reg_covar: What is added to all variances.
            init_params: How it starts; this and the options above are those of
                `sklearn.mixture.GaussianMixture`.
            seed: Seed of the initialization.
            verbose: Whether scikit-learn prints its progress; 2 prints more.

        Returns:
            The prior itself.

        Raises:
            ValueError: If there are too few draws, or they are not finite or of another shape.

        References:
            Dempster et al., 1977, Maximum likelihood from incomplete data via the EM algorithm.
        """
        from sklearn.mixture import GaussianMixture

        z = checked_draws(self, z).astype("float64")
        if len(z) < self.num_components:
            rule = f"must hold at least {self.num_components} draws, the number of components"
            raise ValueError(f"Argument `z` {rule}. Received: shape={z.shape}")
        kind, seed = COVARIANCES[self.covariance], checks.integer("seed", seed, minimum=0)
        mixture = GaussianMixture(
            self.num_components,
            covariance_type=kind,
            tol=tol,
            reg_covar=reg_covar,
            max_iter=max_iter,
            n_init=n_init,
            init_params=init_params,
            random_state=seed,
            verbose=verbose,
        ).fit(z)
        if not self.built:
            self.build()
        self._take(mixture)
        return self

    def _take(self, mixture: Any) -> None:
        """Sets the parameters to those of a `GaussianMixture`."""
        self.logits.assign(np.log(np.maximum(mixture.weights_, np.finfo("float32").tiny)))
        self.locs.assign(mixture.means_)
        if self.covariance == "diagonal":
            self.raw_scales.assign(_raw(np.sqrt(mixture.covariances_)))
            return
        trils = np.linalg.cholesky(mixture.covariances_)  # [K, D, D]
        self.raw_scales.assign(_raw(np.diagonal(trils, axis1=1, axis2=2)))
        if self.latent_dim > 1:
            below = np.tril(trils[:, 1:, :-1])  # All that `fill_triangular_inverse` reads.
            self.below.assign(tfp.math.fill_triangular_inverse(below))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {
            **super().get_config(),
            "num_components": self.num_components,
            "seed": self.seed,
            "covariance": self.covariance,
        }


def _raw(scales: np.ndarray) -> np.ndarray:
    """Returns what `positive_scale` maps to the scales."""
    return np.vectorize(inverse_scale)(np.maximum(scales, 1.001 * SCALE_FLOOR))
