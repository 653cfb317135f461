"""A prior fitted to a trained model's aggregate posterior."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.seeds import fold, purpose, seed_tensor
from keras_vae.evaluation.reading import checked_vae, map_batches
from keras_vae.models import PriorModel
from keras_vae.priors import CodePrior, Prior
from keras_vae.priors.fitting import Ascent


def fit_prior(
    model: Any,
    data: Any,
    prior: Prior,
    *,
    draws_per_example: int = 4,
    seed: int = 0,
    **options: Any,
) -> Prior:
    """Fits a prior to the aggregate posterior of a trained model, by maximum likelihood.

    max E_q(z)[log p(z)], q(z) = 1/N sum_n q(z|x_n)

    If the other parts of a model are fixed, its optimal prior is q(z): among all p(z), it gives the
    greatest mean ELBO of the data. `model.with_prior(prior)` then samples from the fitted prior and
    uses it for the likelihood. Even for a conditional model, q(z) is that of all data, whatever y
    is.

    The prior is fitted to draws from every q(z|x_n), by its method `fit`: gradient ascent, or EM
    for `priors.MixtureOfNormals`. The examples are shuffled, but the draws of one example stay
    together, so that the rows that a prior holds out come from other examples than those it learns
    from.

    A prior over codes is trained by a `PriorModel`, which also stops early; if you need labels,
    callbacks or a training that can be resumed, make a `PriorModel` yourself.

    Args:
        model: A `VAE`, which is not changed.
        data: Array `[N, *E]`, or dataset of batches as `fit` takes it.
        prior: The prior to fit, starting from its current weights.
        draws_per_example: Draws of z from each q(z|x); only one if q(z|x) is a single z.
        seed: Seed of the draws and of the fit, an integer >= 0.
        **options: Passed on to the prior's `fit`, such as `verbose`, or `epochs` for a flow. Priors
            over codes take the options of `Prior.fit`.

    Returns:
        `prior` itself, fitted.

    Raises:
        ValueError: If the model cannot have the prior, which may be over another z, the prior has
            nothing to fit, its fit does not know an option, a number is out of range, or the data
            are empty or have no density.

    Example:
        >>> import keras_vae as kv
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> mixture = kv.priors.MixtureOfNormals(2, num_components=3, covariance="full")
        >>> prior = fit_prior(model, tf.zeros([64, 8, 8, 1]), mixture)
        >>> model.with_prior(prior).sample(16).shape
        TensorShape([16, 8, 8, 1])

    References:
        Ghosh et al., 2020, section 4, arXiv:1903.12436 (density estimation after training);
        Tomczak & Welling, 2018, eq. 7, arXiv:1705.07120 (q(z) is optimal).
    """
    model, prior = checked_vae(model), checks.instance("prior", prior, Prior)
    model.check_prior(prior)
    fit = functools.partial(_train, prior) if isinstance(prior, CodePrior) else prior.fit
    _check_options(fit, options)
    draws_per_example = checks.integer("draws_per_example", draws_per_example)
    seed = checks.integer("seed", seed, minimum=0)
    if model.posterior_head.is_point_mass:
        draws_per_example = 1

    def draw(x: tf.Tensor, y: Any, batch_seed: tf.Tensor) -> tf.Tensor:
        return model.encode(x, y).sample(draws_per_example, seed=batch_seed)  # [S, B, D]

    noise = fold(seed_tensor(seed), purpose("fit prior"))
    batches = map_batches(draw, model, data, seed=noise, verbose=False)
    z = np.concatenate([np.swapaxes(batch, 0, 1) for batch in batches])  # [N, S, D]
    z = np.random.default_rng(seed).permutation(z)
    z = z.reshape(-1, *prior.event_shape)
    return fit(z, seed=seed, **options)


def _check_options(fit: Callable[..., Prior], options: Iterable[str]) -> None:
    """Raises a `ValueError` if a fit does not know an option, before anything is computed."""
    arguments = inspect.signature(fit).parameters.values()
    if any(one.kind is one.VAR_KEYWORD for one in arguments):
        return  # It passes them on to what judges them.
    known = [one.name for one in arguments if one.kind is one.KEYWORD_ONLY]
    for option in options:
        checks.option("options", option, known)


def _train(
    prior: CodePrior,
    codes: np.ndarray,
    *,
    epochs: int = 200,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    held_out: float = 0.1,
    patience: int = 10,
    seed: int,
    verbose: bool = True,
) -> CodePrior:
    """Trains a prior over codes with a `PriorModel`, using the options of `Prior.fit`."""
    ascent = Ascent(epochs, batch_size, learning_rate, held_out, patience, seed, verbose)
    learned, judged = ascent.split(codes)
    model = PriorModel(prior, seed=seed)
    if not model.trainable_variables:
        rule = "must have trainable weights, or there is nothing to fit"
        raise checks.invalid("prior", rule, type(prior).__name__)
    model.compile(keras.optimizers.Adam(learning_rate))
    batches = tf.data.Dataset.from_tensor_slices(learned).shuffle(len(learned), seed)
    batches, options = batches.batch(batch_size), {"epochs": epochs, "verbose": int(verbose)}
    if not len(judged):
        model.fit(batches, **options)
        return prior
    start = prior.get_weights()
    before = model.evaluate(judged, batch_size=batch_size, return_dict=True, verbose=0)["loss"]
    stop = keras.callbacks.EarlyStopping(patience=patience, restore_best_weights=True)
    validation = {"validation_data": judged, "validation_batch_size": batch_size}
    history = model.fit(batches, **options, **validation, callbacks=[stop]).history
    if not min(history["val_loss"]) < before:
        prior.set_weights(start)  # No epoch was better than that.
    return prior
