"""Prints how many MiB 1,500 steps of `fit` leave behind, as they are and with a deliberate leak.

A process of its own, as what other tests freed before would hide a leak: it is filled again first.
"""

import ctypes
import gc
import json
import pathlib

import numpy as np
import tensorflow as tf

import keras_vae as kv
from tests.small_models import make_vae

SHAPE, BATCH, STEPS = (28, 28, 1), 32, 500
MEBIBYTE = 2**20


def resident():
    """Return the memory of this process, bytes, without what was freed."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)
    status = pathlib.Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return 1024 * int(line.split()[1])


def growth(model, data):
    """Return how many MiB 1,500 steps of `fit` leave behind, after as many to warm up."""
    options = {"steps_per_epoch": STEPS, "epochs": 3, "verbose": 0}
    model.fit(data, **options)
    before = resident()
    model.fit(data, **options)
    return (resident() - before) / MEBIBYTE


def main():
    """Print both growths as JSON."""
    x = np.random.default_rng(0).integers(0, 2, (8 * BATCH, *SHAPE)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices(x).batch(BATCH, drop_remainder=True).repeat()
    model = make_vae(
        decoder=kv.networks.MLPDecoder(SHAPE, (8,)), likelihood=kv.likelihoods.Bernoulli(SHAPE)
    )
    model.compile("adam")
    kept = []

    def keep(batch):
        kept.append(batch.copy())
        return batch

    def leaking(batch):
        same = tf.numpy_function(keep, [batch], tf.float32)
        return tf.ensure_shape(same, batch.shape)

    grown = growth(model, data)
    print(json.dumps({"plain": grown, "leaking": growth(model, data.map(leaking))}))


if __name__ == "__main__":
    main()
