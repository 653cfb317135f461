"""What pip installs: its versions, its files, and an import that touches nothing."""

import ast
import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONFIG = configparser.RawConfigParser()
CONFIG.read(ROOT / "setup.cfg", encoding="utf-8")
DEPENDENCIES = CONFIG["options"]["install_requires"].strip().splitlines()
OPTIONAL = CONFIG["options.extras_require"]["tensorboard"].strip().splitlines()
INDIRECT = {"importlib_resources"}  # imported by a dependency that does not declare it
IMPORTED_AS = {"scikit-learn": "sklearn", "pillow": "PIL"}


def imported(*folders: str) -> set[str]:
    """Return the top-level names that the Python files of some folders import or look for."""
    names = set()
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names.add(node.module.split(".")[0])
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("find_spec"):
                names.update(a.value for a in node.args if isinstance(a, ast.Constant))
    return names


@pytest.mark.full
def test_dependencies_are_what_is_imported():
    names = {re.split(r"[\[>]", line)[0] for line in [*DEPENDENCIES, *OPTIONAL]}
    declared = {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names}
    third_party = imported("keras_vae", "examples") - set(sys.stdlib_module_names) - {"keras_vae"}
    assert third_party == declared - INDIRECT


def test_lower_bounds_become_pins():
    command = [sys.executable, "tests/lowest.py"]
    pins = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert len(pins.splitlines()) == len(DEPENDENCIES)
    assert all(re.fullmatch(r"[\w-]+==\d+(\.\d+)*", pin) for pin in pins.splitlines())


def test_supported_pythons_are_the_same_everywhere():
    low, high = re.findall(r"3\.(\d+)", CONFIG["options"]["python_requires"])
    classified = re.findall(r"Python :: 3\.(\d+)", CONFIG["metadata"]["classifiers"])
    assert [*map(int, classified)] == [*range(int(low), int(high))]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"(3, {low}) <= v" in makefile and f"new-environment,.venv,{high}" in makefile


def test_every_folder_with_code_is_a_package():
    folders = {path.parent for path in (ROOT / "keras_vae").rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


SIDE_EFFECTS = """
import logging, os, pathlib, random, sys, warnings
import keras, numpy as np, tensorflow as tf, tensorflow_probability as tfp
tfp.distributions, tfp.bijectors  # loaded at first use, and change some settings themselves

def state():
    return {
        "files": sorted(map(str, pathlib.Path().rglob("*"))),
        "environment": dict(os.environ),
        "random": random.getstate(),
        "numpy": str(np.random.get_state()),
        "keras": (keras.config.floatx(), keras.config.dtype_policy().name, keras.config.epsilon()),
        "warnings": list(warnings.filters),
        "logging": [(l.level, list(l.handlers)) for l in (logging.getLogger(), tf.get_logger())],
        "loaded": {"matplotlib", "tensorflow_datasets", "sklearn", "mlxtend"} & set(sys.modules),
    }

before = state()
import keras_vae
after = state()
assert [k for k in before if before[k] != after[k]] == []
# Refused once TensorFlow has started its devices:
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
"""


@pytest.mark.full
def test_import_has_no_side_effects(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    run = subprocess.run(
        [sys.executable, "-c", SIDE_EFFECTS], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
