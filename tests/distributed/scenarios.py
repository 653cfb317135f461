"""What a cluster and two replicas in one process both do; a script of one worker, too.

python scenarios.py FOLDER: runs everything and writes what came out to FOLDER/worker_INDEX.npz.
"""

import functools
import pathlib
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf

import keras_vae as kv
from keras_vae.training import workers

IMAGE = (8, 8, 1)
RNG = np.random.default_rng(0)
# 27 examples in batches of 8: the last one is partial, and uneven on two replicas.
X = RNG.integers(0, 2, (27, *IMAGE)).astype("float32")
WEIGHTS = RNG.uniform(0.0, 2.0, 27).astype("float32")
SHORT = {"batch_size": 8, "epochs": 2, "verbose": 0}


def make(strategy, model_class=kv.VAE, image=IMAGE, optimizer=lambda: "adam", xla=False, **changes):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = model_class(
            encoder=kv.networks.MLPEncoder((8,)),
            decoder=kv.networks.MLPDecoder(image, (8,)),
            posterior=kv.posteriors.DiagonalNormal(2),
            likelihood=kv.likelihoods.Bernoulli(image),
            **changes,
        )
        model.compile(optimizer(), jit_compile=xla)
    return model


class BatchLogs(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(logs)

    def result(self):
        """Return what was seen after each batch, a vector for each name."""
        return {f"batches/{k}": np.array([logs[k] for logs in self.seen]) for k in self.seen[0]}


def result(model, history):
    """Return all weights, and the history as it is: numbers."""
    found = {f"weights/{i}": w.numpy() for i, w in enumerate(model.weights)}
    for name, values in history.history.items():
        assert all(isinstance(value, (float, int)) for value in values), (name, values)
        found[f"logs/{name}"] = np.array(values)
    return found


def arrays(strategy):
    model = make(strategy)
    held_out = (X[:11], np.zeros(11), WEIGHTS[:11])
    options = {"sample_weight": WEIGHTS, "validation_data": held_out, "shuffle": False}
    history = model.fit(X, **options, **SHORT)
    return {
        **result(model, history),
        "evaluate": np.array(model.evaluate(X, batch_size=8, verbose=0)),
        "predict": model.predict(X, batch_size=8, verbose=0),
    }


def loaded_data(strategy):
    data = kv.data.load("mnist_5k", "test", 300, binarize="dynamic", seed=3, shuffle=True)
    # Of a larger epsilon, as in killed.py.
    optimizer = functools.partial(keras.optimizers.AdamW, 1e-2, clipnorm=0.5, epsilon=1e-3)
    model = make(strategy, image=(28, 28, 1), optimizer=optimizer, xla=True)
    annealing = kv.callbacks.KLAnnealing(kv.schedules.Linear(0.0, 1.0, steps=5))
    options = {"validation_data": data, "callbacks": [annealing], "epochs": 2, "verbose": 0}
    return result(model, model.fit(data, **options))


def geco(strategy):
    """Return the logs of batches, too, that both replicas have equal parts of, shuffled."""
    batches, constraint = BatchLogs(), kv.objectives.SquaredError(kappa=2.0)
    model = make(strategy, kv.GECOVAE, constraint=constraint)
    model.initialize_output_bias(X)
    history = model.fit(X[:24], callbacks=[kv.callbacks.GECO(), batches], **SHORT)
    return {**result(model, history), **batches.result()}


class BadWhereWhite(kv.objectives.ELBO):
    def loss(self, terms):
        white = tf.reduce_all(terms.draws.x == 1.0, axis=[1, 2, 3])
        return tf.where(white, np.nan, super().loss(terms))


def skipped_step(strategy):
    x = X.copy()
    x[13] = 1.0  # of the second batch, on the second replica alone
    model = make(strategy, objective=BadWhereWhite())
    options = {"callbacks": [kv.callbacks.HealthCheck(non_finite="skip")], "shuffle": False}
    return result(model, model.fit(x, **options, **SHORT))


SCENARIOS = [arrays, loaded_data, geco, skipped_step]


def run(strategy):
    """Return `{scenario/name: array}`."""
    return {f"{s.__name__}/{k}": v for s in SCENARIOS for k, v in s(strategy).items()}


# What only a cluster does.


def refused(function):
    try:
        function()
    except ValueError as error:
        return str(error)
    return "not refused"


def files(strategy, folder):
    """Save, export, load and judge, some of it on the chief alone."""
    chief = workers.writes(strategy)
    model = make(strategy)
    checkpoints = keras.callbacks.ModelCheckpoint(folder / "{epoch}.keras")
    model.fit(X, callbacks=[checkpoints], shuffle=False, **SHORT)
    model.save_weights(folder / "all.weights.h5")
    kv.export_saved_model(model, folder / "exported" / "1")
    found = {}
    if chief:
        model.save(folder / "chief.keras")
        found["log_likelihood"] = kv.evaluation.log_likelihood(model, X, 10, verbose=False).mean
        found["sample"] = model.sample(2).numpy()
    # Which all read, once it is there.
    workers.check_agreement(strategy, 0, "")
    with strategy.scope():
        again = keras.models.load_model(folder / "chief.keras")
    goes_on = [one.fit(X, shuffle=False, **SHORT).history["loss"] for one in (model, again)]
    return {**found, "goes_on": np.array(goes_on)}


def resumed(strategy, folder, **options):
    """Train a new model as far as a folder and the options say."""
    resume = kv.callbacks.Resume(folder)
    where = {"callbacks": [resume], "initial_epoch": resume.epoch}
    make(strategy).fit(X, **where, **{**SHORT, **options})


def different_folders(strategy):
    """Train with a folder of each worker's own, of which those of others hold an epoch."""
    with tempfile.TemporaryDirectory() as folder:
        if not workers.writes(strategy):
            resumed(tf.distribute.get_strategy(), folder, epochs=1)
        resumed(strategy, folder)


def refusals(strategy, folder):
    model = make(strategy)
    backup = keras.callbacks.BackupAndRestore(str(folder / "backup"))
    found = {
        "backup": refused(lambda: model.fit(X, callbacks=[backup], **SHORT)),
        "folders": refused(lambda: different_folders(strategy)),
    }
    keras.utils.set_random_seed(strategy.cluster_resolver.task_id)
    found["order"] = refused(lambda: model.fit(X, **SHORT))
    return {name: np.array(text) for name, text in found.items()}


def main(folder):
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    found = run(strategy)
    for scenario in (files, refusals):
        results = scenario(strategy, folder)
        found |= {f"{scenario.__name__}/{name}": value for name, value in results.items()}
    np.savez(folder / f"worker_{strategy.cluster_resolver.task_id}.npz", **found)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
