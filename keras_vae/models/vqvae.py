"""The vector-quantized autoencoder, as a latent variable model."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae import bounds
from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.core.seeds import fold, purpose, seed_tensor
from keras_vae.likelihoods import Likelihood
from keras_vae.models import codes as of_codes
from keras_vae.models.vae import VAE
from keras_vae.objectives import Objective
from keras_vae.posteriors import Quantizer
from keras_vae.posteriors.codebook import Batch
from keras_vae.posteriors.quantizer import Quantized
from keras_vae.priors import Prior, UniformCodes
from keras_vae.terms import Draws, Path, Terms
from keras_vae.training.replicas import global_batch_mean, replica_id

tfd = tfp.distributions


@serializable
class VQVAE(VAE):
    """A VAE whose latent variables are codes: whole numbers, each of which stands for a vector.

    log p(x) >= log p(x|z) + log p(z) at the codes z of x,
    loss = -log p(x|z) - log p(z) + commitment |z_e - stop_gradient(e_z)|^2 + the quantizer's own

    q(z|x) is a point mass at the codes that the quantizer chooses, so that log q = 0, the KL is
    -log p(z), and more samples do not tighten the bound. The decoder gets exactly the vectors of
    the codes; the quantizer determines which gradient passes through it. All terms are sums, in
    nats. Where the literature uses a mean squared error over the E dimensions of x, divided by the
    variance of the data, multiply its weights of such means by E / 2, and divide them by the number
    of elements that the mean is over.

    The prior is uniform at first, so the KL is constant. To make the model generative, fit a prior
    over codes afterwards and use `with_prior`.

    Args:
        encoder: Any Keras layer or model from x to features, best a map `[B, *maps, C]`.
        decoder: Any Keras layer or model from the vectors of the codes, a map
            `[B, *posterior.decoder_input_shape]`, to the parameters of p(x|z).
        posterior: A quantizer of `keras_vae.posteriors`.
        likelihood: Head of p(x|z), one of `keras_vae.likelihoods`.
        prior: Head of p(z), over the same codes; `UniformCodes` by default.
        objective: An objective of one sample with gradients through z; `ELBO()` by default.
        commitment: Weight of the squared distance of the encoder from the codes, >= 0.
        seed: Seed of what training draws, such as the vectors at which codes start anew.
        **kwargs: Passed on to `keras.Model`, such as `name`.

    Raises:
        ValueError: If the parts do not fit each other.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.VQVAE(
        ...     encoder=kv.networks.MapEncoder((8, 16), blocks=1),
        ...     decoder=kv.networks.MapDecoder((8, 8, 1), (16, 8), blocks=1),
        ...     posterior=kv.posteriors.VectorQuantizer((2, 2), codebook_size=16, code_dim=4),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> model.compile("adam")
        >>> history = model.fit(tf.zeros([64, 8, 8, 1]), epochs=1, verbose=0)
        >>> sorted(history.history)
        ['elbo', 'kl', 'loss', 'perplexity', 'reconstruction', 'usage']
        >>> codes = model.codes(tf.zeros([3, 8, 8, 1]))
        >>> codes.shape, model.decode_codes(codes).shape
        (TensorShape([3, 4]), TensorShape([3, 8, 8, 1]))

    References:
        van den Oord et al., 2017, eq. 3, arXiv:1711.00937; Razavi et al., 2019, arXiv:1906.00446.
    """

    # For the codes of one batch: exp of the entropy of their frequencies, and the share of codes
    # that occur. Both are means over the groups.
    measure_names = ("perplexity", "usage")

    def __init__(
        self,
        encoder: keras.layers.Layer,
        decoder: keras.layers.Layer,
        posterior: Quantizer,
        likelihood: Likelihood,
        prior: Prior | None = None,
        objective: Objective | None = None,
        commitment: float = 0.25,
        seed: int = 0,
        **kwargs: Any,
    ):
        checks.instance("posterior", posterior, Quantizer)
        checks.number("commitment", commitment, minimum=0.0)
        super().__init__(encoder, decoder, posterior, likelihood, prior, objective, seed, **kwargs)
        self.commitment = float(commitment)

    def _default_prior(self) -> Prior:
        layout, policy = self.posterior_head.groups, self.posterior_head.dtype_policy
        return UniformCodes(layout.maps, layout.num_codes, dtype=policy)

    def _check_parts(self) -> None:
        of_codes.check_objective(self.objective)
        self.check_prior(self.prior_head)

    def check_prior(self, prior: Prior) -> None:
        super().check_prior(prior)
        of_codes.check_prior(self.posterior_head, prior)

    def check_z(self, z: tf.Tensor) -> tf.Tensor:
        return of_codes.supported(self.posterior_head.groups, z)

    # Terms, and the state that follows from them.

    def compute_terms(
        self,
        x: tf.Tensor,
        num_samples: int = 1,
        training: bool = False,
        seed: int | tf.Tensor = 0,
        y: Any = None,
    ) -> Terms:
        features = self.encoder(self.likelihood_head.encoder_input(x), training=training)
        batch = self._batch_of_step(training)
        quantized = self.posterior_head.quantize_features(features, batch)
        further = fold(seed_tensor(seed), purpose("draws"))
        return self._terms_of_codes(x, quantized, num_samples, training, further)

    def _batch_of_step(self, training: bool) -> Batch:
        seed = fold(seed_tensor(self.seed), self.trained_batches, purpose("codebook"))
        count = self.distribute_strategy.num_replicas_in_sync
        return Batch(seed, replica_id(), count, global_batch_mean, moves_codebooks=training)

    def _terms_of_codes(
        self,
        x: tf.Tensor,
        quantized: Quantized,
        num_samples: int | tf.Tensor,
        training: bool,
        seed: tf.Tensor,
    ) -> Terms:
        q, p_z = self.posterior_head.distribution(quantized.codes), self._prior(None, training)
        likelihood = functools.partial(self._likelihood, condition=None, training=training)
        path, z = Path(), q.sample(num_samples)  # [S, B, N], all the same
        # So only one of them is scored and decoded.
        p_x = self._decoded(path(quantized.embedded[tf.newaxis]), None, training)
        log_p_z = bounds.log_prob_by_group(p_z, quantized.codes)  # [B, G]
        log_p_x = tf.broadcast_to(p_x.log_prob(x), tf.shape(z)[:2])
        of_z = (x, z, q, p_z, p_x, likelihood, path, seed)
        draws = Draws(*of_z, kl_is_exact=True, training=training)
        return Terms(
            log_p_x=log_p_x,
            log_p_z=tf.broadcast_to(tf.reduce_sum(log_p_z, axis=-1), tf.shape(log_p_x)),
            log_q=tf.zeros_like(log_p_x),
            kl=-log_p_z,
            draws=draws,
            penalty=self.commitment * quantized.commitment + quantized.penalty,
            measured=of_codes.measure(self.posterior_head.groups, quantized.codes, p_x.dtype),
            statistics=quantized.statistics,
        )

    def state_updates(self, statistics: Mapping[str, tf.Tensor]) -> Iterable[tuple[Any, tf.Tensor]]:
        return self.posterior_head.state_updates(statistics)

    # Codes.

    def codes(self, x: Any) -> tf.Tensor:
        """Returns the codes of data, flat: int32 `[B, N]`; `split` gives their maps.

        Args:
            x: Data `[B, *E]`.

        Raises:
            ValueError: If x is outside the support of the likelihood, or of the wrong shape.
        """
        return self.encode(x).codes

    def decode(self, z: Any, y: Any = None) -> tfd.Distribution:
        """Returns p(x|z): a distribution with batch [...] and event E.

        Args:
            z: Codes, integers `[..., N]`.
            y: Ignored.

        Raises:
            ValueError: If z does not hold integers, holds a code that does not exist, or has
                another shape.
        """
        z = of_codes.checked(self.posterior_head.groups, z)
        return self._likelihood(z, None)

    def decode_codes(self, codes: Any) -> tf.Tensor:
        """Returns the mean of p(x|z) at codes; for those of x, exactly what training makes of x.

        Args:
            codes: Integers `[..., N]`.

        Returns:
            Tensor `[..., *event_shape]`, in the units of x.

        Raises:
            ValueError: If the codes are not integers, one of them does not exist, or their number
                is wrong.
        """
        return self.decode(codes).mean()

    def initialize_codebook(self, data: Any, seed: int = 0) -> None:
        """Sets the codebooks by k-means on what the encoder, as it is now, makes of the data.

        Call this after a first epoch, because an untrained encoder soon leaves the codes behind. It
        clusters some thousands of vectors from random examples.

        Args:
            data: Array `[N, *E]`, or dataset of batches as `fit` takes it.
            seed: Seed of the choice of examples and of the clustering, an integer >= 0.

        Raises:
            ValueError: If the quantizer has no codebook, or the data give too few vectors.

        References:
            Zeghidour et al., 2021, section III.C, arXiv:2107.03312.
        """
        of_codes.initialize_codebook(self, data, checks.integer("seed", seed, minimum=0))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "commitment": self.commitment}
