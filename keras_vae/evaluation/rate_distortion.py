"""Rates and distortions of models trained with different β."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from keras_vae.core import checks
from keras_vae.core.figures import frame_lightly, new_figure
from keras_vae.evaluation.estimate import Estimate, estimate_of
from keras_vae.evaluation.reading import checked_model, map_batches
from keras_vae.models import LatentVariableModel
from keras_vae.training.data import Data

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Approximate number of lines of equal ELBO in a figure.
_LINES = 8


@dataclasses.dataclass(frozen=True)
class RateDistortionCurve:
    """Rates and distortions of M models, ordered by β, in nats per example.

    Attributes:
        betas: β of each model, `[M]`, ascending.
        rates: Mean KL(q(z|x) || p(z)), `[M]`.
        distortions: Mean of -E_q[log p(x|z)], `[M]`; negative where densities exceed one.
        elbos: -(rate + distortion), `[M]`.
        rate_errors: Standard errors of the rates over the examples, `[M]`.
        distortion_errors: Standard errors of the distortions, `[M]`.
        elbo_errors: Standard errors of the ELBOs, `[M]`.
        dominated: Whether another model has neither a higher rate nor a higher distortion, and at
            least one of them lower, `[M]`. Differences within the standard errors count, too.
    """

    betas: np.ndarray
    rates: np.ndarray
    distortions: np.ndarray
    elbos: np.ndarray
    rate_errors: np.ndarray = dataclasses.field(repr=False)
    distortion_errors: np.ndarray = dataclasses.field(repr=False)
    elbo_errors: np.ndarray = dataclasses.field(repr=False)
    dominated: np.ndarray

    def plot(self) -> Figure:
        """Draws the distortions over the rates, with lines of equal ELBO.

        Points are labelled with β, and their error bars show one standard error; the points of
        dominated models are hollow.
        """
        figure = new_figure(6.0, 4.5)
        axes = figure.subplots()
        frame_lightly(axes)
        axes.grid(visible=False)
        frontier = ~self.dominated
        order = np.argsort(self.rates[frontier])
        ends = self.rates[frontier][order], self.distortions[frontier][order]
        axes.plot(*ends, color="C0", linewidth=1.0)
        axes.errorbar(
            self.rates,
            self.distortions,
            xerr=self.rate_errors,
            yerr=self.distortion_errors,
            fmt="none",
            ecolor="C0",
            elinewidth=1.0,
        )
        faces = ["white" if hollow else "C0" for hollow in self.dominated]
        axes.scatter(self.rates, self.distortions, c=faces, edgecolors="C0", zorder=3)
        for beta, rate, distortion in zip(self.betas, self.rates, self.distortions, strict=True):
            axes.annotate(
                f"β = {beta:g}",
                (rate, distortion),
                xytext=(6, 6),
                textcoords="offset points",
                fontsize="small",
            )
        axes.margins(0.15)
        self._draw_elbos(axes)
        axes.set_xlabel("rate, KL(q(z|x) || p(z)), nats")
        axes.set_ylabel("distortion, -E log p(x|z), nats")
        return figure

    def _draw_elbos(self, axes: Any) -> None:
        """Draws lines of equal ELBO through the part of the plane that is shown."""
        from matplotlib.ticker import MaxNLocator

        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        levels = MaxNLocator(_LINES).tick_values(left + bottom, right + top)
        for level in levels[(levels > left + bottom) & (levels < right + top)]:
            axes.plot([left, right], [level - left, level - right], color="0.85", linewidth=0.8)
            # Label the line where it enters the axes, at the left or from above, if there is room.
            place = (max(left, level - top), min(top, level - left))
            if place[0] < right - 0.1 * (right - left):
                text = {"fontsize": "x-small", "color": "0.5", "textcoords": "offset points"}
                axes.annotate(f"{-level:g}", place, xytext=(3, -9), **text)
        axes.set(xlim=(left, right), ylim=(bottom, top))
        axes.set_title("gray: lines of equal ELBO", fontsize="small", color="0.5", loc="right")


def rate_distortion(
    models: Mapping[float, Any],
    data: Any,
    *,
    num_samples: int = 8,
    seed: int = 0,
    batch_size: int = 128,
    verbose: bool = True,
) -> RateDistortionCurve:
    """Measures rate and distortion of models that were trained with different β.

    R = E_x KL(q(z|x) || p(z)),  D = -E_x E_q[log p(x|z)],  ELBO = -(R + D)

    The ELBO only tells what rate and distortion add up to, and does not distinguish a model that
    ignores z from one that does not. The curve does. All models must have the same kind of p(x|z),
    and are measured with the same noise.

    Args:
        models: The trained models by their β >= 0 (or another such number that labels them).
        data: Array `[N, *E]`, or dataset of batches as `fit` takes it, read once for each model.
        num_samples: Samples of z for every x, used for the distortion, and for the rate if it has
            no closed form; as many are decoded at once.
        seed: Integer >= 0; all models have the same noise.
        batch_size: Number of examples to process at once, if `data` is an array.
        verbose: Whether to show progress if it takes long.

    Returns:
        A `RateDistortionCurve`, in nats.

    Raises:
        ValueError: If an argument is out of range, `models` is empty, a model is not built or has
            another likelihood, or the data are empty, have no density or can be read only once.

    Example:
        >>> import keras_vae as kv
        >>> def model(beta):
        ...     return kv.BetaVAE(
        ...         encoder=kv.networks.MLPEncoder((32,)),
        ...         decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...         posterior=kv.posteriors.DiagonalNormal(2),
        ...         likelihood=kv.likelihoods.Bernoulli((8, 8, 1)),
        ...         beta=beta)
        >>> curve = rate_distortion({4.0: model(4.0), 1.0: model(1.0)}, tf.zeros([64, 8, 8, 1]))
        >>> curve.betas, bool(curve.dominated.all())
        (array([1., 4.]), False)

    References:
        Alemi et al., 2018, section 3 and figure 1, arXiv:1711.00464.
    """
    num_samples = checks.count("num_samples", num_samples)
    models = _checked_models(models)
    data = Data.of("data", data)
    data.check_repeats()
    parts = [
        _rate_and_distortion(model, data, num_samples, seed, batch_size, verbose)
        for model in models.values()
    ]
    rates, distortions, elbos = zip(*parts, strict=True)
    return _curve(list(models), rates, distortions, elbos)


def _checked_models(models: Any) -> dict[float, LatentVariableModel]:
    if not isinstance(models, Mapping) or not models:
        raise checks.invalid("models", "must map β to trained models, at least one", models)
    checked = {
        checks.number("models", beta, minimum=0.0): checked_model(model)
        for beta, model in models.items()
    }
    kinds = {_likelihood_of(model) for model in checked.values()}
    if len(kinds) > 1:
        rule = "must have one kind of p(x|z), for distortions of others cannot be compared"
        raise checks.invalid("models", rule, sorted(map(str, kinds)))
    return dict(sorted(checked.items()))


def _likelihood_of(model: Any) -> Any:
    head = getattr(model, "likelihood_head", None)
    return None if head is None else (type(head).__name__, head.event_shape)


def _rate_and_distortion(
    model: LatentVariableModel,
    data: Any,
    num_samples: int,
    seed: int,
    batch_size: int,
    verbose: bool,
) -> tuple[Estimate, Estimate, Estimate]:
    """Returns the rate, the distortion and the ELBO of a model."""

    def parts(x: tf.Tensor, y: Any, seed: tf.Tensor) -> tf.Tensor:
        terms = model.compute_terms(x, num_samples, False, seed, y)
        return tf.cast(tf.stack([terms.kl_total, terms.reconstruction]), tf.float64)

    batches = list(map_batches(parts, model, data, batch_size, seed, verbose))
    rate, distortion = np.concatenate(batches, axis=1)
    return estimate_of([rate]), estimate_of([distortion]), estimate_of([-rate - distortion])


def _curve(betas: list[float], *estimates: tuple[Estimate, ...]) -> RateDistortionCurve:
    rates, distortions, elbos = (np.array([one.mean for one in each]) for each in estimates)
    errors = (np.array([one.standard_error for one in each]) for each in estimates)
    rate_errors, distortion_errors, elbo_errors = errors
    points = np.stack([rates, distortions], axis=-1)  # [M, 2]
    no_more = np.all(points[:, None] <= points, axis=-1)  # [M, M], first compared with second.
    less = np.any(points[:, None] < points, axis=-1)
    return RateDistortionCurve(
        betas=np.array(betas),
        rates=rates,
        distortions=distortions,
        elbos=elbos,
        rate_errors=rate_errors,
        distortion_errors=distortion_errors,
        elbo_errors=elbo_errors,
        dominated=np.any(no_more & less, axis=0),
    )
