"""Each page of docs/ has an entry for every public name of its room, and runs as it is pasted.

A page's snippets run one after the other in a namespace that is empty at first: what they need is
on the page. README.md has a test of its own, and is read here for its links.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.callbacks.health.symptoms import SYMPTOMS

ROOT = pathlib.Path(__file__).parent.parent

# Page: the room, and the names that need an entry there: a heading, a snippet that begins with
# the call, a formula, a reference. A name whose page is not here has no page of its own.
ABSTRACT = {"Objective", "Constraint", "Schedule"}
STEERING = {"KLAnnealing", "HyperparameterSchedule", "CyclicalLearningRate", "LinearScaling"}
STEERING |= {"OneCycleLearningRate", "GECO", "KLController", "StopWhenConstraintSatisfied"}
EVALUATIONS = {"mean_kl", "marginal_kl", "mutual_information", "kl_decomposition"}
EVALUATIONS |= {"reconstruction_error", "rate_distortion", "inference_gap"}
EVALUATIONS |= {"log_likelihood", "annealed_importance_sampling", "bidirectional_check"}
EVALUATIONS |= {"active_units", "report", "fit_posterior"}
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
GUIDES = {"data", "distribution", "learning_rate", "networks", "published", "reliability"}
GUIDES |= {"adversaries", "code_priors", "codes", "hierarchies", "serving", "training"}
# Pages without snippets.
PROSE = {"README", "performance"}
ALL = {*PAGES, *GUIDES, *PROSE}
# Pages whose snippets make strategies, which disturb those of other tests in the process.
ALONE = {"distribution"}
# Pages that are run by tests of their own below.
FURTHER = {"objectives", "serving"}
# Pages of short trainings.
TRAININGS = {"adversaries", "callbacks", "code_priors", "codes", "health", "hierarchies"}
TRAININGS |= {"monitors", "networks", "optimizers"}
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


def blocks(page, language="python"):
    return re.findall(rf"^```{language}\n(.*?)^```", text(page), re.DOTALL | re.MULTILINE)


def run(page):
    """Run the snippets of a page in turn, and return what they have defined."""
    names = {}
    for block in blocks(page):
        exec(compile(block, f"docs/{page}.md", "exec"), names)
    return names


def anchors(text):
    """Return the anchors of a page's headings, as Markdown renderers make them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_page_on_health_has_a_row_for_each_symptom():
    rows = re.findall(r"^\| ([^|]+) \|", text("health"), re.MULTILINE)
    assert set(SYMPTOMS) <= set(rows)


def test_every_page_is_held():
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert pages == ALL


@pytest.mark.parametrize(("page", "name"), CASES)
def test_an_entry_has_a_formula_a_snippet_and_a_reference(page, name):
    entry = entries(page)[name]
    assert f"{PAGES[page][0]}.{name}(" in "".join(re.findall("```python\n(.*?)```", entry, re.S))
    assert re.search(r"^ {4}\S.* (=|<-) ", entry, re.MULTILINE), "no formula"
    if name not in NO_REFERENCE:
        assert re.search(r"\((?:[^()]|\([^()]*\))*(19|20)\d\d", entry), "no reference"


@pytest.mark.full
@pytest.mark.parametrize("page", sorted({*PAGES, *GUIDES} - ALONE - FURTHER - TRAININGS))
def test_a_page_runs_as_it_is_pasted(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(page)


@pytest.mark.full
@pytest.mark.parametrize("page", sorted(TRAININGS))
def test_a_page_of_trainings_runs_with_few_images(page, tmp_path, monkeypatch):
    """Eagerly, two steps for an epoch: to trace a step takes longer than to make some."""
    load, compile_model = kv.data.load, kv.LatentVariableModel.compile

    def load_few(name, split="train", *args, **kwargs):
        return load(name, f"{split}[:64]", *args, **kwargs)

    def compile_eagerly(model, *args, **kwargs):
        compile_model(model, *args, **{"run_eagerly": True, **kwargs})

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kv.data, "load", load_few)
    monkeypatch.setattr(kv.LatentVariableModel, "compile", compile_eagerly)
    assert run(page)


@pytest.mark.full
@pytest.mark.parametrize("page", sorted(ALONE))
def test_a_page_runs_in_a_process_of_its_own(page, tmp_path):
    done = execute([sys.executable, "-c", "\n".join(blocks(page))], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.full
def test_the_command_line_reads_what_serving_exports(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("serving")
    (commands,) = (block for block in blocks("serving", "bash") if "saved_model_cli" in block)
    cli = f"{sys.executable} -m tensorflow.python.tools.saved_model_cli"
    commands = re.sub("^saved_model_cli", cli, commands, flags=re.MULTILINE)
    done = execute(["bash", "-ec", commands], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "inputs['count']" in done.stdout and "Result for output key mean" in done.stdout


def execute(command, folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.full
def test_an_objective_of_ones_own_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run("objectives")
    terms = names["model"].compute_terms(tf.zeros([3, *names["image"]]), 2)
    assert names["Entropic"]().loss(terms).shape == 3


@pytest.mark.parametrize("path", ["README.md", *sorted(f"docs/{page}.md" for page in ALL)])
def test_links_lead_to_files_and_headings(path):
    page = ROOT / path
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.M)
    for name in re.findall(r"`((?:examples|benchmarks|docs)/[^`\s]*)`", text):
        assert (ROOT / name).exists(), name
    for name, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", text):
        target = page.parent / name if name else page
        assert target.exists(), name
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{name}#{anchor}"
