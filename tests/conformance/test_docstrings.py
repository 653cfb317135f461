"""Docstrings of the public API: the sections of Google's form, in the order of this package."""

import dataclasses
import doctest
import importlib
import inspect
import re

import keras
import pytest

from tests import registry

SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Example", "References")
HEADING = re.compile(r"^([A-Z][A-Za-z]+):$", re.MULTILINE)
# What functions return; the examples are those of the functions.
RESULTS = {
    "LearningRateRange",
    "Terms",
    "callbacks.Finding",
    "evaluation.ActiveUnits",
    "evaluation.AnnealedLogLikelihood",
    "evaluation.BetaVAEScore",
    "evaluation.BidirectionalCheck",
    "evaluation.DCI",
    "evaluation.DisentanglementScores",
    "evaluation.Estimate",
    "evaluation.FactorVAEScore",
    "evaluation.FittedPosterior",
    "evaluation.FrechetDistance",
    "evaluation.FrechetExtrapolation",
    "evaluation.InferenceGap",
    "evaluation.KLDecomposition",
    "evaluation.KernelDistance",
    "evaluation.LogLikelihood",
    "evaluation.Report",
    "evaluation.RateDistortionCurve",
    "evaluation.ReconstructionError",
    "evaluation.ManifoldScores",
    "evaluation.Modularity",
    "evaluation.MutualInformationGap",
    "evaluation.SAPScore",
}
ENTRY = re.compile(r"^ {4}(\*{0,2}\w+)(?: \([^)]*\))?:", re.MULTILINE)


def sections(docstring):
    """Return the text of each section by its heading."""
    pieces = HEADING.split(inspect.cleandoc(docstring))
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def entries(text):
    return [name.lstrip("*") for name in ENTRY.findall(text)]


def arguments(thing):
    """Return the names of the arguments that a user gives."""
    # Of a layer whose constructor is inherited, old versions of Keras hide the signature.
    is_layer = inspect.isclass(thing) and issubclass(thing, keras.layers.Layer)
    parameters = inspect.signature(thing.__init__ if is_layer else thing).parameters
    return [name for name in parameters if name not in ("self", "cls")]


@pytest.mark.parametrize("public_name", sorted(registry.public_objects()))
def test_docstring(public_name):
    thing = registry.public_objects()[public_name]
    assert thing.__doc__, "no docstring"
    check_form(thing)
    check_arguments(thing)
    if public_name not in RESULTS:
        check_example(thing)
    if inspect.isclass(thing):
        check_methods(thing)


def check_form(thing):
    """Check the summary, the headings and their order, and that references have a year."""
    lines = inspect.cleandoc(thing.__doc__).split("\n")
    assert lines[0].endswith("."), lines[0]
    assert len(lines) == 1 or lines[1] == "", "the summary takes more than one line"
    found = sections(thing.__doc__)
    assert list(found) == sorted(set(found) & set(SECTIONS), key=SECTIONS.index)
    references = found.get("References")
    assert references is None or re.search(r"\b(19|20)\d\d\b", references), "no year"


def check_arguments(thing):
    """Check that the documented arguments are those of the signature."""
    told = sections(thing.__doc__)
    # The attributes of a result are what its constructor takes; those of other classes are more.
    documented = entries(told["Args"] if "Args" in told else told.get("Attributes", ""))
    own_constructor = not inspect.isclass(thing) or any(
        {"__init__", "__new__"} & set(vars(kind)) and kind.__module__.startswith("keras_vae")
        for kind in thing.__mro__
    )
    expected = arguments(thing) if own_constructor else documented
    if dataclasses.is_dataclass(thing):  # a subclass may leave the fields of its base to the base
        expected = [name for name in expected if name in vars(thing).get("__annotations__", {})]
        expected = [name for name in expected if name in documented or not _in_base(thing, name)]
    assert documented == expected


def _in_base(kind, name):
    return any(hasattr(base, name) for base in kind.__bases__)


def check_example(thing):
    """Check that doctest collects an example."""
    module = importlib.import_module(thing.__module__)
    found = {test.name: test for test in doctest.DocTestFinder().find(module)}
    test = found.get(f"{thing.__module__}.{thing.__qualname__}")
    assert test is not None, "doctest does not find it"
    assert test.examples, "no example"
    assert "Example" in sections(thing.__doc__)


def check_methods(kind):
    """Check that public methods are documented, with no argument that they do not have."""
    for name, method in vars(kind).items():
        if name.startswith("_") or not inspect.isfunction(method):
            continue
        overrides = any(hasattr(base, name) for base in kind.__bases__)
        assert overrides or inspect.getdoc(method), f"{name} has no docstring"
        told = sections(inspect.getdoc(method) or "")
        documented = entries(told.get("Args", ""))
        assert set(documented) <= set(arguments(method)), name
