"""The scripts that workers run, as modules."""

import pathlib

import pytest

from tests.scripts import load_script

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="session")
def script():
    """Return a function from the name of a script here to its module."""
    return lambda name: load_script(HERE / f"{name}.py")
