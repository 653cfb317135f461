"""A worker of a training that goes on where it was interrupted.

python killed.py FOLDER [INDEX EPOCH SIGNAL]: the worker of this index sends itself a signal,
SIGKILL by default, within this epoch.
"""

import os
import pathlib
import signal
import sys

import keras
import numpy as np
import tensorflow as tf

import keras_vae as kv

IMAGE = (28, 28, 1)


def train(strategy, folder, callbacks=()):
    """Train for five epochs in all, and return the model."""
    keras.utils.set_random_seed(0)
    resume = kv.callbacks.Resume(folder)
    done = resume.epoch
    options = {"binarize": "dynamic", "seed": 3, "shuffle": True, "initial_epoch": done}
    data = kv.data.load("mnist_5k", "test", 300, **options)
    with strategy.scope():
        model = kv.VAE(
            encoder=kv.networks.MLPEncoder((8,)),
            decoder=kv.networks.MLPDecoder(IMAGE, (8,)),
            posterior=kv.posteriors.DiagonalNormal(2),
            likelihood=kv.likelihoods.Bernoulli(IMAGE),
        )
        # Pixels that are rarely lit have gradients near Adam's default epsilon, beside which the
        # rounding of another process shows.
        model.compile(keras.optimizers.Adam(1e-2, epsilon=1e-3), jit_compile=False)
    annealing = kv.callbacks.KLAnnealing(kv.schedules.Linear(0.0, 1.0, steps=15))
    callbacks = [annealing, *callbacks, resume]
    model.fit(data, epochs=5, initial_epoch=done, callbacks=callbacks, verbose=0)
    return model


class KillsItself(keras.callbacks.Callback):
    def __init__(self, epoch, number):
        super().__init__()
        self.last, self.number = epoch, number

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (self.last, 1):
            os.kill(os.getpid(), self.number)


def main(folder, victim="", epoch="0", number=signal.SIGKILL):
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    me = strategy.cluster_resolver.task_id
    callbacks = [KillsItself(int(epoch), int(number))] if victim == str(me) else []
    model = train(strategy, pathlib.Path(folder) / "checkpoints", callbacks)
    np.savez(f"{folder}/weights_{me}.npz", *[w.numpy() for w in model.weights])


if __name__ == "__main__":
    main(*sys.argv[1:])
