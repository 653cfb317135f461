"""What every prior has in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core import checks
from keras_vae.core.head import Head
from keras_vae.priors.fitting import Ascent, checked_draws

# A separate package, because a posterior and a prior may have the same name.
serializable = keras.saving.register_keras_serializable(package="keras_vae.priors")

Infer = Callable[[tf.Tensor], tfp.distributions.Distribution]


class Prior(Head):
    """A head for p(z), which returns a `tfd.Distribution` with event [D].

    `call` is given everything a prior may depend on, and uses what it needs: the features of a
    condition (`condition`, `[B, C]`, None in an unconditional model) and the model's own function
    from encoder inputs to q(z|x) (`infer`).

    Args:
        latent_dim: Number D of latent dimensions.
        **kwargs: Passed on to `keras.layers.Layer`.

    Attributes:
        discrete: Whether z takes countably many values.

    Example:
        >>> tfd = tfp.distributions
        >>> class WideNormal(Prior):
        ...     def call(self, condition=None, infer=None):
        ...         loc = tf.zeros([self.latent_dim], self.density_dtype)
        ...         return tfd.MultivariateNormalDiag(loc, 10.0 * tf.ones_like(loc))
        >>> WideNormal(2)().event_shape
        TensorShape([2])
    """

    discrete = False

    def __init__(self, latent_dim: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.latent_dim = checks.size("latent_dim", latent_dim)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one z: `(D,)`."""
        return (self.latent_dim,)

    @property
    def latents(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the groups of z by name, in their order within z: one group here."""
        return {"z": self.event_shape}

    def build(
        self,
        encoder_input_shape: Sequence[int | None] | None = None,
        condition_shape: Sequence[int | None] | None = None,
    ) -> None:
        """Creates the weights, given the shapes `[B, ...]` of encoder input and condition."""
        self.built = True

    def __call__(
        self, condition: tf.Tensor | None = None, infer: Infer | None = None, **kwargs: Any
    ) -> tfp.distributions.Distribution:
        """Returns p(z); builds the prior first if it needs no shape except the condition's."""
        if not self.built:  # Keras can only build from the shapes of call's own arguments.
            self.build(condition_shape=None if condition is None else condition.shape)
        return super().__call__(condition, infer=infer, **kwargs)

    def call(
        self, condition: tf.Tensor | None = None, infer: Infer | None = None
    ) -> tfp.distributions.Distribution:
        """Returns p(z), or p(z|c)."""
        raise NotImplementedError

    def fit(
        self,
        z: Any,
        *,
        epochs: int = 200,
        batch_size: int = 512,
        learning_rate: float = 1e-3,
        held_out: float = 0.1,
        patience: int = 10,
        seed: int = 0,
        verbose: bool = True,
    ) -> Prior:
        """Fits the prior to draws of z by maximum likelihood, starting from its current weights.

        max 1/N sum_n log p(z_n)

        The weights are updated by Adam steps. Every epoch is scored on the held-out draws: the
        prior ends up with the weights of the best epoch, and the fit stops early if there is no
        improvement.

        Args:
            z: Draws `[N, D]`, for example from the posteriors of a model.
            epochs: Maximum number of passes over the draws.
            batch_size: Number of draws in a step.
            learning_rate: Learning rate of Adam, > 0.
            held_out: Fraction of the draws that are held out, taken from the last rows; 0 to run
                all epochs and keep the last weights.
            patience: Number of epochs without improvement after which the fit stops.
            seed: Seed of the order of the draws, and of the noise if the prior has any.
            verbose: Whether a progress bar appears after a few seconds.

        Returns:
            The prior itself.

        Raises:
            ValueError: If an argument is not as above, or the prior has nothing to fit.
            ArithmeticError: If log p(z) becomes NaN or infinite; the weights are then the best so
                far.
        """
        ascent = Ascent(epochs, batch_size, learning_rate, held_out, patience, seed, verbose)
        z = checked_draws(self, z)
        if not self.built:
            self.build()
        ascent.run(self, z)
        return self

    def check_draws(self, z: Any) -> None:
        """Raises a `ValueError` if finite numbers `[N, *E]` cannot be z; here, they always can."""

    def fit_log_prob(self, z: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Returns what `fit` maximizes: log p(z) `[B]`, or a bound on it with noise of this seed.

        Args:
            z: Draws `[B, *event_shape]`.
            seed: Stateless seed `[2]`.
        """
        return self().log_prob(z)

    def get_build_config(self) -> dict[str, Any] | None:
        """Returns the shapes by name, because the only one may be that of the condition."""
        shapes = self._build_shapes_dict
        return None if shapes is None else {"shapes_dict": dict(shapes)}

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "latent_dim": self.latent_dim}
