"""The sections of a report: the numbers, each by the evaluation of its name."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import numpy as np

from keras_vae.data import FactorData
from keras_vae.evaluation.active_units import ActiveUnits, units_of
from keras_vae.evaluation.annealed_importance import annealed_importance_sampling
from keras_vae.evaluation.disentanglement import disentanglement_scores
from keras_vae.evaluation.distances import frechet_distance, kernel_distance, manifold_scores
from keras_vae.evaluation.estimate import estimate_of
from keras_vae.evaluation.inference_gap import inference_gap
from keras_vae.evaluation.kl_decomposition import kl_decomposition
from keras_vae.evaluation.log_likelihood import LogLikelihood, log_likelihood
from keras_vae.evaluation.reading import has_parameters
from keras_vae.evaluation.reconstruction_error import reconstruction_error
from keras_vae.evaluation.reporting.examples import Examples, Statistics, generate
from keras_vae.evaluation.reporting.result import Row, row_of
from keras_vae.models import VAE

# What is dear is tried on fewer examples.
ANNEALED_EXAMPLES, NUM_DISTRIBUTIONS, NUM_CHAINS = 16, 200, 4
GAP_EXAMPLES = 32
# Fewer examples say nothing of a distribution; more pixels need features.
LEAST_EXAMPLES, MOST_PIXELS = 50, 4096
# As many as the bins of the scores of disentanglement.
LEAST_OBSERVATIONS = 20

_NO_PARAMETERS = "the posterior does not tell parameters from distribution"


@dataclasses.dataclass(frozen=True)
class Sections:
    """Computes the sections of a report.

    Args:
        model: A `VAE`.
        examples: The data.
        statistics: What the model says of each.
        num_samples: Samples of each example for log p(x).
        options: Arguments `batch_size`, `seed` and `verbose` of all evaluations.
    """

    model: VAE
    examples: Examples
    statistics: Statistics
    num_samples: int
    options: dict[str, Any]

    @property
    def units(self) -> ActiveUnits:
        """The active units of the examples."""
        return units_of(self.statistics.means, threshold=0.01)

    @functools.cached_property
    def weighted(self) -> LogLikelihood:
        """The importance-weighted estimate of log p(x)."""
        return log_likelihood(self.model, self.examples.data, self.num_samples, **self.options)

    def likelihood(self) -> list[Row]:
        """Returns bounds and estimates of log p(x)."""
        said, found = self.statistics, self.weighted
        rate = estimate_of([np.sum(said.kl, axis=-1)])
        size = math.prod(self.model.likelihood_head.shape)  # A class is one, not K of them.
        bits = -1.0 / (math.log(2.0) * size)
        return [
            row_of("ELBO", estimate_of([said.elbo]), "nats"),
            row_of("distortion", estimate_of([said.distortion]), "nats", "-E log p(x|z)"),
            row_of("rate", rate, "nats", "KL(q(z|x) || p(z))"),
            row_of("log p(x)", found, "nats", f"importance-weighted, K = {self.num_samples:,}"),
            Row("effective samples", found.effective_sample_size, f"of {self.num_samples:,}"),
            Row("bits per dimension", bits * found.mean, "bits", abs(bits) * found.standard_error),
        ]

    def annealed(self) -> list[Row]:
        """Returns how far annealing and weighting are apart on the first examples."""
        first = self.examples.first(ANNEALED_EXAMPLES)
        found = annealed_importance_sampling(
            self.model, first.data, NUM_DISTRIBUTIONS, NUM_CHAINS, **self.options
        )
        apart = found.per_example - self.weighted.per_example[: len(first.x)]
        note = f"first {len(first.x)} examples, annealed {found.mean:.2f}"
        return [row_of("annealed - weighted", estimate_of([apart]), "nats", note)]

    def latent(self) -> list[Row]:
        """Returns the number of active units."""
        total, note = len(self.units.variances), f"variance of the mean > {self.units.threshold:g}"
        return [Row("active units", self.units.count, f"of {total}", note=note)]

    def decomposition(self) -> list[Row]:
        """Returns the parts of the KL."""
        parts = kl_decomposition(self.model, self.examples.data, **self.options)
        limit = f"at most log N = {math.log(len(self.examples.x)):.2f}"
        return [
            row_of("mutual information", parts.mutual_information, "nats", limit),
            row_of("marginal KL", parts.marginal_kl, "nats", "KL(q(z) || p(z))"),
        ]

    def gap(self) -> list[Row]:
        """Returns what inference loses on the first examples, and by what."""
        first = self.examples.first(GAP_EXAMPLES)
        found = inference_gap(self.model, first.data, **self.options)
        note = f"first {len(first.x)} examples"
        return [
            row_of("amortization gap", found.amortization, "nats", note),
            row_of("approximation gap", found.approximation, "nats", note),
        ]

    def reconstruction(self) -> list[Row]:
        """Returns the errors of reconstructions."""
        found = reconstruction_error(self.model, self.examples.data, **self.options)
        rows = [
            row_of("squared error", found.sse, "", "summed, at the mean of q(z|x)"),
            row_of("mean squared error", found.mse),
            row_of("PSNR", found.psnr, "dB"),
        ]
        return rows if found.ssim is None else [*rows, row_of("SSIM", found.ssim)]

    def samples(self, features: Any) -> list[Row]:
        """Returns the distances between the examples and samples of the model."""
        x, options = self.examples.x, self.options
        # Means of p(x|z) are no binary images, and draws of a density are noisy ones.
        mean = not np.all((x == 0) | (x == 1))
        batch_size, seed, verbose = (options[key] for key in ("batch_size", "seed", "verbose"))
        made = generate(self.model, self.examples, mean, seed, batch_size)
        reading = {"features": features, "batch_size": batch_size, "verbose": verbose}
        kernel = kernel_distance(x, made, seed=seed, **reading)
        scores = manifold_scores(x, made, **reading)
        note = f"{'means' if mean else 'draws'} of p(x|z)"
        note += ", of pixels" if features is None else ", of features"
        return [
            Row("Frechet distance", frechet_distance(x, made, **reading).distance, note=note),
            Row("kernel distance", kernel.distance, "", kernel.standard_error, note),
            Row("precision", scores.precision, note=f"this and below: k = {scores.k} neighbours"),
            Row("recall", scores.recall),
            Row("density", scores.density),
            Row("coverage", scores.coverage),
        ]

    def disentanglement(self, factors: FactorData) -> list[Row]:
        """Returns the scores of disentanglement."""
        seed, verbose = self.options["seed"], self.options["verbose"]
        scores = disentanglement_scores(self.model, factors, seed, verbose=verbose)
        return [Row(name.replace("_", " "), value) for name, value in scores.as_dict().items()]

    # What cannot be computed, and why.

    def why_not_annealed(self) -> str:
        """Returns why there is no annealing, or nothing."""
        return "z is discrete" if self.model.posterior_head.discrete else ""

    def why_no_decomposition(self) -> str:
        """Returns why the KL has no parts, or nothing."""
        if not has_parameters(self.model):
            return _NO_PARAMETERS
        y = self.examples.first(1).condition
        depends = bool(self.model.prior(y).batch_shape.rank)
        return "the prior depends on y" if depends else ""

    def why_no_gap(self) -> str:
        """Returns why no posterior can be fitted, or nothing."""
        return "" if has_parameters(self.model) else _NO_PARAMETERS

    def why_no_disentanglement(self, factors: FactorData | None) -> str:
        """Returns why there are no scores of disentanglement, or nothing."""
        if factors is None:
            return "no `factors` are given"
        if self.examples.conditioned:
            return "codes depend on y, which `factors` do not hold"
        if math.prod(self.model.posterior_head.event_shape) < 2:
            return "z has a single dimension"
        few = len(factors) < LEAST_OBSERVATIONS
        return f"takes at least {LEAST_OBSERVATIONS} observations" if few else ""

    def why_no_samples(self, features: Any) -> str:
        """Returns why samples have no distance to the data, or nothing."""
        if len(self.examples.x) < LEAST_EXAMPLES:
            return f"takes at least {LEAST_EXAMPLES} examples"
        size = math.prod(self.model.likelihood_head.event_shape)
        if features is None and size > MOST_PIXELS:
            return f"x has {size} elements: give `features`"
        return ""
