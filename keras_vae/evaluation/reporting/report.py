"""All evaluations of a model in one call."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_vae import plotting
from keras_vae.core import checks
from keras_vae.core.version import __version__
from keras_vae.data import FactorData
from keras_vae.evaluation.reading import checked_vae
from keras_vae.evaluation.reporting import drawing
from keras_vae.evaluation.reporting.examples import Examples, read, statistics
from keras_vae.evaluation.reporting.result import Report, Row
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
    seed: int = 0,
    batch_size: int = 128,
    verbose: bool = True,
) -> Report:
    """Evaluates a model in every way that fits it, and writes the results down.

    Likelihood: ELBO, its parts, log p(x) by importance sampling and by annealing
    Latent code: active units, mutual information, marginal KL, gaps of inference
    Reconstruction: squared error, PSNR, SSIM
    Samples: Frechet and kernel distance, precision, recall, density, coverage
    Disentanglement, if ground-truth factors are given

    The data are read once. Annealing is tried on the first 16 examples, gaps of inference on the
    first 32. What cannot be computed for a model is listed with the reason.

    Args:
        model: A `VAE`.
        data: Array `[N, *E]`, `(x, y)`, or dataset of batches as `fit` takes it; class labels y
            colour the map of the latent space.
        folder: Where `report.json` and `report.html` are written; None writes nothing.
        num_samples: Number K of samples of each example for log p(x).
        num_examples: How many examples to take at most.
        features: Function from x to features, for the distances, as `frechet_distance` takes it;
            by default the elements of x.
        factors: Observations with ground-truth factors, as `disentanglement_scores` takes them.
        history: `History.history` of the training, for its curves.
        latent_map: `"pca"` or `"tsne"`.
        seed: Integer >= 0.
        batch_size: Examples at once.
        verbose: Whether to print the table, and progress where it takes long.

    Returns:
        A `Report`.

    Raises:
        ValueError: If an argument is out of its range, the model not built or its ELBO not finite,
            or the data empty or without a density.

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
    checks.integer("num_samples", num_samples)
    num_examples = checks.integer("num_examples", num_examples)
    _check_options(model, folder, features, factors, history, latent_map)
    options = {
        "seed": checks.integer("seed", seed, minimum=0),
        "batch_size": checks.integer("batch_size", batch_size),
        "verbose": checks.option("verbose", verbose, (False, True)),
    }
    examples = read(model, data, num_examples, batch_size)
    said = statistics(model, examples, seed, batch_size)
    compute = Sections(model, examples, said, num_samples, options)
    rows, omitted = _all_sections(compute, features, factors)
    numbers = [row for section in rows.values() for row in section]
    figures = {
        **drawing.figures_of_numbers(numbers, said, compute.units),
        **drawing.curves_of(history),
        **drawing.map_of(said, examples, latent_map, seed),
        **drawing.images_of(model, examples, compute.units, seed, batch_size),
    }
    made = Report(
        title=f"{type(model).__name__} {model.name!r}",
        configuration=_configuration(examples, num_samples, seed),
        sections=rows,
        omitted=omitted,
        per_dimension={
            "kl": said.mean_kl.tolist(),
            "variance_of_mean": compute.units.variances.tolist(),
        },
        figures=figures,
    )
    if verbose:
        print(made)
    if folder is not None:
        made.save(folder)
    return made


def _all_sections(
    compute: Sections, features: Any, factors: FactorData | None
) -> tuple[dict[str, list[Row]], dict[str, str]]:
    """Returns the rows of every section, and what is omitted."""
    rows = {
        "Likelihood": compute.likelihood(),
        "Latent code": compute.latent(),
        "Reconstruction": compute.reconstruction(),
    }
    omitted: dict[str, str] = {}

    def add(section: str, name: str, why_not: str, made: Callable[[], list[Row]]) -> None:
        if why_not:
            omitted[name] = why_not
        else:
            rows[section] = [*rows.get(section, []), *made()]

    add("Likelihood", "annealed importance sampling", compute.why_not_annealed(), compute.annealed)
    add("Latent code", "parts of the KL", compute.why_no_decomposition(), compute.decomposition)
    add("Latent code", "gaps of inference", compute.why_no_gap(), compute.gap)
    add(
        "Samples",
        "samples",
        compute.why_no_samples(features),
        lambda: compute.samples(features),
    )
    add(
        "Disentanglement",
        "disentanglement",
        compute.why_no_disentanglement(factors),
        lambda: compute.disentanglement(factors),  # type: ignore[arg-type]
    )
    return rows, omitted


def _check_options(
    model: VAE, folder: Any, features: Any, factors: Any, history: Any, latent_map: Any
) -> None:
    """Raises a `ValueError` unless what is needed late, after long work, is as it must be."""
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


def _configuration(examples: Examples, num_samples: int, seed: int) -> dict[str, Any]:
    packages = ("tensorflow", "keras", "tensorflow-probability", "numpy")
    versions = {package: importlib.metadata.version(package) for package in packages}
    return {
        "num_examples": len(examples.x),
        "num_samples": num_samples,
        "seed": seed,
        "keras_vae": __version__,
        **versions,
    }
