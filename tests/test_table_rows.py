"""What a row of the tables is made of: its recipe, its model, and what is noted of them."""

from __future__ import annotations

import importlib
import json

import keras
import numpy as np
import pytest

import keras_vae as kv
from benchmarks import likelihood_tables, rows

TABLES = ("iwae_table", "priors_table", "baselines", "taming_vaes", "recipes")
TABLES += ("hierarchies", "codes")


def test_numbers_of_a_recipe_can_be_changed():
    recipe = rows.Recipe(passes=3)
    changed = recipe.changed(["learning_rate=1e-3", "cycle=False", "batch_size=20"])
    assert (changed.learning_rate, changed.cycle, changed.batch_size) == (1e-3, False, 20)
    assert changed.passes == 3 and type(changed.batch_size) is int
    with pytest.raises(SystemExit, match="no rate, but passes, batch_size"):
        recipe.changed(["rate=3"])
    with pytest.raises(SystemExit, match="optimizer must be one of adam, adamax, muon, not sgd"):
        recipe.changed(["optimizer=sgd"])
    with pytest.raises(
        SystemExit, match="encoder_optimizer must be one of adam, adamax, muon, not sgd"
    ):
        recipe.changed(["encoder_optimizer=sgd"])
    for half in ("encoder_optimizer=adam", "encoder_learning_rate=1e-3"):
        with pytest.raises(SystemExit, match="must be given both or neither, not '(adam)?' and 0"):
            recipe.changed([half])
    both = recipe.changed(["encoder_optimizer=adam", "encoder_learning_rate=1e-3"])
    assert (both.encoder_optimizer, both.encoder_learning_rate) == ("adam", 1e-3)
    for wrong in ("passes=1.5", "cycle=2", "epsilon=", "passes"):
        with pytest.raises(SystemExit, match=f"{wrong.split('=')[0]} must be of type"):
            recipe.changed([wrong])


@pytest.mark.full
def test_an_encoder_can_have_a_rate_of_its_own():
    steps, seen = 20, []
    parts = likelihood_tables.elbo()
    recipe = rows.Recipe(
        5, 10, "muon", 8e-3, encoder_optimizer="adam", encoder_learning_rate=2e-3, kl_warmup=0.5
    )
    model = kv.VAE(**parts, seed=0)
    recipe.compile(model)
    kinds = {part: type(model.optimizer[part]).__name__ for part in ("encoder", "default")}
    assert kinds == {"encoder": "Adam", "default": "Muon"}

    def note(batch, logs):
        names = ("default.learning_rate", "encoder.learning_rate", "beta")
        seen.append([float(model.hyperparameters[name]) for name in names])

    images = np.zeros((40, 28, 28, 1), np.float32)
    callbacks = [*recipe.callbacks(steps), keras.callbacks.LambdaCallback(on_train_batch_end=note)]
    model.fit(images, batch_size=10, epochs=5, callbacks=callbacks, verbose=0)
    rates = np.array(seen)
    cycle = kv.schedules.OneCycle(8e-3, steps, warmup=0.05, final_division=1e3, endpoint=False)
    assert rates[:, 0] == pytest.approx([float(cycle(step)) for step in range(steps)])
    assert rates[:, 1] == pytest.approx(rates[:, 0] / 4.0)
    assert rates[:, 2] == pytest.approx(np.minimum(1.0, np.arange(steps) / 10.0))


def test_what_layers_have_otherwise_is_noted():
    layer = keras.layers.Dense(3)
    usual = rows.described(layer.get_config())
    assert "trainable" not in usual and "dtype" not in usual
    layer.trainable = False
    assert rows.described(layer.get_config()) == {**usual, "trainable": False}
    precise = keras.layers.Dense(3, dtype="float64").get_config()
    assert rows.described(precise) == {**usual, "dtype": "float64"}


@pytest.mark.full
@pytest.mark.parametrize("name", TABLES)
def test_every_row_is_a_model_that_can_be_saved(name, tmp_path):
    for row in importlib.import_module(f"benchmarks.{name}").ROWS.values():
        row.model(**row.parts(), seed=1).save(tmp_path / "model.keras")
        saved = keras.saving.load_model(tmp_path / "model.keras")
        config = saved.get_config()
        assert config.pop("seed") == 1
        found = json.loads(json.dumps(rows.described(config)))
        assert found == row.setting()["model"]


@pytest.mark.parametrize("name", TABLES)
def test_likelihoods_of_whole_numbers_get_whole_numbers(name):
    for key, row in importlib.import_module(f"benchmarks.{name}").ROWS.items():
        kind = type(row.parts()["likelihood"]).__name__
        whole = row.data.options.get("dtype") == "uint8"
        assert whole == (kind == "DiscretizedLogisticMixture"), key
