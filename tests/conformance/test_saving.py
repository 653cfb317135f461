"""A model in a `.keras` file is the same model in another process, and goes on training alike.

All models are written first, then one fresh process, which imports Keras and this package and
nothing else, reads them all while this process goes on with the originals.
"""

import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

import keras_vae as kv
from tests import registry

USER_MODULE = """
import keras


@keras.saving.register_keras_serializable(package="user")
class Encoder(keras.Model):
    def __init__(self, units=8, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.flatten = keras.layers.Flatten()
        self.dense = keras.layers.Dense(units, "relu")
        # Active only in the sense of being called: Keras does not save where its draws had got to.
        self.dropout = keras.layers.Dropout(0.0, seed=7)

    def build(self, input_shape):
        self.dense.build(self.flatten.compute_output_shape(input_shape))

    def call(self, inputs, training=False):
        return self.dropout(self.dense(self.flatten(inputs)), training=training)

    def get_config(self):
        return {**super().get_config(), "units": self.units}
"""

# Everything that is compared, computed in the same words by both processes.
MEASURE = """
import numpy as np
import tensorflow as tf


def data(file):
    arrays = np.load(file)
    return arrays["x"], (arrays["y"] if "y" in arrays else None)


def measure(model, x, y):
    tf.config.run_functions_eagerly(True)  # also draws, which else are traced for each model
    outputs = {
        "call": np.array(model(x, y=y)),
        "reconstruct": np.array(model.reconstruct(x, y=y)),
        "log_weights": np.array(model.log_weights(x, num_samples=3, seed=1, y=y)),
        "sample": np.array(model.sample(len(x), seed=2, y=y)),
        "iterations": model.optimizer.iterations.numpy(),
    }
    tf.config.run_functions_eagerly(False)
    history = model.fit(x, y, batch_size=8, epochs=1, shuffle=False, verbose=0).history
    outputs |= {f"next {name}": value for name, value in history.items()}
    return outputs | {f"then {i}": w.numpy() for i, w in enumerate(model.trainable_variables)}
"""

# Users' modules are imported last, so that the package's own files are read without them.
READ = """
import sys

import keras
import keras_vae
import measuring

for name in sys.argv[1:]:
    if "/user-" in name:
        import user_networks
    model = keras.saving.load_model(f"{name}.keras")
    np_file = f"{name}.result.npz"
    measuring.np.savez(np_file, **measuring.measure(model, *measuring.data(f"{name}.data.npz")))
"""


def sequential_and_functional():
    layers = [
        keras.layers.Flatten(),
        keras.layers.Dense(8, "relu"),
        keras.layers.LayerNormalization(),
    ]
    z = keras.Input((2,))
    hidden = keras.layers.Dense(8, "relu")(z)
    joined = keras.layers.Concatenate()([z, hidden])
    pixels = keras.layers.Reshape((8, 8, 1))(keras.layers.Dense(64)(joined))
    return {
        "encoder": keras.Sequential([keras.Input((8, 8, 1)), *layers]),
        "decoder": keras.Model(z, kv.networks.OutputBias()(pixels)),
    }


def backbone():
    image = keras.Input((8, 8, 1))
    maps = keras.layers.Conv2D(4, 3, strides=2, use_bias=False)(image)
    maps = keras.layers.ReLU(max_value=6.0)(keras.layers.BatchNormalization()(maps))
    network = keras.Model(image, keras.layers.GlobalAveragePooling2D()(maps))
    return {"encoder": network}


def subclassed():
    return {"encoder": sys.modules["user_networks"].Encoder()}


USERS = {
    "Sequential and Functional of users": sequential_and_functional,
    "backbone of users": backbone,
    "user subclass": subclassed,
}


def models():
    """Return models that have every head and network, some presets, and parts of users."""
    made = {}
    for name, classes in registry.COMBINATIONS.items():
        made[name] = lambda classes=classes: registry.small_model(classes)
    for name in ("models.IWAE", "models.GECOVAE", "models.VAEGAN"):
        made[name] = lambda name=name: registry.example(name)
    given = {
        "likelihood": kv.likelihoods.Normal(registry.SHAPE, "per_dimension"),
        "objective": registry.example("objectives.ELBO"),
    }
    made["likelihood and objective"] = lambda: kv.VAE(**registry.parts(**given))
    for name, changes in USERS.items():
        made[name] = lambda changes=changes: kv.VAE(**registry.parts(**changes()))
    return made


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return what this process and a fresh one measure of every model: `{name: (here, there)}`."""
    folder = tmp_path_factory.mktemp("saved")
    for name, text in {"user_networks": USER_MODULE, "measuring": MEASURE}.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    sys.path.insert(0, str(folder))
    __import__("user_networks")
    measuring = __import__("measuring")
    originals = {}
    try:
        for number, (name, make) in enumerate(models().items()):
            file = folder / f"{'user' if name.startswith('user') else 'model'}-{number}"
            originals[name] = (file, trained(make, file))
        files = [str(file) for file, _ in originals.values()]
        with start(READ, files, folder) as process:
            here = {
                name: measuring.measure(model, *measuring.data(f"{file}.data.npz"))
                for name, (file, model) in originals.items()
            }
            _, errors = process.communicate(timeout=900)
        there = {
            name: dict(np.load(f"{file}.result.npz"))
            for name, (file, _) in originals.items()
            if os.path.exists(f"{file}.result.npz")
        }
        yield here, there, errors
    finally:
        sys.path.remove(str(folder))
        for module in ("user_networks", "measuring"):
            del sys.modules[module]


def trained(make, file):
    """Return a model after an epoch, which it and its data were then saved to files."""
    keras.utils.set_random_seed(0)
    model = make()
    x, y = registry.batch(model)
    np.savez(f"{file}.data.npz", x=x, **({} if y is None else {"y": y}))
    # Eager: the models are so small that tracing them would take most of the time.
    model.compile(optimizer_of(model), run_eagerly=True)
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    for number in model.objective.hyperparameters.values():
        number.assign(0.75)  # as an annealing would leave it
    model.save(f"{file}.keras")
    return model


def optimizer_of(model):
    """Return an optimizer for a model, or one for each part where there is a discriminator."""
    if "discriminator" not in model.trainable_parts:
        return keras.optimizers.Adam(0.01)
    parts = {part: keras.optimizers.Adam(0.01) for part in ("default", "decoder", "discriminator")}
    return kv.optimizers.by_part(model, **parts, every={"decoder": 2})


def start(program, arguments, folder):
    root = os.path.dirname(os.path.dirname(os.path.abspath(kv.__file__)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, str(folder)])}
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.full
def test_fresh_process_reads_every_file(results):
    here, there, errors = results
    assert set(there) == set(here), errors[-3000:]
    assert "Traceback" not in errors


@pytest.mark.full
def test_fresh_process_computes_the_same(results):
    here, there, _ = results
    failures = []
    for name, outputs in here.items():
        assert set(outputs) == set(there[name]), name
        for key, value in outputs.items():
            # The same operations on the same machine: far closer than a lost weight would leave it.
            if not np.allclose(value, there[name][key], rtol=1e-5, atol=1e-6):
                worst = np.max(np.abs(value - there[name][key]))
                failures.append(f"{name}: {key} differs by {worst:.2g}")
    assert not failures, "\n".join(failures)


@pytest.mark.full
def test_call_and_reconstruct_agree(results):
    here, _, _ = results
    for name, outputs in here.items():
        np.testing.assert_allclose(outputs["call"], outputs["reconstruct"], rtol=1e-6, err_msg=name)


@pytest.mark.full
def test_training_went_on(results):
    # Else equal outputs would say nothing about optimizers.
    here, _, _ = results
    for name, outputs in here.items():
        assert outputs["iterations"] >= 1 and np.isfinite(outputs["next loss"]).all(), name
        assert {key.split()[0] for key in outputs} >= {"sample", "log_weights", "next", "then"}


def test_weights_file_alone_restores_a_model(tmp_path):
    model = registry.example("models.VAE")
    x, _ = registry.batch(model)
    model.save_weights(tmp_path / "m.weights.h5")
    other = registry.example("models.VAE")
    assert np.abs(other.reconstruct(x) - model.reconstruct(x)).max() > 0
    other.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(other.reconstruct(x), model.reconstruct(x))


def test_clone_of_a_config_has_its_own_weights():
    model = registry.example("models.VAE")
    clone = type(model).from_config(model.get_config())
    mine = {id(w) for w in model.weights}
    assert not mine & {id(w) for w in clone.weights}
    assert [w.shape for w in clone.weights] == [w.shape for w in model.weights]


def test_a_vae_gan_goes_on_from_a_file(tmp_path):
    """Fails for a discriminator, or moments and counts of one part, that are not in the file."""
    model = registry.example("models.VAEGAN")
    x, _ = registry.batch(model)
    model.compile(optimizer_of(model), run_eagerly=True)
    options = {"batch_size": 2, "shuffle": False, "verbose": 0}
    model.fit(x[:6], **options)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.run_eagerly = True
    assert type(loaded) is kv.VAEGAN
    logs = [one.fit(x, **options).history for one in (model, loaded)]
    assert logs[0] == logs[1]
    steps = [loaded.optimizer[part].iterations.numpy() for part in ("decoder", "discriminator")]
    assert steps == [4, 7]  # of seven batches
    pairs = [[*one.weights, *one.optimizer.variables] for one in (model, loaded)]
    for mine, theirs in zip(*pairs, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy(), err_msg=mine.path)
    np.testing.assert_array_equal(model.sample(3, seed=1), loaded.sample(3, seed=1))
