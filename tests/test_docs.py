"""The page on objectives has an entry for each, and its snippets run."""

from __future__ import annotations

import pathlib
import re

import keras
import pytest
import tensorflow as tf

import keras_vae as kv

PAGE = (pathlib.Path(__file__).parent.parent / "docs" / "objectives.md").read_text()
ABSTRACT = {"Objective", "Constraint"}
ENTRIES = re.split(r"^#{2,3} ", PAGE, flags=re.MULTILINE)[1:]


def test_every_objective_has_an_entry():
    headings = {entry.partition("\n")[0] for entry in ENTRIES}
    assert set(kv.objectives.__all__) - ABSTRACT <= headings


@pytest.mark.parametrize("name", sorted(set(kv.objectives.__all__) - ABSTRACT))
def test_an_entry_has_a_formula_and_a_snippet(name):
    (entry,) = [entry for entry in ENTRIES if entry.startswith(f"{name}\n")]
    assert f"```python\nkv.objectives.{name}(" in entry
    assert re.search(r"^ {4}\S.* = ", entry, re.MULTILINE), "no formula"


def test_every_entry_of_an_objective_says_where_it_comes_from():
    constraints = {"SquaredError", "NegativeLogLikelihood", "FeatureMatch", "Distance"}
    for entry in ENTRIES:
        name = entry.partition("\n")[0]
        if name in set(kv.objectives.__all__) - constraints - {"ExactMarginal"}:
            assert re.search(r"\((?:[^()]|\([^()]*\))*(19|20)\d\d", entry), name


def test_snippets_run():
    image = (8, 8, 1)
    names = {
        "kv": kv,
        "tf": tf,
        "encoder": kv.networks.MLPEncoder((4,)),
        "decoder": kv.networks.MLPDecoder(image, (4,)),
        "posterior": kv.posteriors.DiagonalNormal(2),
        "likelihood": kv.likelihoods.Bernoulli(image),
        "features": keras.Sequential([keras.Input(image), keras.layers.Flatten()]),
    }
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert len(blocks) > len(kv.objectives.__all__) - len(ABSTRACT)
    for block in blocks:
        exec(block, names)
    terms = names["model"].compute_terms(tf.zeros([3, *image]), 2)
    assert names["Entropic"]().loss(terms).shape == 3


def test_links_lead_to_files():
    folder = pathlib.Path(__file__).parent.parent
    for path in re.findall(r"`(examples/[^`]*)`", PAGE):
        assert (folder / path).is_file(), path
