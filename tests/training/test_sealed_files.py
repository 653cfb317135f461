"""Files of models that read as other weights than those that were written are errors."""

import json

import keras
import numpy as np
import pytest

import keras_vae as kv
from tests.campaigns import loaders
from tests.small_models import SHAPE, binary_images, make_vae


@pytest.mark.first_is_quick
@pytest.mark.parametrize("case", ["arrays in a .keras file", "arrays in a .weights.h5 file"])
def test_a_number_that_changed_is_seen(case, tmp_path):
    # Some of the numbers are those of the seal itself, without which the weights are the same.
    row = loaders.run(case, 3, tmp_path)
    assert row["refused"] >= 2 and row["lost"] == 0, row


def test_a_slot_that_changed_is_seen(tmp_path):
    model, path = make_vae(), tmp_path / "m.weights.h5"
    model.compile("adam", run_eagerly=True)
    model.fit(binary_images(4), verbose=0)
    model.save_weights(path)
    model.load_weights(path)
    with loaders.h5py.File(path, "r+") as file:
        slots = file["optimizer/vars"]
        slots["2"][...] = slots["2"][...] + 1.0
    with pytest.raises(ValueError, match="the slots that were read are not those that were"):
        model.load_weights(path)


def saved(folder):
    """Return the path of a model, and its weights."""
    path, model = folder / "m.keras", make_vae()
    model.build((None, *SHAPE))
    model.save(path)
    return path, [weight.numpy() for weight in model.weights]


def with_configuration(path, change):
    """Change the configuration in a file."""
    found = loaders.members(path.read_bytes())
    config = json.loads(found["config.json"])
    change(config)
    path.write_bytes(loaders.packed({**found, "config.json": json.dumps(config).encode()}))


def test_a_size_beyond_all_memory_is_refused(tmp_path):
    path, _ = saved(tmp_path)
    with_configuration(path, lambda c: c["config"]["posterior"]["config"].update(latent_dim=10**9))
    with pytest.raises((ValueError, TypeError), match="`latent_dim` must be an integer <= "):
        keras.models.load_model(path)


@pytest.mark.parametrize("parts", [(), ("encoder",), ("encoder", "decoder", "posterior")], ids=str)
def test_a_model_is_refused_rather_than_read_untrained(tmp_path, parts):
    path, expected = saved(tmp_path)

    def damage(config):
        for one in [config, *(config["config"][part] for part in parts)]:
            one.pop("build_config", None)

    with_configuration(path, damage)
    try:
        found = [weight.numpy() for weight in keras.models.load_model(path).weights]
    except ValueError:
        return
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_of_another_precision_are_read_as_before(tmp_path):
    single, path = make_vae(), tmp_path / "m.weights.h5"
    single.build((None, *SHAPE))
    single.save_weights(path)
    keras.config.set_dtype_policy("float64")
    try:
        double = make_vae()
        double.build((None, *SHAPE))
    finally:
        keras.config.set_dtype_policy("float32")
    double.load_weights(path)
    for one, other in zip(single.weights, double.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert isinstance(double, kv.VAE)
