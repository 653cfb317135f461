"""Imports inside keras_vae point one way, and heavy ones wait until they are needed."""

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "keras_vae"

# A room may import itself and every room of an earlier line; rooms of one line are strangers.
LEVELS = [
    {"core"},
    {"distributions", "terms"},
    {
        "schedules",
        "posteriors",
        "priors",
        "likelihoods",
        "bounds",
        "penalties",
        "adversaries",
        "networks",
        "data",
        "optimizers",
        "controllers",
    },
    {"training"},
    {"objectives"},
    {"models"},
    {"export", "plotting"},
    {"evaluation"},
    {"callbacks"},
    {"learning_rate_range"},
    {"__init__"},
]
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}

# Only inside functions.
LAZY = {"tensorflow_datasets", "sklearn", "mlxtend", "matplotlib", "tensorboard", "PIL"}
FORBIDDEN = {
    "tensorflow_probability.layers": "is Keras 2",
    "tensorflow_probability.python": "is private",
    "tf_keras": "is Keras 2",
    "pickle": "runs code when it loads",
    "cloudpickle": "runs code when it loads",
    "dill": "runs code when it loads",
}


def imports(path: Path, package: Path) -> Iterator[tuple[ast.stmt, str]]:
    """Yield each import statement of a module with the dotted names it brings in."""
    parents = ("keras_vae", *path.relative_to(package).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + 1] if node.level else ()
            module = ".".join([*base, *filter(None, [node.module])])
            yield from ((node, f"{module}.{alias.name}") for alias in node.names)


def room_of(path: Path, package: Path) -> str:
    return path.relative_to(package).with_suffix("").parts[0]


def statements_on_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield what runs when the module is imported: everything but the bodies of functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from statements_on_import(node)


def names_on_import(path: Path) -> Iterator[str]:
    for node in statements_on_import(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""


def attributes(path: Path) -> Iterator[str]:
    """Yield every `a.b.c` of a module, with TFP's short name spelt out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            yield re.sub(r"^tfp\.", "tensorflow_probability.", ast.unparse(node))


def violations(package: Path) -> list[str]:
    found = set()
    for path in sorted(package.rglob("*.py")):
        where, room = path.relative_to(package).as_posix(), room_of(path, package)
        if room not in LEVEL:
            found.add(f"{where}: room {room!r} has no place in LEVELS")
            continue
        names = [name for _, name in imports(path, package)]
        for name in names:
            first, *rest = name.split(".")
            if first in ("examples", "tests", "benchmarks"):
                found.add(f"{where}: imports {first}")
            if first != "keras_vae":
                continue
            target = rest[0] if rest and rest[0] in LEVEL else "__init__"
            if target != room and LEVEL[target] >= LEVEL[room]:
                found.add(f"{where}: {room} may not import {name}")
        for name in {*names, *attributes(path)}:
            for bad, why in FORBIDDEN.items():
                if f"{name}.".startswith(f"{bad}."):
                    found.add(f"{where}: {bad} {why}")
        for name in names_on_import(path):
            if name.split(".")[0] in LAZY:
                found.add(f"{where}: import {name} inside the function that needs it")
    return sorted(found)


@pytest.mark.full
def test_the_package_keeps_the_direction():
    assert violations(PACKAGE) == []


def circles(package: Path) -> list[str]:
    """Return modules that import each other, be it only for their types."""
    modules = {
        ".".join(("keras_vae", *path.relative_to(package).with_suffix("").parts)): path
        for path in package.rglob("*.py")
        if path.name != "__init__.py"
    }
    graph = {
        name: {
            target
            for _, full in imports(path, package)
            for target in (full, full.rpartition(".")[0])
            if target in modules
        }
        for name, path in modules.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other(tmp_path):
    assert circles(PACKAGE) == []
    (tmp_path / "a.py").write_text("from keras_vae.b import f", encoding="utf-8")
    (tmp_path / "b.py").write_text("if TYPE_CHECKING:\n    import keras_vae.a", encoding="utf-8")
    assert sorted(set(circles(tmp_path))) == ["keras_vae.a", "keras_vae.b"]


@pytest.mark.parametrize(
    ("path", "source", "message"),
    [
        ("core/a.py", "from keras_vae import bounds", "core may not import keras_vae.bounds"),
        ("core/a.py", "def f():\n    from ..models import base", "may not import keras_vae.models"),
        ("priors/a.py", "from keras_vae.posteriors.base import P", "priors may not import"),
        ("bounds/a.py", "from ..objectives import ELBO", "bounds may not import"),
        ("controllers.py", "import keras_vae.objectives", "controllers may not import"),
        ("models/vae.py", "from keras_vae.callbacks import A", "models may not import"),
        ("export.py", "from . import callbacks", "export may not import keras_vae.callbacks"),
        ("models/vae.py", "import keras_vae as kv", "models may not import keras_vae"),
        ("evaluation/a.py", "import examples.mnist_5k", "imports examples"),
        ("helpers.py", "", "room 'helpers' has no place"),
        ("data/a.py", "try:\n    import sklearn.datasets\nexcept: ...", "import sklearn.datasets"),
        ("plotting.py", "from matplotlib import pyplot", "import matplotlib inside"),
        ("priors/a.py", "import tensorflow_probability as tfp\ntfp.layers.X()", "is Keras 2"),
        ("priors/a.py", "from tensorflow_probability import layers", "is Keras 2"),
        ("data/a.py", "def f():\n    import pickle", "pickle runs code"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path, path, source, message):
    module = tmp_path / path
    module.parent.mkdir(exist_ok=True)
    module.write_text(source, encoding="utf-8")
    (found,) = violations(tmp_path)
    assert message in found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("models/vae.py", "from keras_vae.objectives.elbo import ELBO\nfrom ..core import shapes"),
        ("models/vae.py", "from .base import LatentVariableModel\nimport tensorflow as tf"),
        ("data/a.py", "def load():\n    import tensorflow_datasets as tfds"),
        ("__init__.py", "from keras_vae import callbacks, models\nfrom .export import f"),
        ("priors/a.py", "import keras\nkeras.layers.Dense(3)"),
    ],
)
def test_an_allowed_import_is_not(tmp_path, path, source):
    module = tmp_path / path
    module.parent.mkdir(exist_ok=True)
    module.write_text(source, encoding="utf-8")
    assert violations(tmp_path) == []
