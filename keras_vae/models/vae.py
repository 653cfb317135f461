"""The variational autoencoder."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae import bounds
from keras_vae.core import checks
from keras_vae.core.freezing import freeze_inside
from keras_vae.core.head import serializable
from keras_vae.core.numerics import checked_tensor
from keras_vae.core.seeds import fold, purpose, seed_tensor
from keras_vae.likelihoods import Likelihood
from keras_vae.models import generation, initialization, sharing
from keras_vae.models.base import LatentVariableModel
from keras_vae.models.labels import NoLabels
from keras_vae.models.parts import (
    Shape,
    check_gradients,
    check_latent,
    check_noise,
    output_shape,
    serialized,
    trainable_of,
)
from keras_vae.objectives import Objective
from keras_vae.posteriors import Posterior
from keras_vae.priors import Prior, StandardNormal
from keras_vae.terms import Draws, Latents, Path, Terms, checked_z
from keras_vae.training.data import check_not_symbolic
from keras_vae.training.support import inside

tfd = tfp.distributions


@serializable
class VAE(LatentVariableModel):
    """A variational autoencoder: two networks, three distributions and an objective.

    q(z|x) = posterior(encoder(x)),  p(z) = prior(),  p(x|z) = likelihood(decoder(z))

    The constructor, which knows all shapes, builds the model. Called on x, the model reconstructs
    x.

    Args:
        encoder: Any Keras layer or model from x to features, `[B, *E] -> [B, ...]`.
        decoder: Any Keras layer or model from z to the parameters of p(x|z),
            `[B, D] -> [B, *likelihood.params_shape]`.
        posterior: Head of q(z|x), one of `keras_vae.posteriors`.
        likelihood: Head of p(x|z), one of `keras_vae.likelihoods`.
        prior: Head of p(z), one of `keras_vae.priors`; `StandardNormal(D)` by default.
        objective: What to minimize, one of `keras_vae.objectives`; `ELBO()` by default.
        seed: Seed of the noise in training and evaluation, an integer >= 0.
        **kwargs: Passed on to `keras.Model`, such as `name`.

    Raises:
        ValueError: If the parts do not fit each other.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> model.compile("adam")
        >>> history = model.fit(tf.zeros([64, 8, 8, 1]), epochs=1, verbose=0)
        >>> sorted(history.history)
        ['elbo', 'kl', 'loss', 'reconstruction']
        >>> model.sample(16, seed=1).shape
        TensorShape([16, 8, 8, 1])

    References:
        Kingma and Welling, 2014, arXiv:1312.6114.
    """

    # What the model is conditioned on: here nothing; a subclass may have labels.
    labels: NoLabels = NoLabels()

    def __init__(
        self,
        encoder: keras.layers.Layer,
        decoder: keras.layers.Layer,
        posterior: Posterior,
        likelihood: Likelihood,
        prior: Prior | None = None,
        objective: Objective | None = None,
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(objective=objective, seed=seed, **kwargs)
        self.encoder = checks.instance("encoder", encoder, keras.layers.Layer)
        self.decoder = checks.instance("decoder", decoder, keras.layers.Layer)
        self.posterior_head = checks.instance("posterior", posterior, Posterior)
        self.likelihood_head = checks.instance("likelihood", likelihood, Likelihood)
        prior = self._default_prior() if prior is None else prior
        self.prior_head = checks.instance("prior", prior, Prior)
        self._check_parts()
        # Not in `build`, where Keras would prefix the paths of the weights, except in loaded
        # models.
        self._build_parts()
        freeze_inside(self)
        self.objective.build_for(self)
        self.build((None, *likelihood.event_shape))

    def build(self, input_shape: Shape) -> None:
        """Lets Keras record the shape of x; the constructor has already built all parts."""
        self.built = True

    def _default_prior(self) -> Prior:
        posterior = self.posterior_head
        return StandardNormal(posterior.latent_dim, dtype=posterior.dtype_policy)

    def _check_parts(self) -> None:
        """Raises a `ValueError` unless objective, posterior and prior fit each other."""
        check_noise(self.posterior_head)
        check_latent(self.posterior_head, self.prior_head)
        check_gradients(self.objective, self.posterior_head)

    def _build_parts(self) -> None:
        x_shape = self.labels.widened((None, *self.likelihood_head.event_shape))
        z_shape = self.labels.widened((None, *self.posterior_head.decoder_input_shape))
        features_shape = output_shape("encoder", self.encoder, x_shape)
        params_shape = output_shape("decoder", self.decoder, z_shape)
        self.likelihood_head.check_params_shape(params_shape)
        # Heads that were loaded from a file or used before are already built.
        if not self.posterior_head.built:
            self.posterior_head.build(features_shape)
        if not self.prior_head.built:
            self.prior_head.build(x_shape, self.labels.features_shape)
        if not self.likelihood_head.built:
            self.likelihood_head.build(params_shape)

    @property
    def trainable_parts(self) -> dict[str, list[keras.Variable]]:
        encoder, decoder = (self.encoder, self.posterior_head), (self.decoder, self.likelihood_head)
        own = {"encoder": encoder, "decoder": decoder, "prior": (self.prior_head,)}
        return trainable_of(**own, **self.objective.parts)

    @property
    def latents(self) -> Latents:
        return self.posterior_head.latents

    @property
    def latent_event(self) -> tuple[int, ...]:
        return self.posterior_head.event_shape

    @property
    def is_point_mass(self) -> bool:
        return self.posterior_head.is_point_mass

    @property
    def discrete_dimensions(self) -> int | None:
        """The likelihood's number of dimensions of x, if the logs are to hold `bits_per_dim`."""
        return self.likelihood_head.discrete_dimensions

    # The three distributions.

    def encode(self, x: Any, y: Any = None) -> tfd.Distribution:
        """Returns q(z|x): a distribution with batch [B] and event [D].

        Args:
            x: Data `[B, *E]`.
            y: What the model is conditioned on, for conditional models.

        Raises:
            ValueError: If x is outside the support of the likelihood, has the wrong shape, or is
                symbolic: a distribution cannot be an output of a Functional model. Within `call` of
                a custom layer, `encode` works there, too.
        """
        x, y = self._checked(x, y)
        return self._posterior(x, self.labels.features(y))

    def decode(self, z: Any, y: Any = None) -> tfd.Distribution:
        """Returns p(x|z): a distribution with batch [...] and event E.

        Args:
            z: Latent variables `[..., D]`.
            y: What the model is conditioned on, for conditional models.

        Raises:
            ValueError: If z does not hold numbers, or its last dimension is not D.
        """
        check_not_symbolic("z", z)
        z = checked_tensor("z", z, self.posterior_head.density_dtype)
        z = checked_z(z, self.latent_event)
        leading = z.shape[: -len(self.latent_event)]
        y = self.labels.standardize(y, leading[-1] if leading.rank else None)
        return self._likelihood(z, self.labels.features(y))

    def prior(self, y: Any = None) -> tfd.Distribution:
        """Returns p(z): a distribution with event [D] and batch [], or, given labels, [] or [B]."""
        return self._prior(self.labels.features(self.labels.standardize(y)))

    def _posterior(
        self, x: tf.Tensor, condition: tf.Tensor | None, training: bool = False
    ) -> tfd.Distribution:
        return self._infer(self._encoder_input(x, condition), training)

    def _encoder_input(self, x: tf.Tensor, condition: tf.Tensor | None) -> tf.Tensor:
        x = self.likelihood_head.encoder_input(x)
        return self.labels.join(x, condition, len(x.shape) - 1)

    def _infer(self, encoder_input: tf.Tensor, training: bool) -> tfd.Distribution:
        features = self.encoder(encoder_input, training=training)
        return self.posterior_head(features, training=training)

    def _prior(self, condition: tf.Tensor | None, training: bool = False) -> tfd.Distribution:
        infer = functools.partial(self._infer, training=training)
        return self.prior_head(condition=condition, infer=infer, training=training)

    def _likelihood(
        self, z: tf.Tensor, condition: tf.Tensor | None, training: bool = False
    ) -> tfd.Distribution:
        return self._decoded(self.posterior_head.decoder_input(z), condition, training)

    def _decoded(
        self, inputs: tf.Tensor, condition: tf.Tensor | None, training: bool = False
    ) -> tfd.Distribution:
        """Returns p(x|z), given the decoder's input for z, `[..., F]` or `[..., *map, F]`."""
        rank = len(self.posterior_head.decoder_input_shape)
        inputs = self.labels.join(inputs, condition, rank)  # [..., F (+ C)]
        leading, event = inputs.shape[:-rank], inputs.shape[-rank:]
        params = self.decoder(tf.reshape(inputs, [-1, *event]), training=training)
        shape = [tf.shape(inputs)[:-rank], self.likelihood_head.params_shape]
        params = tf.reshape(params, tf.concat(shape, axis=0))
        params.set_shape([*leading, *self.likelihood_head.params_shape])
        return self.likelihood_head(params, training=training)

    # Data and terms.

    def standardize(self, x: Any, y: Any = None) -> tuple[tf.Tensor, Any]:
        x = self.likelihood_head.standardize(x)
        return x, self.labels.standardize(y, x.shape[0])

    def check_support(self, x: tf.Tensor, y: Any = None) -> tuple[tf.Tensor, Any]:
        support = self.likelihood_head.support
        rule = f"must be {support}, the support of {type(self.likelihood_head).__name__}"
        return inside(support, "x", rule, x), self.labels.supported(y)

    def check_z(self, z: tf.Tensor) -> tf.Tensor:
        """Returns z; using it raises a `ValueError` if the model has no such z, as with codes."""
        return z

    def compute_terms(
        self,
        x: tf.Tensor,
        num_samples: int = 1,
        training: bool = False,
        seed: int | tf.Tensor = 0,
        y: Any = None,
    ) -> Terms:
        condition = self.labels.features(y, training)
        q = self._posterior(x, condition, training)
        return self._terms(x, q, condition, num_samples, training, seed_tensor(seed))

    def weighting(self, x: tf.Tensor, y: Any = None) -> Callable[[Any, tf.Tensor], tf.Tensor]:
        if type(self).compute_terms is not VAE.compute_terms:
            return super().weighting(x, y)  # Custom terms may not begin with q(z|x).
        condition = self.labels.features(y)
        q = self._posterior(x, condition)
        return lambda size, seed: self._terms(x, q, condition, size, False, seed).log_w

    def terms_of(
        self,
        q: tfd.Distribution,
        x: tf.Tensor,
        num_samples: int | tf.Tensor = 1,
        seed: int | tf.Tensor = 0,
        y: Any = None,
    ) -> Terms:
        """Returns the terms of standardized data under any q(z) in place of q(z|x).

        Args:
            q: Distribution of z, batch [B] and event [D].
            x: Tensor `[B, *E]`.
            num_samples: Number S of samples of q for every x.
            seed: Integer >= 0 or stateless seed `[2]`.
            y: What the model is conditioned on, or None.
        """
        return self._terms(x, q, self.labels.features(y), num_samples, False, seed_tensor(seed))

    def posterior_parameters(self, x: tf.Tensor, y: Any = None) -> Any:
        """Returns the parameters that `posterior_head.distribution` takes, for standardized x."""
        features = self.encoder(self._encoder_input(x, self.labels.features(y)), training=False)
        return self.posterior_head.parameters(features)

    def _terms(
        self,
        x: tf.Tensor,
        q: tfd.Distribution,
        condition: tf.Tensor | None,
        num_samples: int | tf.Tensor,
        training: bool,
        seed: tf.Tensor,
    ) -> Terms:
        """Returns the terms of any q(z), batch [B], for x."""
        p_z = self._prior(condition, training)
        likelihood = functools.partial(self._likelihood, condition=condition, training=training)
        drawn = q.sample(num_samples, seed=seed)  # [S, B, D]
        # At the draws themselves, for which a flow remembers the way back.
        log_q = bounds.log_prob_by_group(q, drawn)  # [S, B, L]
        path = Path()
        z = path(drawn)
        p_x, log_p_z = likelihood(z), bounds.log_prob_by_group(p_z, z)  # [S, B, L]
        exact_kl = bounds.closed_form_kl(q, p_z)  # [B, G]
        kl = bounds.conditional_kl(q, p_z, z) if exact_kl is None else exact_kl
        kl = bounds.sampled_kl(log_q, log_p_z) if kl is None else kl
        further = fold(seed, purpose("draws"))
        of_z = (x, z, q, p_z, p_x, likelihood, path, further)
        draws = Draws(*of_z, kl_is_exact=exact_kl is not None, training=training)
        log_p_z, log_q = bounds.sum_groups(log_p_z), bounds.sum_groups(log_q)
        return Terms(p_x.log_prob(x), log_p_z, log_q, kl, draws)

    # Images out.

    def call(self, x: tf.Tensor, y: Any = None, training: bool = False) -> tf.Tensor:
        """Returns the mean of p(x|z) at the mean of q(z|x), for x as `fit` takes it."""
        x, y = self.standardize(x, y)
        condition = self.labels.features(y, training)
        z = self.posterior_head.mean(self._posterior(x, condition, training))
        return self._likelihood(z, condition, training).mean()

    def reconstruct(
        self,
        x: Any,
        y: Any = None,
        *,
        keep: str | Sequence[str] | None = None,
        temperature: float | Mapping[str, float] = 1.0,
        seed: int | tf.Tensor = 0,
    ) -> tf.Tensor:
        """Returns the mean of p(x|z) at the mean of q(z|x), or with some groups from the prior.

        Args:
            x: Data `[B, *E]`.
            y: What the model is conditioned on, for conditional models.
            keep: Names of the groups of z that are inferred from x; the others are drawn from the
                prior, each given the groups that the prior draws before it. None infers all groups.
            temperature: As in `sample`, for the groups that are drawn.
            seed: Integer >= 0 or stateless seed `[2]` for the draws.

        Returns:
            Tensor `[B, *event_shape]`, in the units of x.

        Raises:
            ValueError: If x is outside the support of the likelihood or of the wrong shape, a name
                is unknown, a temperature is negative, or the prior cannot draw some groups alone.
        """
        x, y = self._checked(x, y)
        generation.checked_temperatures(temperature, self.latents)  # Also if nothing is drawn.
        seed = fold(seed_tensor(seed), purpose("z"))
        if keep is None:
            return self(x, y=y)
        kept = generation.checked_names("keep", keep, self.latents)
        condition = self.labels.features(y)
        inferred = self.split(self.posterior_head.mean(self._posterior(x, condition)))
        given = {name: inferred[name] for name in kept}
        rows = (tf.shape(x)[0] if x.shape[0] is None else x.shape[0], seed, temperature, given)
        z = generation.draw_latents(self._prior(condition), self.latents, *rows)
        return self._likelihood(z, condition).mean()

    def sample(
        self,
        num_samples: int,
        seed: int | tf.Tensor = 0,
        mean: bool = True,
        y: Any = None,
        *,
        temperature: float | Mapping[str, float] = 1.0,
        given: Mapping[str, Any] | None = None,
    ) -> tf.Tensor:
        """Draws from the model: z ~ p(z), then the mean of p(x|z), or x ~ p(x|z).

        Calls with the same seed return the same samples. By default, these are means, which are
        smoother than data.

        Args:
            num_samples: Number N of draws.
            seed: Integer >= 0 or stateless seed `[2]`; the same seed gives the same draws.
            mean: Whether to return the means of p(x|z) in place of draws.
            y: What the model is conditioned on, for conditional models: labels `[N]`, or one for
                all.
            temperature: Factor >= 0 for the scale of z (of each group, given those drawn before
                it), or factors for some groups by name (`latents`), 1 for the others. Below 1,
                draws are closer to the mean and less varied; 0 takes the means themselves. An
                autoregressive prior over codes has its logits divided by it; 0 takes the most
                probable code each time.
            given: Values of groups of z by name, each `[N, *shape]`, or `[*shape]` for all draws.
                The other groups are drawn from the prior, each given the groups that the prior
                draws before it.

        Returns:
            Tensor `[N, *event_shape]`, in the units of x.

        Raises:
            ValueError: If a temperature is negative, a name is unknown, a shape is wrong, or the
                prior has no scale (flows, mixtures, one-hot z) or cannot draw some groups alone.
        """
        if not isinstance(num_samples, tf.Tensor):
            num_samples = checks.count("num_samples", num_samples)
        seed = seed_tensor(seed)
        y = self.labels.of_draws(y, num_samples)
        p_z, how = self._prior(self.labels.features(y)), (temperature, given)
        draws = (self.latents, num_samples, fold(seed, purpose("z")), *how)
        p_x = self.decode(generation.draw_latents(p_z, *draws), y)
        return p_x.mean() if mean else p_x.sample(seed=fold(seed, purpose("x")))

    # Initialization, other priors and serialization.

    def initialize_output_bias(self, data: Any) -> None:
        """Sets the decoder's output bias so that p(x|z) starts at the mean of the data.

        Args:
            data: Array `[N, *E]`, or dataset of batches as `fit` takes it.

        Raises:
            ValueError: If the decoder does not end with a `keras_vae.networks.OutputBias`.

        References:
            Burda et al., 2016, appendix C, arXiv:1509.00519.
        """
        initialization.initialize_output_bias(self, data)

    def with_prior(self, prior: Prior) -> VAE:
        """Returns a model with this prior, used as it is, that shares all other parts of this one.

        p'(x) = int p(x|z) p'(z) dz

        The encoder, decoder, posterior and likelihood are the same objects: training one model
        trains both. The objective is a copy, and the optimizer must be set with `compile`.
        `evaluation.fit_prior` returns priors that fit the aggregate posterior.

        Args:
            prior: Head of p'(z).

        Raises:
            ValueError: If the prior is over another z than the posterior, or the class keeps layers
                that are not arguments of its constructor.
        """
        self.check_prior(prior)
        return sharing.with_prior(self, prior)

    def check_prior(self, prior: Prior) -> None:
        """Raises a `ValueError` unless the model can have this prior in place of its own."""
        check_latent(self.posterior_head, checks.instance("prior", prior, Prior))

    def save(self, filepath: Any, overwrite: bool = True, **kwargs: Any) -> None:
        """Saves the model, as `keras.Model.save` does; see `LatentVariableModel`.

        Raises:
            ValueError: If arguments of the model share layers.
        """
        sharing.check_apart(self)
        super().save(filepath, overwrite, **kwargs)

    def get_config(self) -> dict[str, Any]:
        parts = ("encoder", "decoder", "posterior", "likelihood", "prior")
        return {**super().get_config(), **serialized(self, *parts)}
