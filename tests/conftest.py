"""What every test starts from: a quiet TensorFlow, two CPU devices, clean Keras settings."""

import functools
import gc
import os
import sys
import typing
import zlib
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Better machine code takes longer to make than the few steps that a test asks of XLA.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
)

import keras
import pytest
import tensorflow as tf

from keras_vae.core import progress
from keras_vae.training import execution

pytest.register_assert_rewrite("tests.contracts")


class Examples:
    """What the examples of docstrings start from, which lie beside this folder."""

    @pytest.fixture(autouse=True)
    def run_eagerly(self, request, monkeypatch):
        """Run eagerly, and without the bars that slow work shows.

        The examples show how something is called, in a step or two: to trace a graph takes seconds.
        Evaluations are the exception, whose loops are long.
        """
        if isinstance(request.node, pytest.DoctestItem):
            tf.config.run_functions_eagerly("evaluation" not in request.node.path.parts)
            monkeypatch.setattr(progress, "_PATIENCE", float("inf"))
        yield
        tf.config.run_functions_eagerly(False)


def pytest_configure(config):
    """Let the examples know of their fixture."""
    config.pluginmanager.register(Examples())


def pytest_addoption(parser):
    """Add the option by which `make` runs the tests in several processes, one after another."""
    parser.addoption("--part", default="1/1", help="K/N: the K-th of N parts of the test files")


def is_in_part(path, config):
    """Return whether a file is of the part that is run.

    TensorFlow keeps some megabytes of every function that it ever traced, so that one process for
    all tests would need more memory than many machines have.
    """
    number, count = map(int, config.getoption("--part").split("/"))
    return zlib.crc32(path.name.encode()) % count == number - 1


def pytest_ignore_collect(collection_path, config):
    """Leave the files of tests of another part unread."""
    if collection_path.name.startswith("test_") and not is_in_part(collection_path, config):
        return True
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Leave out examples of another part, and leave to `make test-all` what one case stands for."""
    begun = set()
    for item in items:
        if "first_is_quick" in item.keywords:
            test = item.nodeid.partition("[")[0]
            if test in begun:
                item.add_marker(pytest.mark.full)
            begun.add(test)
    of_others = [item for item in items if not is_in_part(item.path, config)]
    config.hook.pytest_deselected(items=of_others)
    items[:] = [item for item in items if is_in_part(item.path, config)]


# Two logical CPUs, so that MirroredStrategy(["CPU:0", "CPU:1"]) stands in for two GPUs. They share
# one thread pool, and a test that names no device runs on CPU:0 as fast as with a single one.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

# To optimize a graph takes longer than to run the few steps that a test asks of it.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

# Python 3.12 and later remember what a protocol asks of a class. Tracing asks thousands of times.
if sys.version_info < (3, 12):
    typing._get_protocol_attrs = functools.cache(typing._get_protocol_attrs)

# What was imported stays, and tracing makes many objects: to look for garbage after every few
# hundred of them, in all that there is, costs several percent of the time.
gc.freeze()
gc.set_threshold(100_000, 20, 20)


@pytest.fixture(autouse=True)
def graphs_by_default(request, monkeypatch):
    """Let `jit_compile="auto"` choose the graph, but in tests marked with `default_execution`.

    XLA takes two seconds to compile a small model. What it computes is tested by name.
    """
    if "default_execution" not in request.keywords:
        monkeypatch.setattr(execution, "xla_is_faster", lambda layers: False)


@pytest.fixture(autouse=True)
def clean_state():
    """Give every test the same seeds, and take back what it set."""
    keras.utils.set_random_seed(0)
    yield
    tf.config.run_functions_eagerly(False)
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.utils.clear_session(free_memory=False)
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="session")
def tfds_data_dir() -> str:
    """Return the folder of prepared TFDS data, or skip."""
    folder = os.environ.get("TFDS_DATA_DIR")
    if not folder:
        pytest.skip("needs prepared TFDS data: set TFDS_DATA_DIR to its folder")
    assert Path(folder).is_dir(), f"TFDS_DATA_DIR is not a folder: {folder}"
    return folder


@pytest.fixture(scope="session")
def replicas():
    """Return a strategy of two logical CPUs.

    One for all tests: the collective operations of two strategies in one process bear the same
    numbers, and TensorFlow remembers the shapes that belong to a number.
    """
    assert len(tf.config.list_logical_devices("CPU")) >= 2
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
