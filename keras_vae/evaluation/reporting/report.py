"""Runs all evaluations of a model in one call."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_vae import plotting
from keras_vae.core import checks
from keras_vae.core.version import __version__
from keras_vae.data import FactorData
from keras_vae.evaluation.reading import checked_vae
from keras_vae.evaluation.reporting.drawing import all_figures
from keras_vae.evaluation.reporting.examples import Examples, read
from keras_vae.evaluation.reporting.parts import all_parts, left_out
from keras_vae.evaluation.reporting.plan import plan_of
from keras_vae.evaluation.reporting.result import Report
from keras_vae.evaluation.reporting.sections import Sections
from keras_vae.models import VAE


def report(
    model: VAE,
    data: Any,
    folder: str | Path | None = None,
    *,
    num_samples: int = 500,
    num_examples: int = 10_000,
    features: Any = None,
    factors: FactorData | None = None,
    history: Mapping[str, Sequence[float]] | None = None,
    latent_map: str = "pca",
    skip: str | Iterable[str] | None = None,
    only: str | Iterable[str] | None = None,
    budget: float | None = 120.0,
    seed: int = 0,
    batch_size: int = 128,
    verbose: bool = True,
) -> Report:
    """Evaluates a model in every way that applies to it, and writes the results to files.

    Likelihood: ELBO, log p(x) by importance sampling, and by annealed importance sampling
    Latent code: active units, parts of the KL, gaps of inference
    Reconstruction: squared error, PSNR, SSIM
    Samples: Frechet and kernel distance, precision, recall, density, coverage
    Disentanglement, if ground-truth factors are given
    Figures

    The data are read once. Annealed importance sampling is run on the first 16 examples, the gaps
    of inference are computed on the first 32. What cannot be computed for a model is listed with
    the reason.

    To keep to `budget`, the report first measures how long a pass through the model takes. What
    would take longer than its share is computed on a half, a quarter, ... of the examples, or left
    out. `reduced` and `omitted` list these, and every value states on how many examples it was
    computed. As times are measured, another machine may choose other numbers of examples; for
    results to publish, use `budget=None`. The files are rewritten after each part, so that an
    interrupted report leaves what it has.

    Args:
        model: A `VAE`.
        data: Array `[N, *E]`, `(x, y)`, or dataset of batches as `fit` takes it; class labels y
            colour the map of the latent space.
        folder: Where `report.json` and `report.html` are written; None writes nothing.
        num_samples: Number K of samples for each example for log p(x).
        num_examples: Maximum number of examples to use.
        features: Function from x to features, for the distances, as `frechet_distance` takes it;
            by default, the elements of x are the features.
        factors: Observations with ground-truth factors, as `disentanglement_scores` takes them.
        history: `History.history` of the training, for the learning curves.
        latent_map: `"pca"` or `"tsne"`.
        skip: Sections to leave out, as above, or parts of them: `"ELBO"`, `"log p(x)"`, `"active
            units"`, `"reconstruction"`, `"parts of the KL"`, `"samples"`, `"figures"`, `"annealed
            importance sampling"`, `"gaps of inference"`, `"disentanglement"`.
        only: The only sections or parts to compute; not together with `skip`.
        budget: Seconds that the report should take, > 0; None for no limit.
        seed: Integer >= 0.
        batch_size: Number of examples to process at once.
        verbose: Whether to print the table, and to show progress if it takes long.

    Returns:
        A `Report`.

    Raises:
        ValueError: If an argument is out of range or does not name a section, the model is not
            built or its ELBO is not finite, or the data are empty or have no density.

    Example:
        >>> import keras_vae as kv, tensorflow as tf
        >>> model = kv.VAE(
        ...     encoder=kv.networks.MLPEncoder((32,)),
        ...     decoder=kv.networks.MLPDecoder((8, 8, 1), (32,)),
        ...     posterior=kv.posteriors.DiagonalNormal(2),
        ...     likelihood=kv.likelihoods.Bernoulli((8, 8, 1)))
        >>> found = report(model, tf.zeros([4, 8, 8, 1]), num_samples=10, verbose=False)
        >>> found.omitted["samples"]
        'takes at least 50 examples'
    """
    model = checked_vae(model)
    checks.count("num_samples", num_samples)
    num_examples = checks.integer("num_examples", num_examples)
    unwanted = left_out(skip, only)
    if budget is not None:
        budget = checks.number("budget", budget, 0.0, exclusive=True)
    _check_options(model, folder, features, factors, history, latent_map)
    options = {
        "seed": checks.integer("seed", seed, minimum=0),
        "batch_size": checks.integer("batch_size", batch_size),
        "verbose": checks.flag("verbose", verbose),
    }
    examples = read(model, data, num_examples, batch_size)
    compute = Sections(model, examples, num_samples, options, features, factors)

    def add_figures(so_far: Report, count: int) -> Report:
        drawn = all_figures(compute, so_far.sections, count, history, latent_map)
        return dataclasses.replace(so_far, figures=drawn)

    plan = plan_of(all_parts(compute, add_figures), unwanted, compute, budget)
    made = Report(
        title=f"{type(model).__name__} {model.name!r}",
        configuration=_configuration(examples, num_samples, seed, budget),
        sections={},
        omitted=plan.omitted,
        per_dimension={},
        figures={},
        reduced=plan.reduced,
        unfinished=[part.name for part in plan.parts],
    )
    for part in plan.parts:
        made = plan.with_part(part, made)
        if folder is not None:
            made.save(folder)
    if verbose:
        print(made)
    return made


def _check_options(
    model: VAE, folder: Any, features: Any, factors: Any, history: Any, latent_map: Any
) -> None:
    """Raises a `ValueError` if options that are only needed late, after long work, are invalid."""
    checks.option("latent_map", latent_map, plotting.MAPS)
    if folder is not None and Path(folder).exists() and not Path(folder).is_dir():
        raise checks.invalid("folder", "must be a folder, or not exist", str(folder))
    if features is not None and not callable(features):
        raise checks.invalid("features", "must be a function from x to features, or None", features)
    if history is not None and not (isinstance(history, Mapping) and history.get("elbo")):
        raise checks.invalid("history", "must hold the logs of at least one epoch", history)
    if factors is None:
        return
    if not isinstance(factors, FactorData):
        raise checks.invalid("factors", "must be a keras_vae.data.FactorData", factors)
    shape, head = factors.observations.shape[1:], model.likelihood_head
    if shape not in (head.shape, head.event_shape):
        rule = f"must have observations of the model, of shape {head.shape}"
        raise ValueError(f"Argument `factors` {rule}. Received: shape={shape}")


def _configuration(
    examples: Examples, num_samples: int, seed: int, budget: float | None
) -> dict[str, Any]:
    packages = ("tensorflow", "keras", "tensorflow-probability", "numpy")
    versions = {package: importlib.metadata.version(package) for package in packages}
    return {
        "num_examples": len(examples.x),
        "num_samples": num_samples,
        "seed": seed,
        "budget": budget,
        "keras_vae": __version__,
        **versions,
    }
