"""No public class is forgotten by the conformance tests."""

import importlib
import inspect
import pkgutil

import keras

import keras_vae as kv
from tests import registry


def test_every_public_class_has_an_example():
    assert set(registry.saved_classes()) == set(registry.ARGUMENTS)


def test_every_head_and_network_is_in_a_combination():
    rooms = ("posteriors.", "priors.", "likelihoods.", "networks.")
    parts = {name for name in registry.ARGUMENTS if name.startswith(rooms)}
    assert parts <= {name for names in registry.COMBINATIONS.values() for name in names}


def test_classes_made_to_be_subclassed_are_public():
    assert set(registry.public_objects()) >= registry.ABSTRACT


def test_all_names_exist_once_and_in_order():
    for module in (kv, *(getattr(kv, n) for n in kv.__all__ if inspect.ismodule(getattr(kv, n)))):
        names = list(module.__all__)
        assert len(set(names)) == len(names), module.__name__
        assert all(hasattr(module, name) for name in names), module.__name__


def test_every_registered_class_of_the_package_can_be_loaded_after_importing_it_alone():
    # A class that lives in a module which nothing imports would be unknown in another process.
    modules = [m.name for m in pkgutil.walk_packages(kv.__path__, "keras_vae.")]
    for name in modules:
        importlib.import_module(name)
    mine = {n for n in keras.saving.get_custom_objects() if n.startswith("keras_vae")}
    assert len(mine) >= 25
    for name in mine:
        kind = keras.saving.get_registered_object(name)
        assert keras.saving.get_registered_name(kind) == name
