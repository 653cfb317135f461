"""Tables of log p(x) of binary images: the network, the measures and the columns they share."""

from __future__ import annotations

import argparse
import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

import keras_vae as kv
from benchmarks import published, records
from benchmarks.rows import Recipe, Row

IMAGE, LATENT_DIM = (28, 28, 1), 50
# Bounds of several samples have no beta that could rise. At the rate of the decoder their encoder
# loses units in long trainings: its gradient is small and noisy, and Muon's steps have full length.
SEVERAL_SAMPLES = Recipe(
    passes=200,
    batch_size=200,
    encoder_optimizer="muon",
    encoder_learning_rate=2e-3,
    kl_warmup=0.0,
)
FIFTY_SAMPLES = dataclasses.replace(SEVERAL_SAMPLES, passes=150)


def parts(objective: kv.objectives.Objective, **others: Any) -> dict[str, Any]:
    """Returns the arguments of `kv.VAE` for the network of Burda et al., 784-200-200-50 tanh."""
    return {
        "encoder": kv.networks.MLPEncoder((200, 200), activation="tanh"),
        "decoder": kv.networks.MLPDecoder(IMAGE, (200, 200), activation="tanh"),
        "posterior": kv.posteriors.DiagonalNormal(LATENT_DIM),
        "likelihood": kv.likelihoods.Bernoulli(IMAGE),
        "objective": objective,
        **others,
    }


def elbo(**others: Any) -> dict[str, Any]:
    """Returns the arguments of `kv.VAE` for one sample, with the gradient of the least variance."""
    return parts(kv.objectives.ELBO(estimator="sticking_the_landing"), **others)


def importance_weighted(num_samples: int, estimator: str) -> dict[str, Any]:
    """Returns the arguments of `kv.VAE` for a bound of K samples."""
    return parts(kv.objectives.ImportanceWeighted(num_samples, estimator))


def flow_prior() -> dict[str, Any]:
    """Returns the arguments of `kv.VAE` for a prior of two masked autoregressive flows."""
    return elbo(prior=kv.priors.AutoregressiveFlow(LATENT_DIM))


def judge(model: kv.VAE, test: tf.data.Dataset, args: argparse.Namespace) -> dict[str, Any]:
    """Measures a trained model."""
    estimate = kv.evaluation.log_likelihood(model, test, num_samples=args.num_samples, seed=1)
    dimensions = model.discrete_dimensions
    bits = kv.bounds.bits_per_dimension(-estimate.mean, dimensions) if dimensions else None
    return {
        "nll": -estimate.mean,
        "nll_standard_error": estimate.standard_error,
        **({} if bits is None else {"bits_per_dim": bits}),
        "effective_sample_size": estimate.effective_sample_size,
        **published.units(model, test),
        "test": model.evaluate(test, return_dict=True, verbose=0),
    }


def table(known: Mapping[str, Row], rows: Mapping[str, Mapping[str, Any]], note: str) -> str:
    """Returns the rows, published / here, in the order in which they are known.

    Columns in which no row has anything are left out.
    """
    heads = ["model", "NLL published", "NLL here", "difference"]
    heads += ["bits/dim published", "here", "active units published", "here"]
    heads += ["effective samples", "passes published", "here", "time", "examples/s", "processor"]
    body = []
    for name in (name for name in known if name in rows):
        given, seeds = known[name].published, rows[name]
        nll = statistics.mean(seed["nll"] for seed in seeds.values())
        effective = statistics.mean(seed["effective_sample_size"] for seed in seeds.values())
        body.append(
            [
                published.label(known[name], seeds),
                f"{given['nll']:.2f}" if "nll" in given else "",
                published.estimate(seeds, "nll"),
                f"{nll - given['nll']:+.2f}" if _is_comparable(known[name], seeds) else "",
                given.get("bits_per_dim", ""),
                _bits(seeds),
                given.get("active_units", ""),
                ", ".join(published.units_text(seed["active_units"]) for seed in seeds.values()),
                f"{effective:.0f}",
                f"{given['passes']:,}" if "passes" in given else "",
                *published.costs(seeds),
            ]
        )
    kept = [place for place in range(len(heads)) if any(line[place] != "" for line in body)]
    names = [_named(heads, place, kept) for place in kept]
    note = (
        "Effective samples are of those of the estimate, (sum w)^2 / sum w^2 as the mean over the "
        f"images; with n of them the estimate is too high by about 1/2n. {note}"
    )
    return published.markdown(names, [[line[at] for at in kept] for line in body], rows, note)


def _bits(seeds: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the mean of bits/dim, of data that have them."""
    found = [seed["bits_per_dim"] for seed in seeds.values() if "bits_per_dim" in seed]
    return f"{statistics.mean(found):.3f}" if found else ""


def _is_comparable(row: Row, seeds: Mapping[str, Mapping[str, Any]]) -> bool:
    if "nll" not in row.published:
        return False
    return row.comparable and all(seed["data"]["name"] == row.data.name for seed in seeds.values())


def _named(heads: Sequence[str], place: int, kept: Sequence[int]) -> str:
    """Returns the name of a column, which is all of it where nothing published stands before."""
    alone = heads[place].endswith("here") and place - 1 not in kept
    return heads[place - 1].removesuffix(" published") if alone else heads[place]


def main(
    doc: str,
    name: str,
    known: Mapping[str, Row],
    arguments: list[str] | None,
    note: str,
    **defaults: Any,
) -> dict[str, Any]:
    """Runs the rows and returns the results of all so far, by row and seed."""
    parser = published.parser(doc, name, known)
    parser.set_defaults(**defaults)
    args = published.parse(parser, arguments)
    rows = published.run(known, judge, args)
    return records.finish(rows, table(known, rows, note), args.results)
