"""A variational autoencoder with several groups of latent variables."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae import bounds
from keras_vae.core import checks
from keras_vae.core.head import serializable
from keras_vae.core.seeds import fold, purpose
from keras_vae.distributions.top_down import Scored, TopDownPosterior, TopDownPrior
from keras_vae.likelihoods import Likelihood
from keras_vae.models.parts import serialized, trainable_of
from keras_vae.models.vae import VAE
from keras_vae.networks import TopDown
from keras_vae.objectives import Objective
from keras_vae.posteriors.grouped import GroupedPosterior
from keras_vae.priors import Prior
from keras_vae.terms import Draws, Path, Terms

tfd = tfp.distributions


@serializable
class HierarchicalVAE(VAE):
    """A VAE with a deterministic bottom-up pass and a top-down pass that draws z group by group.

    p(x, z) = p(x|z) prod_l p(z_l|z_above),  q(z|x) = prod_l q(z_l|z_above, x)

    Inference and generation share the top-down pass, and q draws the groups in the same order as p.
    Given the groups above it, each group therefore has a KL in closed form, and `Terms.kl` is
    `[B, G]`. x enters only q: p(x|z) depends on x through z alone. z is a flat vector, and
    `latents`, `split` and `join` know its groups, the top one first.

    Args:
        bottom_up: Any Keras layer or model from x to a list of maps `[B, scale, scale, C]`, one for
            each scale, such as `keras_vae.networks.BottomUp`.
        top_down: A `keras_vae.networks.TopDown` with the same scales as `bottom_up`.
        likelihood: Head of p(x|z), one of `keras_vae.likelihoods`, for images.
        objective: What to minimize, one of `keras_vae.objectives`; `ELBO()` by default.
        seed: Seed of the noise in training and evaluation, an integer >= 0.
        **kwargs: Passed on to `keras.Model`, such as `name`.

    Raises:
        ValueError: If the parts do not fit each other.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.HierarchicalVAE(
        ...     bottom_up=kv.networks.BottomUp({4: 8, 1: 16}),
        ...     top_down=kv.networks.TopDown({1: (1, 3), 4: (1, 2)}),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> model.latents
        {'z1': (3,), 'z2': (4, 4, 2)}
        >>> model.log_weights(tf.zeros([5, 8, 8, 1]), num_samples=2).shape
        TensorShape([2, 5])

    References:
        Vahdat and Kautz, 2020, arXiv:2007.03898; Child, 2021, arXiv:2011.10650; Kingma et al.,
        2016, section 4, arXiv:1606.04934; Sonderby et al., 2016, arXiv:1602.02282.
    """

    def __init__(
        self,
        bottom_up: keras.layers.Layer,
        top_down: TopDown,
        likelihood: Likelihood,
        objective: Objective | None = None,
        seed: int = 0,
        **kwargs: Any,
    ):
        checks.instance("top_down", top_down, TopDown)
        super().__init__(
            encoder=checks.instance("bottom_up", bottom_up, keras.layers.Layer),
            decoder=top_down,
            posterior=InferencePass(top_down, dtype=top_down.dtype_policy),
            likelihood=likelihood,
            prior=GenerativePass(top_down, dtype=top_down.dtype_policy),
            objective=objective,
            seed=seed,
            **kwargs,
        )

    @property
    def bottom_up(self) -> keras.layers.Layer:
        """The network from x to maps."""
        return self.encoder

    @property
    def top_down(self) -> TopDown:
        """The network from z to the parameters of p(x|z)."""
        return self.decoder

    def _build_parts(self) -> None:
        shape = (None, *self.likelihood_head.event_shape)
        maps_shapes = _shapes_of_maps(self.encoder, shape)
        params_shape = self.likelihood_head.params_shape
        ours, theirs = self.posterior_head.density_dtype, self.likelihood_head.density_dtype
        if ours != theirs:
            rule = f"must compute densities as the networks do, in {ours}: give both a dtype"
            raise checks.invalid("likelihood", rule, theirs)
        if not self.decoder.built:
            self.decoder.build(maps_shapes, params_shape)
        self.decoder.check_maps(maps_shapes)
        self.likelihood_head.check_params_shape(self.decoder.compute_output_shape((None, 0)))
        if not self.likelihood_head.built:
            self.likelihood_head.build((None, *params_shape))
        self._check_passes_agree()

    def _check_passes_agree(self) -> None:
        """Raises if an estimator needs another pass, which would draw other random numbers."""
        random = [one.name for one in self.decoder._flatten_layers() if one._seed_generators]
        layers = self.objective._flatten_layers()
        estimators = [one.estimator for one in layers if hasattr(one, "estimator")]
        again = [one.name for one in estimators if one.scores_again]
        if random and again:
            rule = "must have estimator='reparameterized': others run the top-down pass again, in"
            why = f"which the layers {random} would draw other random numbers"
            raise checks.invalid("objective", f"{rule} {why}", f"estimator={again[0]!r}")

    @property
    def trainable_parts(self) -> dict[str, list[keras.Variable]]:
        encoder = (self.encoder, *self.decoder.recognition_layers)
        own = {"encoder": encoder, "decoder": (self.decoder, self.likelihood_head)}
        return trainable_of(**own, **self.objective.parts)

    def _terms(
        self,
        x: tf.Tensor,
        q: tfd.Distribution,
        condition: tf.Tensor | None,
        num_samples: int | tf.Tensor,
        training: bool,
        seed: tf.Tensor,
    ) -> Terms:
        """Returns the terms of any q(z), batch [B], for x; those of q(z|x) take a single pass."""
        if not isinstance(q, TopDownPosterior):
            return super()._terms(x, q, condition, num_samples, training, seed)
        path = Path()

        def draw(position: int, p: tfd.Distribution) -> tf.Tensor:
            shape = num_samples if position == 0 else ()
            return path(p.sample(shape, seed=fold(seed, position)))

        return self._scored_terms(x, q, q.score(draw), path, training, seed)

    def _scored_terms(
        self,
        x: tf.Tensor,
        q: TopDownPosterior,
        scored: Scored,
        path: Path,
        training: bool,
        seed: tf.Tensor,
    ) -> Terms:
        """Returns the terms of a scored pass."""
        p_x = self.likelihood_head(self.decoder.parameters(scored.state), training=training)
        likelihood = functools.partial(self._likelihood, condition=None, training=training)
        draws = Draws(
            x=x,
            z=scored.z,
            q=q,
            p_z=TopDownPrior(self.decoder, training, known=(scored.z, scored.log_p)),
            p_x=p_x,
            likelihood=likelihood,
            path=path,
            seed=fold(seed, purpose("draws")),
            # The KL has a closed form only given the groups above, which are samples.
            kl_is_exact=False,
            rescore=functools.partial(self._rescored, training=training, seed=seed),
            training=training,
        )
        log_p_z, log_q = bounds.sum_groups(scored.log_p), bounds.sum_groups(scored.log_q)
        return Terms(p_x.log_prob(x), log_p_z, log_q, tf.reduce_mean(scored.kl, axis=0), draws)

    def _rescored(self, terms: Terms, training: bool, seed: tf.Tensor) -> Terms:
        """Returns the same terms from a second pass, in which all of z lies behind one path."""
        assert terms.draws is not None
        x, z, q, path = terms.draws.x, terms.draws.z, terms.draws.q, Path()
        values = tf.split(path(z), q.sizes, axis=-1)
        scored = q.score(lambda position, _: values[position])
        return self._scored_terms(x, q, scored, path, training, seed)

    def check_prior(self, prior: Prior) -> None:
        """Always raises, because p(z) and p(x|z) share one pass."""
        rule = "cannot be another one: p(z) of a HierarchicalVAE shares its pass with p(x|z)"
        raise checks.invalid("prior", rule, prior)

    def get_config(self) -> dict[str, Any]:
        config = super(VAE, self).get_config()
        return {**config, **serialized(self, "bottom_up", "top_down", "likelihood")}


class InferencePass(GroupedPosterior):
    """q(z|x) as a head: takes the maps of the bottom-up network and runs the top-down pass."""

    def __init__(self, network: TopDown, **kwargs: Any):
        super().__init__(sum(network.group_sizes), **kwargs)
        self.network = network
        self.built = True

    @property
    def latents(self) -> dict[str, tuple[int, ...]]:
        return self.network.latents

    @property
    def scale_floor(self) -> float:
        """The smallest scale of a group; of one relative to p, both factors have the floor."""
        floor = self.network.scale_bounds[0]
        return floor**2 if self.network.posterior == "delta" else floor

    def parameters(self, features: Sequence[tf.Tensor]) -> tuple[tf.Tensor, ...]:
        """Returns what each group knows about x, `[B, ...]`."""
        return tuple(map(self.to_density, self.network.contexts(features)))

    def distribution(
        self, parameters: Sequence[tf.Tensor], training: bool = False
    ) -> TopDownPosterior:
        """Returns q(z|x), given its parameters."""
        return TopDownPosterior(self.network, parameters, training)


class GenerativePass(Prior):
    """p(z) as a head: runs the pass of the top-down network."""

    def __init__(self, network: TopDown, **kwargs: Any):
        super().__init__(sum(network.group_sizes), **kwargs)
        self.network = network
        self.built = True

    @property
    def latents(self) -> dict[str, tuple[int, ...]]:
        return self.network.latents

    def call(
        self, condition: Any = None, infer: Any = None, training: bool = False
    ) -> TopDownPrior:
        """Returns p(z)."""
        return TopDownPrior(self.network, training)


def _shapes_of_maps(network: keras.layers.Layer, shape: tuple[int | None, ...]) -> list[Any]:
    """Builds a bottom-up network and returns the shapes of its maps."""
    outputs = checks.output_of("bottom_up", network, shape, "images")
    if not isinstance(outputs, (list, tuple)):
        rule = "must return a list of maps, one for each scale"
        raise checks.invalid("bottom_up", rule, outputs)
    return [tuple(one.shape) for one in outputs]
