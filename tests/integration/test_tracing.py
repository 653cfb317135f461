"""Nothing is traced anew in a training that goes on, and nothing waits for each step."""

import logging

import keras
import pytest
import tensorflow as tf
from tensorflow.python.eager.polymorphic_function import polymorphic_function

import keras_vae as kv
from keras_vae.training.execution import Compiled, steps_per_call

EXECUTIONS = {"default": {}, "graph": {"jit_compile": False}}


class Traced(kv.VAE):
    """A VAE that notes each time Python runs its terms, which a graph does only to be traced."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.traces = []

    def compute_terms(self, x, num_samples=1, training=False, seed=0, y=None):
        if not tf.executing_eagerly():
            self.traces.append(("train" if training else "test", x.shape[0]))
        return super().compute_terms(x, num_samples, training, seed, y)


def traces_of(model, function):
    """Return what `function()` traces of a model."""
    before = len(model.traces)
    function()
    return model.traces[before:]


@pytest.fixture
def warnings_of_tensorflow(monkeypatch):
    """Return a list of what TensorFlow warns of from now on, whatever was traced before."""
    fresh = polymorphic_function._FrequentTracingDetectorManager()
    monkeypatch.setattr(polymorphic_function, "_frequent_tracing_detector_manager", fresh)
    found = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())
    tf.get_logger().addHandler(handler)
    yield found
    tf.get_logger().removeHandler(handler)


@pytest.mark.full
@pytest.mark.default_execution
@pytest.mark.parametrize(
    # XLA takes seconds to compile each batch size, so one kind of data must do for it.
    ("execution", "kind"),
    [("default", "dataset"), ("graph", "array")],
)
def test_a_graph_serves_all_batches_all_epochs_and_all_trainings(
    make_vae, dataset, warnings_of_tensorflow, x, execution, kind
):
    # 28 examples: three batches of 8 and one of 4. Had a batch size or a training a graph of its
    # own, it would be seen here.
    model = make_vae(Traced)
    model.compile("sgd", **EXECUTIONS[execution])
    data = dataset(x) if kind == "dataset" else x
    size = {} if kind == "dataset" else {"batch_size": 8}
    both = {"validation_data": data, "verbose": 0, **size}
    first = traces_of(model, lambda: model.fit(data, **both))
    # One graph for training and one for validation, of any batch size; the same for which XLA is
    # asked, by default, whether it can compile it.
    assert first == [("train", None), ("test", None)]
    assert traces_of(model, lambda: model.fit(data, epochs=3, **both)) == []
    assert traces_of(model, lambda: model.evaluate(data, verbose=0, **size)) == []
    assert traces_of(model, lambda: model.evaluate(data, verbose=0, **size)) == []
    # Other data of the same kind, without a partial batch.
    others = dataset(x[:24]) if kind == "dataset" else x[:24]
    assert traces_of(model, lambda: model.fit(others, verbose=0, **size)) == []
    assert warnings_of_tensorflow == []


@pytest.mark.full
def test_several_models_in_one_process_are_no_retracing(make_vae, warnings_of_tensorflow, x):
    # TensorFlow takes all functions that one line of code makes for one, and warns where it traces
    # five of them within some ten calls. Keras's own would only in trainings of less than four
    # executions each. Of a compiled step there is but one call, in the graph of the training.
    def step(x):
        return x + 1.0

    for _ in range(5):
        model = make_vae(encoder=kv.networks.MLPEncoder((2,)))
        model.compile("sgd", jit_compile=False)
        model.fit(x, batch_size=28, epochs=4, verbose=0)
        Compiled(step)(tf.zeros([2]))
    assert warnings_of_tensorflow == []


class EveryBatch(keras.callbacks.Callback):
    """Looks at every batch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(batch)


def within(steps):
    """Return callbacks of this package that steer a training of so many steps."""
    return {
        "annealing": kv.callbacks.KLAnnealing(kv.schedules.Linear(0.0, 1.0, steps)),
        "schedule": kv.callbacks.HyperparameterSchedule("beta", kv.schedules.Constant(0.5)),
        "cyclical": kv.callbacks.CyclicalLearningRate(1e-4, 1e-3, 5),
        "one-cycle": kv.callbacks.OneCycleLearningRate(1e-3),
        "geco": kv.callbacks.GECO(),
        "gradients": kv.callbacks.GradientMonitor(),
    }


@pytest.mark.parametrize("name", list(within(1)))
def test_what_steers_a_training_waits_for_no_step(name):
    assert steps_per_call([within(10)[name]], None) == 10


@pytest.mark.parametrize(
    ("save_freq", "steps"), [pytest.param("epoch", 10, id="epoch"), pytest.param(5, 1, id="5")]
)
def test_a_checkpoint_is_made_when_it_is_due(tmp_path, save_freq, steps):
    path = tmp_path / "model.keras"
    checkpoint = keras.callbacks.ModelCheckpoint(path, save_freq=save_freq)
    assert steps_per_call([checkpoint], None) == steps
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", save_freq=save_freq)
    assert steps_per_call([backup], None) == steps


def steps_made(model, x, **options):
    """Return how many steps a training makes, and how many executions of Keras they take."""
    model.compile("sgd", jit_compile=False)
    before = model._functions.calls["train_function"]
    data = tf.data.Dataset.from_tensor_slices(x).batch(4).repeat()
    model.fit(data, verbose=0, **options)
    return int(model.optimizer.iterations), model._functions.calls["train_function"] - before


@pytest.mark.full
def test_steered_trainings_make_ten_steps_per_call(make_vae, x, tmp_path):
    steering = within(20)
    several = [steering["geco"], steering["one-cycle"]]
    several += [keras.callbacks.ModelCheckpoint(tmp_path / "model.keras", save_freq="epoch")]
    model = make_vae(objective=kv.objectives.GECO(kv.objectives.SquaredError(1.0)))
    assert steps_made(model, x, steps_per_epoch=20, callbacks=several) == (20, 2)


@pytest.mark.full
def test_a_callback_that_wants_every_batch_sees_it(make_vae, x):
    own = EveryBatch()
    assert steps_made(make_vae(), x, steps_per_epoch=20, callbacks=[own]) == (20, 20)
    assert own.seen == list(range(20))


def test_a_callback_of_lambdas_is_asked_which_moments_it_wants():
    look = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)
    assert steps_per_call([look]) == 1
    at_epochs = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None)
    assert steps_per_call([at_epochs]) == 10
