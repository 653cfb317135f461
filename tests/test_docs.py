"""Each page of docs/ has an entry for every public name of its room, and its snippets run."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv

ROOT = pathlib.Path(__file__).parent.parent
IMAGE = (8, 8, 1)

# Page: the room, and the names that need an entry there: a heading, a snippet that begins with
# the call, a formula, a reference. A name whose page is not here has no page of its own.
ABSTRACT = {"Objective", "Constraint", "Schedule"}
STEERING = {"KLAnnealing", "HyperparameterSchedule", "CyclicalLearningRate", "LinearScaling"}
STEERING |= {"OneCycleLearningRate", "GECO", "KLController", "StopWhenConstraintSatisfied"}
EVALUATIONS = {"mean_kl", "marginal_kl", "mutual_information", "kl_decomposition"}
EVALUATIONS |= {"reconstruction_error", "rate_distortion", "inference_gap"}
EVALUATIONS |= {"log_likelihood", "annealed_importance_sampling", "bidirectional_check"}
EVALUATIONS |= {"active_units", "report"}
DISTANCES = {"frechet_distance", "feature_moments", "frechet_between_moments", "kernel_distance"}
DISTANCES |= {"frechet_at_infinity", "manifold_scores", "inception_features", "classifier_features"}
DISENTANGLEMENT = {"beta_vae_score", "factor_vae_score", "mutual_information_gap", "sap_score"}
DISENTANGLEMENT |= {"dci", "modularity", "disentanglement_scores"}
PAGES = {
    "disentanglement": ("kv.evaluation", DISENTANGLEMENT),
    "distances": ("kv.evaluation", DISTANCES),
    "evaluation": ("kv.evaluation", EVALUATIONS),
    "health": ("kv.callbacks", {"GradientMonitor", "HealthCheck"}),
    "callbacks": ("kv.callbacks", STEERING),
    "monitors": ("kv.callbacks", {"ImageMonitor", "LatentMonitor"}),
    "objectives": ("kv.objectives", set(kv.objectives.__all__) - ABSTRACT),
    "optimizers": ("kv.optimizers", {"RAdam", "by_part"}),
    "samplers": ("kv.evaluation", {"fit_prior"}),
    "schedules": ("kv.schedules", set(kv.schedules.__all__) - ABSTRACT),
}
# Pages without an entry for each name; their snippets run all the same.
GUIDES = {"distribution", "learning_rate", "published", "training"}
# Pages whose snippets make strategies, which disturb those of other tests in the process.
ALONE = {"distribution"}
# Entries that are this project's own, or common knowledge.
NO_REFERENCE = {"SquaredError", "NegativeLogLikelihood", "FeatureMatch", "Distance"}
NO_REFERENCE |= {"ExactMarginal", "Constant", "Piecewise"}
CASES = [(page, name) for page, (_, names) in sorted(PAGES.items()) for name in sorted(names)]


def text(page):
    return (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")


def entries(page):
    """Return the text below each heading, `{heading: text}`."""
    parts = re.split(r"^#{2,3} ", text(page), flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0].strip("`"): part for part in parts}


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", text(page), re.DOTALL | re.MULTILINE)


@pytest.fixture
def names(tmp_path, monkeypatch):
    """Return what snippets may use, and run them in an empty folder."""
    monkeypatch.chdir(tmp_path)
    likelihood = kv.likelihoods.Bernoulli(IMAGE)
    network = {"encoder": kv.networks.MLPEncoder((4,)), "decoder": kv.networks.MLPDecoder(IMAGE)}
    posterior = kv.posteriors.DiagonalNormal(2)
    model = kv.VAE(**network, posterior=posterior, likelihood=likelihood)
    model.compile("adam")
    return {
        "kv": kv,
        "keras": keras,
        "np": np,
        "tf": tf,
        "os": os,
        **network,
        "posterior": posterior,
        "likelihood": likelihood,
        "model": model,
        "data": np.random.default_rng(0).uniform(size=(16, *IMAGE)).astype("float32"),
        "features": keras.Sequential([keras.Input(IMAGE), keras.layers.Flatten()]),
    }


def test_every_page_is_held():
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert pages == {*PAGES, *GUIDES}


@pytest.mark.parametrize(("page", "name"), CASES)
def test_an_entry_has_a_formula_a_snippet_and_a_reference(page, name):
    entry = entries(page)[name]
    assert f"{PAGES[page][0]}.{name}(" in "".join(re.findall("```python\n(.*?)```", entry, re.S))
    assert re.search(r"^ {4}\S.* (=|<-) ", entry, re.MULTILINE), "no formula"
    if name not in NO_REFERENCE:
        assert re.search(r"\((?:[^()]|\([^()]*\))*(19|20)\d\d", entry), "no reference"


@pytest.mark.parametrize("page", sorted({*PAGES, *GUIDES} - ALONE))
def test_snippets_run(page, names):
    assert blocks(page)
    for block in blocks(page):
        exec(compile(block, f"docs/{page}.md", "exec"), names)


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(ALONE))
def test_snippets_run_in_a_process_of_their_own(page, tmp_path):
    names = "import keras, numpy as np, tensorflow as tf, keras_vae as kv"
    data = "data = np.random.default_rng(0).uniform(size=(16, 8, 8, 1)).astype('float32')"
    code = "\n".join([names, data, *blocks(page)])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_an_objective_of_ones_own_works(names):
    for block in blocks("objectives"):
        exec(block, names)
    terms = names["model"].compute_terms(tf.zeros([3, *IMAGE]), 2)
    assert names["Entropic"]().loss(terms).shape == 3


@pytest.mark.parametrize("page", sorted({*PAGES, *GUIDES}))
def test_links_lead_to_files(page):
    for path in re.findall(r"`((?:examples|benchmarks|docs)/[^`\s]*)`", text(page)):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"\]\((?!http)([^)#]+)", text(page)):
        assert (ROOT / "docs" / path).exists(), path
