"""A training that goes on takes no more memory."""

import ctypes
import gc
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf

import keras_vae as kv

SHAPE, BATCH, STEPS = (28, 28, 1), 32, 500
MEBIBYTE = 2**20

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


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
    """Return how many bytes 1,500 steps of `fit` leave behind, after as many to warm up."""
    options = {"steps_per_epoch": STEPS, "epochs": 3, "verbose": 0}
    model.fit(data, **options)
    before = resident()
    model.fit(data, **options)
    return resident() - before


@pytest.mark.full
@pytest.mark.default_execution
def test_steps_leave_nothing_behind(make_vae):
    # A batch has 98 KiB, so that one kept at each of 1,500 steps makes 147 MiB. The bound, 24 MiB,
    # is 16 KiB a step, and far above the growth measured, 1 MiB.
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

    grown = growth(model, data) / MEBIBYTE
    assert grown < 24.0
    # The measurement would see such a leak, which first fills what was freed before.
    leaked = growth(model, data.map(leaking)) / MEBIBYTE
    assert leaked > 72.0
