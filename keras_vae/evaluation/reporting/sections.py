"""The values in a report, each computed by the corresponding evaluation."""

from __future__ import annotations

import dataclasses
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
from keras_vae.evaluation.latent_groups import latent_groups
from keras_vae.evaluation.log_likelihood import (
    ENOUGH_TO_JUDGE,
    LogLikelihood,
    log_likelihood,
)
from keras_vae.evaluation.reading import has_maps, has_parameters
from keras_vae.evaluation.reconstruction_error import reconstruction_error
from keras_vae.evaluation.reporting.examples import Examples, Statistics, generate, statistics
from keras_vae.evaluation.reporting.row import Row, row_of
from keras_vae.models import VAE

# Annealing takes many passes for every example, so these are smaller than the defaults.
NUM_DISTRIBUTIONS, NUM_CHAINS = 200, 4
# Fewer examples say nothing about a distribution; more pixels need features.
LEAST_EXAMPLES, MOST_PIXELS = 50, 4096
# As many as there are bins in the disentanglement scores.
LEAST_OBSERVATIONS = 20

_NO_PARAMETERS = "the posterior does not tell parameters from distribution"
_MAPS = "latent variables are maps"
_POINT_MASS = "q(z|x) is a point mass"


@dataclasses.dataclass(frozen=True)
class Sections:
    """Computes the values in a report, each on a given number of the first examples.

    Args:
        model: A `VAE`.
        examples: The data.
        num_samples: Number of samples for each example for log p(x).
        options: Arguments `batch_size`, `seed` and `verbose` for all evaluations.
        features: Function from x to features, or None.
        factors: Observations with ground-truth factors, or None.
    """

    model: VAE
    examples: Examples
    num_samples: int
    options: dict[str, Any]
    features: Any = None
    factors: FactorData | None = None
    _said: dict[int, Statistics] = dataclasses.field(default_factory=dict, repr=False)
    _weighted: dict[int, LogLikelihood] = dataclasses.field(default_factory=dict, repr=False)

    def statistics(self, count: int) -> Statistics:
        """Returns what the model says about each example, computed once for each count."""
        if count not in self._said:
            seed, batch_size = self.options["seed"], self.options["batch_size"]
            first = self.examples.first(count)
            self._said[count] = statistics(self.model, first, seed, batch_size)
        return self._said[count]

    def units(self, count: int) -> ActiveUnits:
        """Returns the active units."""
        return units_of(self.statistics(count).means, threshold=0.01)

    def mean_kl(self, count: int) -> dict[str, list[Any]]:
        """Returns the mean KL of each group of dimensions."""
        return {"kl": self.statistics(count).mean_kl.tolist()}

    def variances(self, count: int) -> dict[str, list[Any]]:
        """Returns the variance of the posterior mean in each dimension."""
        return {"variance_of_mean": self.units(count).variances.tolist()}

    def _log_p_x(self, count: int) -> LogLikelihood:
        if count not in self._weighted:
            data = self.examples.first(count).data
            found = log_likelihood(self.model, data, self.num_samples, **self.options)
            self._weighted[count] = found
        return self._weighted[count]

    def bounds(self, count: int) -> list[Row]:
        """Returns the ELBO and its parts."""
        said = self.statistics(count)
        rate = estimate_of([np.sum(said.kl, axis=-1)])
        names = list(self.model.latents)
        by_group = len(names) > 1 and said.kl.shape[-1] == len(names)
        parts = [
            row_of(f"rate of {name}", estimate_of([said.kl[:, g]]), "nats")
            for g, name in enumerate(names if by_group else [])
        ]
        return [
            row_of("ELBO", estimate_of([said.elbo]), "nats"),
            row_of("distortion", estimate_of([said.distortion]), "nats", "-E log p(x|z)"),
            row_of("rate", rate, "nats", "KL(q(z|x) || p(z))"),
            *parts,
        ]

    def log_p_x(self, count: int) -> list[Row]:
        """Returns the importance-weighted estimate of log p(x), and how far to trust it."""
        found = self._log_p_x(count)
        size = math.prod(self.model.likelihood_head.shape)  # A class counts as one, not as K.
        bits = -1.0 / (math.log(2.0) * size)
        judged = self.num_samples >= ENOUGH_TO_JUDGE
        few = f"{found.share_below_10:.1%} of the examples have less than 10" if judged else ""
        of = f"of {self.num_samples:,}"
        effective = Row("effective samples", found.effective_sample_size, of, note=few)
        return [
            row_of("log p(x)", found, "nats", self._how_estimated(found)),
            *([] if found.is_bound else [effective]),
            Row("bits per dimension", bits * found.mean, "bits", abs(bits) * found.standard_error),
        ]

    def _how_estimated(self, found: LogLikelihood) -> str:
        if found.is_bound:
            return f"a bound: {_POINT_MASS}"
        return f"importance-weighted, K = {self.num_samples:,}"

    def annealed(self, count: int) -> list[Row]:
        """Returns how far apart annealing and importance weighting are."""
        first = self.examples.first(count)
        found = annealed_importance_sampling(
            self.model, first.data, NUM_DISTRIBUTIONS, NUM_CHAINS, **self.options
        )
        weighted = self._log_p_x(max([n for n in self._weighted if n >= count], default=count))
        apart = found.per_example - weighted.per_example[:count]
        note = f"annealed {found.mean:.2f}"
        return [row_of("annealed - weighted", estimate_of([apart]), "nats", note)]

    def active_units(self, count: int) -> list[Row]:
        """Returns the number of active units."""
        units = self.units(count)
        note = f"variance of the mean > {units.threshold:g}"
        kl = self.statistics(count).mean_kl
        groups = latent_groups(self.model.latents, units.active, kl)
        parts = [
            Row(f"active units of {one.name}", one.active_units, f"of {one.dimensions}")
            for one in (groups if len(groups) > 1 else ())
        ]
        return [Row("active units", units.count, f"of {len(units.variances)}", note=note), *parts]

    def decomposition(self, count: int) -> list[Row]:
        """Returns the parts of the KL."""
        parts = kl_decomposition(self.model, self.examples.first(count).data, **self.options)
        limit = f"at most log N = {math.log(count):.2f}"
        return [
            row_of("mutual information", parts.mutual_information, "nats", limit),
            row_of("marginal KL", parts.marginal_kl, "nats", "KL(q(z) || p(z))"),
        ]

    def gap(self, count: int) -> list[Row]:
        """Returns how much inference loses, and why."""
        found = inference_gap(self.model, self.examples.first(count).data, **self.options)
        return [
            row_of("amortization gap", found.amortization, "nats"),
            row_of("approximation gap", found.approximation, "nats"),
        ]

    def reconstruction(self, count: int) -> list[Row]:
        """Returns the errors of reconstructions."""
        data = self.examples.first(count).data
        found = reconstruction_error(self.model, data, **self.options)
        rows = [
            row_of("squared error", found.sse, "", "summed, at the mean of q(z|x)"),
            row_of("mean squared error", found.mse),
            row_of("PSNR", found.psnr, "dB"),
        ]
        return rows if found.ssim is None else [*rows, row_of("SSIM", found.ssim)]

    def samples(self, count: int) -> list[Row]:
        """Returns the distances between the examples and samples from the model."""
        first, features = self.examples.first(count), self.features
        x, options = first.x, self.options
        # Means of p(x|z) are not binary images, and draws from a density are noisy images.
        mean = not np.all((x == 0) | (x == 1))
        batch_size, seed, verbose = (options[key] for key in ("batch_size", "seed", "verbose"))
        made = generate(self.model, first, mean, seed, batch_size)
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

    def disentanglement(self, count: int) -> list[Row]:
        """Returns the disentanglement scores, computed with `count` training observations."""
        seed, verbose = self.options["seed"], self.options["verbose"]
        scores = disentanglement_scores(
            self.model,
            self.factors,  # type: ignore[arg-type]
            seed,
            num_train=count,
            num_eval=-(-count // 2),
            verbose=verbose,
        )
        return [Row(name.replace("_", " "), value) for name, value in scores.as_dict().items()]

    # What cannot be computed, and why.

    def why_no_units(self) -> str:
        """Returns why there are no active units, or an empty string."""
        return _POINT_MASS if self.model.is_point_mass else ""

    def why_not_annealed(self) -> str:
        """Returns why there is no annealing, or an empty string."""
        if self.model.posterior_head.discrete:
            return "z is discrete"
        return _MAPS if has_maps(self.model) else ""

    def why_no_decomposition(self) -> str:
        """Returns why the KL cannot be split into parts, or an empty string."""
        if not has_parameters(self.model):
            return self.why_no_units() or _NO_PARAMETERS
        y = self.examples.first(1).condition
        depends = bool(self.model.prior(y).batch_shape.rank)
        return "the prior depends on y" if depends else ""

    def why_no_gap(self) -> str:
        """Returns why no posterior can be fitted, or an empty string."""
        return "" if has_parameters(self.model) else self.why_no_units() or _NO_PARAMETERS

    def why_no_disentanglement(self) -> str:
        """Returns why there are no disentanglement scores, or an empty string."""
        if self.factors is None:
            return "no `factors` are given"
        if self.examples.conditioned:
            return "codes depend on y, which `factors` do not hold"
        if has_maps(self.model):
            return _MAPS
        if math.prod(self.model.posterior_head.event_shape) < 2:
            return "z has a single dimension"
        few = len(self.factors) < LEAST_OBSERVATIONS
        return f"takes at least {LEAST_OBSERVATIONS} observations" if few else ""

    def why_no_samples(self) -> str:
        """Returns why samples cannot be compared with the data, or an empty string."""
        if len(self.examples.x) < LEAST_EXAMPLES:
            return f"takes at least {LEAST_EXAMPLES} examples"
        size = math.prod(self.model.likelihood_head.event_shape)
        if self.features is None and size > MOST_PIXELS:
            return f"x has {size} elements: give `features`"
        return ""
