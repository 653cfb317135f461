"""Whatever `fit` takes as data goes everywhere where data are taken."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv
from keras_vae.evaluation.distances.features import feature_stream


class Table:
    """What turns into an array, and is none: the least that tables of any library have."""

    def __init__(self, values):
        self.values = values
        self.shape = values.shape

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)

    def __len__(self):
        return len(self.values)


class Batches(keras.utils.PyDataset):
    """Batches by their number."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    @property
    def num_batches(self):
        return -(-len(self.values) // 8)

    def __getitem__(self, index):
        return self.values[8 * index : 8 * (index + 1)]


def mixed_frame(values):
    pandas = pytest.importorskip("pandas", reason="tables of pandas need pandas")
    # Floats and booleans, which have no dtype in common to pandas.
    return pandas.DataFrame(values, columns=[*"abcd"]).astype({"b": bool, "d": "float32"})


FORMS = {"table": Table, "pandas": mixed_frame, "batches": Batches}


VALUES = np.random.default_rng(0).integers(0, 2, (20, 4)).astype("float64")


def make():
    keras.utils.set_random_seed(0)
    model = kv.VAE(
        encoder=kv.networks.MLPEncoder((8,)),
        decoder=keras.Sequential([keras.layers.Dense(4), kv.networks.OutputBias()]),
        posterior=kv.posteriors.DiagonalNormal(2),
        likelihood=kv.likelihoods.Bernoulli((4,)),
    )
    model.compile("adam", run_eagerly=True)
    return model


def test_the_mean_of_endless_data_is_refused():
    endless = tf.data.Dataset.from_tensor_slices(np.zeros([8, 4], "float32")).batch(8).repeat()
    with pytest.raises(ValueError, match="`data` must end, as by data.take"):
        make().initialize_output_bias(endless)


def read(data):
    """Return what everything that reads data makes of them, as numbers."""
    model = make()
    model.initialize_output_bias(data)
    monitor = kv.callbacks.LatentMonitor(data, batch_size=8)
    size = {} if isinstance(data, Batches) else {"batch_size": 8}
    options = {"shuffle": False, "verbose": 0, **size}
    history = model.fit(data, callbacks=[monitor], validation_data=data, **options).history
    return {
        "fit": history["loss"],
        "validation": history["val_loss"],
        "monitor": monitor.history[0].kl,
        "map_batches": kv.evaluation.mean_kl(model, data, batch_size=8).mean,
        "features": feature_stream("real", data, None, batch_size=8).collect(),
    }


@pytest.fixture(scope="module")
def expected():
    return read(VALUES)


@pytest.mark.first_is_quick
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_all_readers_read_all_forms_alike(form, expected):
    for name, numbers in read(form(VALUES)).items():
        np.testing.assert_allclose(numbers, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:The loss did not")
def test_what_takes_arrays_alone_takes_tables():
    model, data = make(), mixed_frame(VALUES)
    found = kv.find_learning_rate(model, data, steps=20, batch_size=8, verbose=0)
    np.testing.assert_array_equal(
        found.losses, kv.find_learning_rate(model, VALUES, steps=20, batch_size=8, verbose=0).losses
    )
    kv.callbacks.HealthCheck(data=data)
    np.testing.assert_array_equal(model.encode(data).mean(), model.encode(VALUES).mean())
    np.testing.assert_allclose(
        model.predict(data, verbose=0), model.reconstruct(VALUES), rtol=1e-5, atol=1e-6
    )


def test_pairs_of_tables_are_read_as_pairs_of_arrays():
    model = make()
    weights = np.linspace(0.0, 1.0, 20)
    tables = Table(VALUES), Table(np.zeros(20)), Table(weights)
    np.testing.assert_allclose(
        model.evaluate(tables, verbose=0),
        model.evaluate(VALUES, np.zeros(20), sample_weight=weights, verbose=0),
    )


@pytest.mark.parametrize(
    "data", [3, None, [VALUES], {"x": VALUES}, iter([VALUES])], ids=lambda data: type(data).__name__
)
def test_what_cannot_be_read_again_and_again_is_refused(data):
    rule = r"`data` must be an array, a pair of arrays \(x, y\) or a dataset of batches.*Received"
    with pytest.raises(ValueError, match=rule):
        kv.callbacks.LatentMonitor(data)
    with pytest.raises(ValueError, match=rule):
        kv.find_learning_rate(make(), data)
