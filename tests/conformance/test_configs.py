"""`get_config`, `from_config` and JSON, for every public class."""

import keras
import pytest

from tests import contracts, registry


@pytest.mark.parametrize("class_name", sorted(registry.ARGUMENTS))
def test_configuration(class_name):
    contracts.check_config(class_name)


def test_config_is_that_of_construction_not_of_training():
    # beta moves in training; the config is what the constructor was given, the weight is saved.
    objective = registry.example("objectives.ELBO")
    objective.beta.assign(0.125)
    assert objective.get_config()["beta"] == 0.5
    model = registry.example("models.BetaVAE")
    model.objective.beta.assign(0.125)
    assert model.get_config()["beta"] == 2.0
    assert type(model).from_config(model.get_config()).objective.beta == 2.0


def test_registered_names_tell_all_classes_apart():
    # A posterior and a prior may bear the same name: "AutoregressiveFlow".
    classes = set(registry.saved_classes().values())
    names = {keras.saving.get_registered_name(kind) for kind in classes}
    assert len(names) == len(classes)
    assert all(name.startswith("keras_vae") and ">" in name for name in names)
